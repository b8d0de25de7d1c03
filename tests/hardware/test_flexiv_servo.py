"""The servo loop on the Flexiv driver: faults and stalls end in a hold, and nothing moves again by itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.geometry import Pose
from vla_rft_core.modes import Mode
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_hardware.servo_loop import ServoLoop, ServoReport


def _bench_module() -> Any:
    """The fake library of test_flexiv.py, which tests in importlib mode cannot import by name."""
    spec = importlib.util.spec_from_file_location("flexiv_bench", Path(__file__).with_name("test_flexiv.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flexiv_bench"] = module
    spec.loader.exec_module(module)
    return module


bench_module = _bench_module()
TICK_NS = 10_000_000
TARGET = "SendCartesianMotionForce"


class Running:
    """A prepared and active servo loop on the fake."""

    def __init__(self) -> None:
        self.bench = bench_module.Bench()
        self.loop = ServoLoop(
            self.bench.arm, self.bench.gripper, profile=bench_module.CELL.safety, clock=self.bench.clock
        )
        self.loop.ready()
        self.tick()  # on the robot the loop ticks while devices are prepared
        self.loop.activate(Source.TELEOP)

    def chunk(self, *, targets: int = 10, period_s: float = 0.1) -> ActionChunk:
        """Millimetres away from home, in small steps."""
        home = bench_module.CELL.spec.home.T_base_tcp
        poses = [home.moved(np.array([0.001 * (i + 1), 0.0, 0.0]), np.zeros(3)) for i in range(targets)]
        return ActionChunk.from_set_points(
            [SetPoint(Pose(pose.position, pose.quaternion), 0.05) for pose in poses],
            stamp_ns=self.bench.clock.realtime_ns(),
            period_ns=round(period_s * NS_PER_S),
            sequence=1,
            source=Source.TELEOP,
        )

    def tick(self, count: int = 1) -> list[ServoReport]:
        reports = []
        for _ in range(count):
            self.bench.clock.advance(TICK_NS)
            reports.append(self.loop.step())
        return reports

    def sent(self) -> int:
        """Targets delivered so far."""
        return self.bench.controller.names().count(TARGET)


@pytest.fixture
def running() -> Running:
    return Running()


def test_a_chunk_moves_the_arm_through_the_driver(running):
    assert running.loop.submit(running.chunk()).accepted
    before = running.sent()
    running.tick(20)
    assert running.sent() == before + 20
    pose = running.bench.controller.last(TARGET)[0]
    assert 0.4 < pose[0] < 0.403


def test_a_stall_of_the_process_drops_targets_and_holds_once(running):
    assert running.loop.submit(running.chunk(targets=40)).accepted
    running.tick(5)
    before = running.sent()
    running.bench.clock.advance(3 * NS_PER_S)  # the library held the interpreter: nothing ran
    (report,) = running.tick()
    assert report.played is None and report.sent is not None
    assert report.sent.T_base_tcp.position.tolist() == running.bench.controller.tcp_pose[:3]
    running.tick(20)
    assert running.sent() == before + 1, "one hold, no burst, and what was due later is not played either"


@pytest.mark.parametrize("status", ["MINOR_FAULT", "CRITICAL_FAULT"])
def test_after_a_fault_only_rearm_ready_and_a_new_lease_move_the_arm(running, status):
    loop, controller = running.loop, running.bench.controller
    loop.submit(running.chunk())
    running.tick(5)
    before = running.sent()
    controller.fail(status, 9, "collision")
    running.tick(5)
    assert loop.status().mode is Mode.HOLD_LATCHED and "event 9: collision" in loop.status().reason
    controller.fault, controller.enabled = "", True  # it even goes away by itself
    running.tick(5)
    with pytest.raises(ModeError):
        loop.activate(Source.TELEOP)
    loop.rearm("terminal")
    assert loop.status().mode is Mode.MAINTENANCE, "the motion mode was left: the arm must be prepared again"
    controller.calls.clear()
    loop.ready()
    assert controller.names()[-3:] == ["SetCartesianImpedance", "SetMaxContactWrench", "SetNullSpacePosture"]
    assert not loop.submit(running.chunk()).accepted, "nobody holds the lease"
    controller.tcp_pose[0] = 0.41  # pushed by hand meanwhile
    loop.activate(Source.TELEOP)
    (report,) = running.tick()
    assert report.sent is not None and report.sent.T_base_tcp.position[0] == 0.41, "seeded from the measured pose"
    assert before > 0 and running.sent() == 1


def test_an_emergency_stop_refuses_ready_until_it_is_released(running):
    running.bench.controller.override = "ESTOP_NOT_RELEASED"
    running.tick()
    assert "the emergency stop is pressed" in running.loop.status().reason
    running.loop.rearm("terminal")
    with pytest.raises(DeviceError, match="release it and ask for READY"):
        running.loop.ready()
    assert running.loop.status().mode is Mode.MAINTENANCE
    running.bench.controller.override = ""
    running.loop.ready()
    assert running.loop.status().mode is Mode.READY


def test_a_lost_connection_latches_and_ready_connects_anew(running):
    running.loop.submit(running.chunk())
    running.tick(3)
    running.bench.controller.connected = False
    running.tick()
    assert "connection to the arm is lost" in running.loop.status().reason
    assert not running.loop.status().connected
    assert len(running.bench.connections) == 1, "nobody connects without being asked to"
    running.loop.rearm("terminal")
    assert running.loop.status().mode is Mode.MAINTENANCE
    steps = running.loop.ready()
    assert steps[0].startswith("connection: made anew")
    assert running.loop.status().mode is Mode.READY
    assert running.bench.arm.state().operational
