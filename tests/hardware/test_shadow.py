"""Shadow devices: a chunk plays through the servo loop, and the devices behind are only read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import ManualClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ActionChunk, GripperState, SetPoint, Source
from vla_rft_hardware.servo_loop import SERVO_PERIOD_S, ServoLoop
from vla_rft_hardware.shadow import ShadowArm, ShadowGripper
from vla_rft_sim.devices import SimArm, SimGripper
from vla_rft_sim.kinematic_world import KinematicWorld

NO_TURN = (0.0, 0.0, 0.0)


class Untouchable:
    """Passes reading on and fails on everything else."""

    def __init__(self, device: SimArm | SimGripper) -> None:
        self._device = device

    def __getattr__(self, name: str) -> object:
        if name not in ("state", "close"):
            raise AssertionError(f"{name} reached the device")
        return getattr(self._device, name)


def test_nothing_reaches_the_devices_and_the_intended_motion_is_reported():
    clock, world = ManualClock(), KinematicWorld()
    arm, gripper = SimArm(world, clock), SimGripper(world, clock)
    start = arm.state().T_base_tcp
    loop = ServoLoop(
        ShadowArm(Untouchable(arm)),
        ShadowGripper(Untouchable(gripper)),
        profile=find_cell("vla_rft_sim:towel_cell").safety,
        clock=clock,
    )
    assert any("shadow" in step for step in loop.ready())
    loop.activate(Source.REPLAY)
    targets = [SetPoint(start.moved((0.0, 0.02 * i, 0.0), NO_TURN), 0.0) for i in range(1, 9)]
    chunk = ActionChunk.from_set_points(
        targets, stamp_ns=clock.realtime_ns(), period_ns=100_000_000, sequence=1, source=Source.REPLAY
    )
    assert loop.submit(chunk).accepted
    for _ in range(80):
        report = loop.step()
        world.advance(round(SERVO_PERIOD_S * 1e9))
        clock.advance(round(SERVO_PERIOD_S * 1e9))
    assert report.sent is not None  # by the loop, to the shadow: far beyond the lead limit from where the real arm is
    expected = start.moved((0.0, 0.158, 0.0), NO_TURN).position
    np.testing.assert_allclose(report.sent.T_base_tcp.position, expected, atol=0.003)
    assert report.sent.width == 0.0
    np.testing.assert_allclose(arm.state().T_base_tcp.position, start.position, atol=1e-9)


def test_a_shadow_arm_is_prepared_like_any_other():
    clock, world = ManualClock(), KinematicWorld()
    shadow = ShadowArm(SimArm(world, clock))
    assert not shadow.state().operational
    with pytest.raises(DeviceError, match="prepare"):
        shadow.send(Pose.identity())
    shadow.prepare()
    assert shadow.state().operational
    shadow.stop()
    assert not shadow.state().operational


def test_fingers_that_were_never_enabled_count_as_closed():
    class NotEnabled:
        def state(self) -> GripperState:
            return GripperState(stamp_ns=1, width=math.nan, force=math.nan, moving=False)

    shadow = ShadowGripper(NotEnabled())
    assert (shadow.state().width, shadow.state().force) == (0.0, 0.0)
    shadow.move(0.05)
    assert shadow.state().width == 0.05
