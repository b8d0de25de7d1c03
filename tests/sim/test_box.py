"""The controller box: its status, what faults do to it, what entering a mode resets, its gripper."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_sim.box import (
    BRAKE_RELEASE_S,
    FT_EVENT,
    GRIPPER_INIT_S,
    ZERO_FT_S,
    ControllerBox,
)
from vla_rft_sim.controller import MotionCaps
from vla_rft_sim.kinematic_world import KinematicWorld
from vla_rft_sim.rdk_tools import FLANGE, T_FLANGE_WORLD_TCP, gripper_name
from vla_rft_sim.world_protocol import STEP_NS

CARTESIAN = "NRT_CARTESIAN_MOTION_FORCE"


def let_pass(box: ControllerBox, duration_s: float) -> None:
    for _ in range(round(duration_s * 1e9 / STEP_NS) + 1):
        box.world.advance(STEP_NS)
        box.step()


@pytest.fixture
def box() -> ControllerBox:
    return ControllerBox(KinematicWorld(), durations=0.05)


@pytest.fixture
def ready(box: ControllerBox) -> ControllerBox:
    box.enable()
    let_pass(box, BRAKE_RELEASE_S * box.durations)
    box.ft_zeroed = True
    box.enter(CARTESIAN)
    assert (box.status, box.mode) == ("READY", CARTESIAN)
    return box


def test_enabling_releases_the_brakes_first(box: ControllerBox) -> None:
    assert box.status == "NOT_ENABLED"
    box.enable()
    assert box.status == "RELEASING_BRAKE"
    let_pass(box, BRAKE_RELEASE_S * box.durations)
    assert box.status == "READY"


@pytest.mark.parametrize(
    ("fault", "status", "afterwards"),
    [
        ("estop", "ESTOP_NOT_RELEASED", "NOT_ENABLED"),
        ("minor_fault", "MINOR_FAULT", "NOT_ENABLED"),
        ("critical_fault", "CRITICAL_FAULT", "NOT_ENABLED"),
        ("reduced_state", "IN_REDUCED_STATE", "READY"),
        ("manual_mode", "IN_MANUAL_MODE", "NOT_ENABLED"),
        ("joint_limit", "IN_RECOVERY_STATE", "NOT_ENABLED"),
    ],
)
def test_a_fault_stops_the_arm_and_leaves_the_mode(
    ready: ControllerBox, fault: str, status: str, afterwards: str
) -> None:
    start = ready.world.controller.reference
    ready.go(start.moved([0.0, 0.0, 0.2], [0.0, 0.0, 0.0]), MotionCaps())
    let_pass(ready, 0.2)
    assert ready.moving
    ready.inject(fault, True)
    assert (ready.status, ready.mode) == (status, "IDLE")
    let_pass(ready, 0.5)
    stopped_at = ready.world.controller.reference
    assert not ready.moving
    ready.enable()
    assert ready.status == status
    ready.inject(fault, False)
    let_pass(ready, 0.2)
    assert (ready.status, ready.mode) == (afterwards, "IDLE")
    assert stopped_at.distance_to(ready.world.controller.reference)[0] < 1e-6


def test_clearing_ends_a_fault_but_not_a_recovery(ready: ControllerBox) -> None:
    ready.inject("critical_fault", True)
    assert ready.clear() and not ready.fault and not ready.injected
    ready.inject("joint_limit", True)
    assert not ready.clear() and ready.status == "IN_RECOVERY_STATE"


def test_cartesian_mode_faults_until_the_sensor_was_zeroed(box: ControllerBox) -> None:
    box.enable()
    let_pass(box, BRAKE_RELEASE_S * box.durations)
    box.enter(CARTESIAN)
    assert (box.mode, box.status, box.events[-1].id) == ("IDLE", "MINOR_FAULT", FT_EVENT)
    box.clear()
    box.enable()
    let_pass(box, BRAKE_RELEASE_S * box.durations)
    box.enter("NRT_PRIMITIVE_EXECUTION")
    box.start_primitive("ZeroFTSensor")
    assert box.primitive_states()["terminated"] == 0
    let_pass(box, ZERO_FT_S * box.durations)
    assert box.primitive_states()["terminated"] == 1
    box.enter(CARTESIAN)
    assert box.mode == CARTESIAN


def test_entering_a_mode_forgets_its_settings(ready: ControllerBox) -> None:
    ready.settings["SetCartesianImpedance"] = [[1.0] * 6]
    ready.world.controller.posture = np.zeros(7)
    ready.enter(CARTESIAN)
    assert ready.settings == {}
    np.testing.assert_array_equal(ready.world.controller.posture, ready.world.controller.q)


def test_a_target_is_reached_within_its_caps_when_its_sender_is_gone(ready: ControllerBox) -> None:
    start = ready.world.controller.reference
    target = start.moved([0.05, 0.0, 0.05], [0.0, 0.0, 0.2])
    ready.go(target, MotionCaps(linear_velocity=0.1, angular_velocity=0.5))
    speeds = []
    while ready.busy or not speeds:
        let_pass(ready, 0.0)
        speeds.append(float(np.linalg.norm(ready.world.arm_state(0).tcp_twist[:3])))
    distance, angle = ready.world.controller.reference.distance_to(target)
    assert distance < 1e-3 and angle < 1e-2
    assert 0.08 < max(speeds) < 0.11


def test_a_target_is_meant_for_the_active_tool(ready: ControllerBox) -> None:
    world_tcp = ready.world.controller.reference
    flange = world_tcp.compose(T_FLANGE_WORLD_TCP.inverse())
    ready.tool = FLANGE
    ready.go(flange, MotionCaps())
    assert ready.world.controller.target.distance_to(world_tcp)[0] < 1e-9


def test_waypoints_follow_one_another(ready: ControllerBox) -> None:
    start = ready.world.controller.reference
    first, second = start.moved([0.0, 0.02, 0.0], [0.0] * 3), start.moved([0.0, 0.02, 0.03], [0.0] * 3)
    ready.enter("NRT_SUPER_PRIMITIVE")
    ready.go_along([(first, MotionCaps()), (second, MotionCaps())])
    passed = []
    while ready.busy or not passed:
        let_pass(ready, 0.0)
        passed.append(ready.world.controller.reference)
    assert min(pose.distance_to(first)[0] for pose in passed) < 2e-3
    assert passed[-1].distance_to(second)[0] < 1e-3


def test_joints_go_to_their_target_and_stop_when_told(ready: ControllerBox) -> None:
    ready.enter("NRT_JOINT_POSITION")
    goal = ready.world.controller.q + 0.2
    ready.go_joints(goal, np.full(7, 0.5), np.full(7, 2.0))
    let_pass(ready, 0.3)
    ready.stop()
    let_pass(ready, 0.4)
    assert not ready.moving and np.abs(ready.world.controller.q - goal).max() > 0.02
    ready.enter("NRT_JOINT_POSITION")
    ready.go_joints(goal, np.full(7, 0.5), np.full(7, 2.0))
    let_pass(ready, 1.5)
    np.testing.assert_allclose(ready.world.controller.q, goal, atol=2e-3)


def test_an_uninitialised_gripper_ignores_commands(box: ControllerBox) -> None:
    box.fingers.name = gripper_name()
    before = box.world.gripper_state(0).width
    box.move_fingers(0.02, 0.1, 20.0)
    let_pass(box, 0.3)
    assert box.world.gripper_state(0).width == before
    box.initialise_gripper()
    assert box.homing
    let_pass(box, GRIPPER_INIT_S * box.durations + 0.6)
    assert not box.homing
    box.move_fingers(0.02, 0.1, 20.0)
    let_pass(box, 0.1)
    assert box.world.gripper_state(0).moving
    let_pass(box, 1.0)
    assert box.world.gripper_state(0).width == pytest.approx(0.02)


def test_a_world_that_is_reset_leaves_the_box_idle(ready: ControllerBox) -> None:
    ready.world.reset(1)
    let_pass(ready, 0.0)
    assert ready.mode == "IDLE"


def test_the_direct_way_is_refused_in_a_fault(box: ControllerBox) -> None:
    box.prepare_directly()
    assert (box.status, box.mode) == ("READY", CARTESIAN)
    box.inject("estop", True)
    with pytest.raises(DeviceError, match="ESTOP_NOT_RELEASED"):
        box.prepare_directly()
