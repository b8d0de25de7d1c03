"""The doctor on a simulated cell: real drivers over the stand-ins, a world in its own process, faults injected."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from vla_rft_hardware import bench, doctor
from vla_rft_sim.client import connect_truth

OF_THE_COMPUTER = ("disk", "shared memory", "camera rate", "ros domain", "fast dds profile")
"""Checks whose result depends on where, and beside what, the tests run."""

FAULTS = (
    {"estop": "e-stop", "camera_frozen": "camera picture"},
    {"manual_mode": "remote mode", "camera_usb2": "camera"},
    {"reduced_state": "controller", "state_stale": "robot state"},
    {"minor_fault": "fault", "camera_unplugged": "camera"},  # the last: a fault stays until it is cleared
)
"""Injected together, and the line in which each is red."""


@pytest.fixture(autouse=True)
def a_short_look(monkeypatch):
    """Look at the camera for less long; what disk and memory this computer has is not the point here."""
    watch = bench.watch
    monkeypatch.setattr(bench, "watch", lambda camera, duration_s: watch(camera, 0.4))


def diagnose(address: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the doctor's exit code, and its results by name."""
    skipped = [word for name in OF_THE_COMPUTER for word in ("--skip", name)]
    code = doctor.main(["--backend", "sim", "--address", address, "--json", *skipped])
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == ("red" if code else "green")
    return code, {entry["name"]: entry for entry in document["checks"]}


def test_a_simulated_cell_is_green_and_each_fault_is_red_in_its_line(start_world: Callable, capsys) -> None:
    world = start_world()
    code, results = diagnose(world.address, capsys)
    assert code == 0, [entry for entry in results.values() if entry["status"] == "red"]
    assert results["controller"]["words"].startswith("NOT_ENABLED")
    assert results["f/t zero"]["words"].endswith("READY")
    with closing(connect_truth(world.address)) as truth:
        for faults in FAULTS:
            for fault in faults:
                truth.inject(fault)
            code, results = diagnose(world.address, capsys)
            assert code == 1
            assert {name for name, entry in results.items() if entry["status"] == "red"} == set(faults.values())
            assert all(results[line]["remedy"] for line in faults.values())
            for fault in faults:
                truth.inject(fault, active=False)


def test_without_a_world_one_sentence_says_what_to_start(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("vla_rft_sim.stand_ins.CONNECT_TIMEOUT_S", 0.1)
    code, results = diagnose(str(tmp_path / "none.sock"), capsys)
    red = {name: entry for name, entry in results.items() if entry["status"] == "red"}
    assert code == 1 and set(red) == {"robot"}
    assert "no simulated world answers" in red["robot"]["words"] and "start `sim_world`" in red["robot"]["remedy"]
