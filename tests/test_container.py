"""Dockerfile and compose file against the project, without docker: commands, extras, paths and users that exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
GIVEN = {"CELL": "/somewhere/cell", "ROBOT_SN": "Rizon4s-000001", "BUNDLE": "/somewhere/bundle"}


def substituted(text: str) -> str:
    """As compose reads `${NAME}`, `${NAME:-default}` and `${NAME:?what is missing}`."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: GIVEN.get(m[1], m[2] or ""), text)


def words(service: str) -> list[str]:
    return shlex.split(substituted(COMPOSE["services"][service]["command"]))


@pytest.mark.parametrize("service", ["robot", "policy"])
def test_what_a_service_launches_is_a_plan(service: str) -> None:
    bringup = pytest.importorskip("vla_rft_nodes.bringup")
    from vla_rft_nodes.bringup.__main__ import parse_arguments

    python, flag, module, name, *given = words(service)
    assert (python, flag, module) == ("python", "-m", "vla_rft_nodes.bringup")
    plan = bringup.load(name, parse_arguments(given))
    names = {process.name for process in plan.processes}
    assert {"robot_node", "camera_node", "watchdog_node"} <= names and not any("sim" in name for name in names)
    assert ("policy_node" in names) == (service == "policy")


def test_the_doctor_and_the_healthcheck_are_commands() -> None:
    doctor = pytest.importorskip("vla_rft_hardware.doctor")
    operate = pytest.importorskip("vla_rft_nodes.operate")
    arguments = doctor.parser().parse_args(words("doctor")[3:])
    assert arguments.backend == "flexiv" and arguments.serial == GIVEN["ROBOT_SN"]
    kind, program, *rest = COMPOSE["services"]["robot"]["healthcheck"]["test"]
    assert kind == "CMD" and program == ".venv/bin/python" and rest[:2] == ["-m", "vla_rft_nodes.operate"]
    assert operate.parser().parse_args(rest[2:]).command == "status"


@pytest.mark.parametrize("service", sorted(COMPOSE["services"]))
def test_nothing_restarts_by_itself_and_nobody_is_root(service: str) -> None:
    made = COMPOSE["services"][service]
    assert made["restart"] == "no" and "privileged" not in made and made.get("user", "ubuntu") != "root"
    stage = DOCKERFILE.split(f" AS {made['build']['target']}\n")[1].split("\nFROM ")[0]
    commands = [line for line in stage.splitlines() if line.strip() and not line.startswith("#")]
    assert commands[-1] == "USER ubuntu"


def test_the_images_install_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = set(re.findall(r"--extra ([\w-]+)", DOCKERFILE))
    assert wanted and wanted <= set(project["optional-dependencies"])
    robot = DOCKERFILE.split(" AS robot\n")[1].split("\nFROM ")[0]
    packages = " ".join(
        " ".join(project["optional-dependencies"][name]) for name in re.findall(r"--extra ([\w-]+)", robot)
    )
    assert not re.search(r"\btorch\b", packages)
    for path in re.findall(r"(?<= )(?:ros2_ws|deploy)/[\w./-]+\.(?:py|txt)", DOCKERFILE):
        assert (ROOT / path).is_file(), path
