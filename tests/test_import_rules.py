"""Who may import whom, checked in fresh interpreters: what is really loaded after importing each room.

The contracts in `pyproject.toml` read the same table from the source, imports in functions included.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
ROS = re.compile(r"rclpy|ament_index_python|\w+_msgs|\w+_interfaces|\w+_srvs")  # from ROS 2 or built by colcon
SDKS = {"flexivrdk", "pyrealsense2", "hid", "evdev"}
OURS = {
    "vla_rft_core",
    "vla_rft_hardware",
    "vla_rft_sim",
    "vla_rft_episodes",
    "vla_rft_trials",
    "vla_rft_nodes",
    "vla_rft_train",
    "deploy",
    "calibration",
}
TORCH_FREE_DEPLOY = ("bundle", "runtime", "backends", "thresholds")

# room -> (rooms it may load, libraries it must not load)
ROOMS = {
    "vla_rft_core": (set(), {"rclpy", "torch", "mujoco", "scipy", *SDKS}),
    "vla_rft_hardware": ({"vla_rft_core"}, {"rclpy", "torch", "mujoco", *SDKS}),  # an SDK is imported lazily
    "vla_rft_episodes": ({"vla_rft_core"}, {"rclpy", "torch", "mujoco", *SDKS}),
    "vla_rft_trials": ({"vla_rft_core"}, {"rclpy", "torch", "mujoco", *SDKS}),
    "vla_rft_sim": (OURS - {"vla_rft_nodes", "vla_rft_train", "calibration"}, {"rclpy", "torch", *SDKS}),
    "vla_rft_train": ({"vla_rft_core", "vla_rft_episodes"}, {"rclpy", "mujoco", *SDKS}),
    "deploy": ({"vla_rft_core", "vla_rft_episodes", "vla_rft_train"}, {"rclpy", "mujoco", *SDKS}),
    "calibration": ({"vla_rft_core"}, {"rclpy", "torch", "mujoco", *SDKS}),
    "vla_rft_nodes": (OURS - {"vla_rft_sim", "vla_rft_train"}, {"torch", "mujoco", *SDKS}),
}

# Imports the modules one by one; prints the first one after which something forbidden is loaded, or null.
IMPORT_AND_LOOK = """
import importlib, json, sys
modules, forbidden = json.loads(sys.argv[1])
for name in modules:
    importlib.import_module(name)
    found = sorted(set(forbidden) & set(sys.modules))
    if found:
        break
print(json.dumps([name, found] if found else None))
"""


def modules_of(room: str) -> list[str]:
    """Return every module of a room but its `__main__`s."""
    spec = find_spec(room)
    assert spec is not None and spec.submodule_search_locations, f"{room} is not installed"
    below = pkgutil.walk_packages(spec.submodule_search_locations, f"{room}.")
    return [room, *(m.name for m in below if not m.name.endswith("__main__"))]


def imports_of(room: str) -> set[tuple[str, str]]:
    """Return (file, top-level name) of every absolute import in a room's source, those in functions included."""
    spec = find_spec(room)
    assert spec is not None and spec.origin is not None, f"{room} is not installed"
    folder = Path(spec.origin).parent
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {(path.relative_to(folder).as_posix(), name.split(".")[0]) for name in names}
    return found


def normalised(requirement: str) -> str:
    """Return the normal form of the name in a requirement such as "PyYAML>=6.0; python_version > '3'"."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def first_violation(modules: list[str], forbidden: set[str]) -> list | None:
    """Import modules in a fresh interpreter; return the offending module and what it loaded, or None."""
    command = [sys.executable, "-c", IMPORT_AND_LOOK, json.dumps([modules, sorted(forbidden)])]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_room_loads_nothing_it_must_not_know(room: str) -> None:
    if room == "vla_rft_train":
        pytest.importorskip("torch")
    rooms, libraries = ROOMS[room]
    forbidden = libraries | (OURS - rooms - {room})
    assert first_violation(modules_of(room), forbidden) is None


def test_the_runtime_half_of_deploy_and_the_base_of_every_room_need_no_torch() -> None:
    modules = [m for m in modules_of("deploy") if m == "deploy" or m.split(".")[1] in TORCH_FREE_DEPLOY]
    assert first_violation(modules, {"torch", "transformers", "vla_rft_train", "rclpy"}) is None


def test_a_violation_is_seen() -> None:
    assert first_violation(["json", "sqlite3"], {"sqlite3"}) == ["sqlite3", ["sqlite3"]]


def test_core_uses_the_standard_library_numpy_and_yaml_and_opencv_only_for_images() -> None:
    used = imports_of("vla_rft_core")
    assert used, "no imports found: the test looks in the wrong place"
    allowed = {*sys.stdlib_module_names, "numpy", "yaml", "vla_rft_core"}
    assert {(file, name) for file, name in used if name not in allowed} <= {("image.py", "cv2")}


def test_every_library_a_room_imports_is_declared_outside_the_developers_extra() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    declared = {normalised(line) for lines in [project["dependencies"], *extras.values()] for line in lines}
    brings = packages_distributions()  # module -> the distributions that install it here
    used = {name for room in ROOMS for _, name in imports_of(room)} - OURS - set(sys.stdlib_module_names)
    undeclared = {
        name
        for name in used
        if not ROS.fullmatch(name) and not {normalised(d) for d in [name, *brings.get(name, [])]} & declared
    }
    assert undeclared == set()


def test_the_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
