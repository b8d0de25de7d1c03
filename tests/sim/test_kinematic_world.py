"""The world without physics: the arm follows, pictures change, the towel is missing and says so."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from vla_rft_core.clock import ManualClock
from vla_rft_core.errors import DeviceError
from vla_rft_hardware.protocols import Arm, Camera, Gripper
from vla_rft_sim.devices import SimArm, SimCamera, SimGripper
from vla_rft_sim.kinematic_world import KinematicWorld
from vla_rft_sim.layout import HOME_Q, T_BASE_CAMERA
from vla_rft_sim.world_protocol import STEP_NS, World

SECOND = 1_000_000_000


def test_it_needs_no_mujoco() -> None:
    check = "import sys, vla_rft_sim.kinematic_world, vla_rft_sim.devices; sys.exit('mujoco' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_arm_goes_where_it_is_sent() -> None:
    world: World = KinematicWorld()
    clock = ManualClock()
    arm = SimArm(world, clock)
    with pytest.raises(DeviceError, match="idle"):
        arm.send(arm.state().T_base_tcp)
    assert arm.prepare() == ["entered the simulated Cartesian motion mode"]
    target = arm.state().T_base_tcp.moved((0.1, -0.1, -0.1), (0.0, 0.0, 0.3))
    arm.send(target)
    world.advance(2 * SECOND)
    assert arm.state().T_base_tcp.distance_to(target)[0] < 1e-4
    arm.stop()
    with pytest.raises(DeviceError, match="idle"):
        arm.send(target)


def test_twist_is_the_derivative_of_the_pose() -> None:
    world = KinematicWorld()
    world.controller.enter_motion(HOME_Q)
    world.controller.set_target(world.controller.target.moved((0.0, 0.3, 0.0), (0.0, 0.0, 0.5)))
    world.advance(SECOND // 4)
    before = world.arm_state(0)
    world.advance(STEP_NS)
    after = world.arm_state(0)
    translation, rotvec = before.T_base_tcp.delta_to(after.T_base_tcp)
    assert np.allclose(after.tcp_twist, [*(translation / 0.005), *(rotvec / 0.005)], atol=0.02)
    assert np.linalg.norm(after.tcp_twist[:3]) > 0.2


def test_the_gripper_ramps_at_its_speed_and_clips_to_its_stroke() -> None:
    world = KinematicWorld()
    gripper = SimGripper(world, ManualClock())
    gripper.move(0.04)
    world.advance(100_000_000)
    assert gripper.state().width == pytest.approx(0.08) and gripper.state().moving
    world.advance(SECOND)
    assert gripper.state().width == pytest.approx(0.04) and not gripper.state().moving
    gripper.move(-1.0)
    world.advance(SECOND)
    assert gripper.state().width == 0.0
    with pytest.raises(ValueError, match="finite"):
        gripper.move(math.nan)


def test_pictures_differ_and_show_the_tcp() -> None:
    world = KinematicWorld()
    camera = SimCamera(world, ManualClock(), "front")
    first, second = camera.read(0.0), camera.read(0.0)
    assert first is not None and second is not None and first.depth is not None
    assert not np.array_equal(first.color, second.color)
    assert (first.number, second.number) == (1, 2)
    assert first.color.shape == (480, 640, 3) and first.depth.shape == (480, 640)
    info = camera.info()
    x, y, z = T_BASE_CAMERA.inverse().apply(world.arm_state(0).T_base_tcp.position)
    row, column = round(info.fy * y / z + info.cy), round(info.fx * x / z + info.cx)
    assert first.depth[row, column] == pytest.approx(z * 1000.0, abs=1.0)
    assert int(first.color[row, column, 2]) > int(first.color[row, column, 0]) + 100


def test_reset_moves_the_arm_only_when_asked() -> None:
    world = KinematicWorld()
    world.controller.enter_motion(HOME_Q)
    world.controller.set_target(world.controller.target.moved((0.1, 0.0, 0.0), (0.0, 0.0, 0.0)))
    world.advance(SECOND)
    away = world.arm_state(0).q
    assert world.reset(5, arm=False).seed == 5
    assert np.array_equal(world.arm_state(0).q, away) and world.controller.mode == "cartesian"
    world.reset(6)
    assert np.array_equal(world.arm_state(0).q, HOME_Q) and world.controller.mode == "idle"
    assert world.describe().startswith("x 0.504 m, ")


def test_it_has_no_towel() -> None:
    with pytest.raises(DeviceError, match="no towel"):
        KinematicWorld().truth()


@pytest.mark.parametrize("duration_ns", [1, STEP_NS + 1, -STEP_NS])
def test_time_passes_in_whole_steps(duration_ns: int) -> None:
    with pytest.raises(ValueError, match="multiples of 5000000 ns"):
        KinematicWorld().advance(duration_ns)


def test_devices_satisfy_their_protocols() -> None:
    world, clock = KinematicWorld(), ManualClock()
    assert isinstance(SimArm(world, clock), Arm)
    assert isinstance(SimGripper(world, clock), Gripper)
    assert isinstance(SimCamera(world, clock, "front"), Camera)
