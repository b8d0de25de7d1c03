"""The Flexiv driver over the stand-in of its library and a `sim_world` process: motion, each injected fault."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_hardware import flexiv
from vla_rft_sim.client import SimTruthClient, connect_truth
from vla_rft_sim.rdk import SERIAL, module_for

pytestmark = pytest.mark.realtime

CELL = find_cell("vla_rft_sim:towel_cell")
DURATIONS = 0.02
"""What takes the controller seconds is that much shorter here."""


@dataclass
class Set:
    """Our devices over the stand-in, the library itself, and the world's hidden side."""

    arm: flexiv.FlexivArm
    gripper: flexiv.FlexivGripper
    rdk: Any
    truth: SimTruthClient


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("world")
    socket = str(folder / "world.sock")
    options = ["--world", "kinematic", "--socket", socket, "--frames", str(folder / "frames")]
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_rft_sim.world_process", *options, "--durations", str(DURATIONS)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"sim_world ready {socket}\n"
        yield socket
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def devices(address: str) -> Iterator[Set]:
    rdk = module_for(address, durations=DURATIONS)
    arm, gripper = flexiv.connect_robot(SERIAL, cell=CELL, rdk=rdk)
    truth = connect_truth(address)
    yield Set(arm, gripper, rdk, truth)
    for device in (arm, gripper, truth):
        device.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll; the time-out only ends a broken run."""
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


def test_from_connecting_to_motion_and_back(devices):
    assert not devices.arm.state().operational
    steps = devices.arm.prepare()
    assert [step.partition(":")[0] for step in steps] == [
        *("fault", "emergency stop", "arm", "arm", "tool", "force sensor", "gripper", "gripper", "mode", "impedance")
    ]
    start = devices.arm.state()
    assert start.operational and 0 <= time.time_ns() - start.stamp_ns < 1_000_000_000
    goal = start.T_base_tcp.moved(np.array([0.05, 0.0, -0.02]), np.zeros(3))
    devices.arm.send(goal)
    devices.gripper.move(0.03)
    wait_until(lambda: devices.arm.state().T_base_tcp.distance_to(goal)[0] < 1e-3, "the arm arrives")
    wait_until(lambda: abs(devices.gripper.state().width - 0.03) < 1e-3, "the fingers arrive")
    devices.arm.stop()
    assert not devices.arm.state().operational
    with pytest.raises(DeviceError, match="not prepared"):
        devices.arm.send(goal)


@pytest.mark.parametrize(
    ("fault", "words", "recovers_by_itself"),
    [
        ("estop", "the emergency stop is pressed", False),
        ("minor_fault", "minor fault.*injected", True),
        ("critical_fault", "critical fault.*injected", True),
        ("reduced_state", "reduced state", False),
        ("manual_mode", "manual mode", False),
        ("joint_limit", "outside its allowed range", False),
        ("ft_not_zeroed", "event 301004", False),
    ],
)
def test_a_fault_stops_the_arm_and_ready_prepares_it_again_once_it_may(devices, fault, words, recovers_by_itself):
    devices.arm.prepare()
    devices.truth.inject(fault)
    wait_until(lambda: not devices.arm.state().operational, "the driver sees the fault")
    with pytest.raises(DeviceError, match=words):
        devices.arm.send(CELL.spec.home.T_base_tcp)
    if not recovers_by_itself:
        with pytest.raises(DeviceError, match=words):
            devices.arm.prepare()
        assert not devices.arm.state().operational
        devices.truth.inject(fault, active=False)
        mild = ("READY", "NOT_ENABLED", "MINOR_FAULT")
        wait_until(lambda: devices.arm.describe()["status"] in mild, "the driver sees it withdrawn")
    devices.arm.prepare()
    assert devices.arm.state().operational and devices.arm.state().fault == ""


def test_a_gripper_that_is_not_enabled_refuses_and_is_enabled_with_the_next_ready(devices):
    devices.arm.prepare()
    devices.truth.inject("gripper_not_enabled")
    with pytest.raises(DeviceError, match=r"not enabled|No gripper"):
        devices.gripper.move(0.05)
    assert np.isnan(devices.gripper.state().width)
    devices.truth.inject("gripper_not_enabled", active=False)
    assert any(step.startswith("gripper: initialised") for step in devices.arm.prepare())


def test_a_lost_connection_is_told_and_made_anew_on_request(devices, monkeypatch):
    monkeypatch.setattr("vla_rft_hardware.flexiv_link.RECONNECT_BACKOFF_S", 0.2)
    devices.arm.prepare()
    devices.truth.inject("connection_lost")
    wait_until(lambda: _lost(devices.arm), "the driver sees the loss")
    with pytest.raises(DeviceError, match="Failed to connect"):
        devices.arm.prepare()
    devices.truth.inject("connection_lost", active=False)
    steps = devices.arm.prepare()
    assert steps[0] == f"connection: made anew to {SERIAL}"
    assert any(step.startswith("force sensor: zeroed,") for step in steps)
    assert devices.arm.state().operational


def _lost(arm: flexiv.FlexivArm) -> bool:
    try:
        arm.state()
    except ConnectionLostError:
        return True
    return False


def test_the_watchdogs_stop_takes_the_arm_out_of_the_motion_mode(devices):
    devices.arm.prepare()
    stop = flexiv.connect_stop(SERIAL, rdk=devices.rdk)
    stop.stop()
    wait_until(lambda: "left the motion mode" in devices.arm.state().fault, "the driver sees the stop")
    stop.close()


def test_a_robot_of_another_serial_is_not_found(devices):
    with pytest.raises(DeviceError, match=r"Failed to connect to \[Rizon4s-999999\]\. Please check"):
        flexiv.connect_robot("Rizon4s-999999", cell=CELL, rdk=devices.rdk)
    with pytest.raises(DeviceError, match=r"\[bogus\] is invalid; it reads like 'Rizon4s-123456'"):
        flexiv.connect_robot("bogus", cell=CELL, rdk=devices.rdk)


def test_facts_of_the_stand_in_are_printed_by_the_probe(devices, monkeypatch, capsys):
    monkeypatch.setattr(flexiv, "load_rdk", lambda: SimpleNamespace(**vars(devices.rdk)))
    assert flexiv.main([SERIAL]) == 0
    assert "tool: Flexiv-GN01\n" in capsys.readouterr().out
