"""The controller box: caps, limits, lag, braking, and that it finishes its last target by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_sim.controller import ArmController, MotionCaps, approach_speed
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q

ARM = ArmKinematics()
DT = 0.005


def controller(caps: MotionCaps | None = None) -> ArmController:
    made = ArmController(ARM, HOME_Q, caps)
    made.enter_motion(HOME_Q)
    return made


def play(box: ArmController, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the reference (n, 3) [m] and joint velocities (n, 7) [rad/s] of every step."""
    positions, velocities = [], []
    for _ in range(round(seconds / DT)):
        box.step(DT)
        positions.append(box.reference.position)
        velocities.append(box.dq.copy())
    return np.array(positions), np.array(velocities)


def test_an_idle_controller_refuses_targets_and_stands_still() -> None:
    box = ArmController(ARM, HOME_Q)
    with pytest.raises(DeviceError, match="idle"):
        box.set_target(box.target)
    _, velocities = play(box, 0.5)
    assert np.abs(velocities).max() < 1e-6


def test_it_goes_to_its_last_target_without_further_commands() -> None:
    box = controller()
    target = box.target.moved((0.15, -0.20, -0.15), (0.0, 0.0, 0.8))
    box.set_target(target)
    play(box, 3.0)
    metres, radians = ARM.tcp_pose(box.q).distance_to(target)
    assert metres < 1e-4 and radians < 1e-4


offsets = st.tuples(st.floats(-0.1, 0.25), st.floats(-0.3, 0.3), st.floats(-0.25, 0.15))


@settings(max_examples=15, deadline=None)
@given(st.lists(offsets, min_size=1, max_size=4), st.floats(0.05, 0.8))
def test_caps_hold_for_any_sequence_of_targets(targets: list[tuple[float, float, float]], pause: float) -> None:
    caps = MotionCaps(linear_velocity=0.4, linear_acceleration=2.0)
    box = controller(caps)
    start = box.target
    position, velocity = box.reference.position, np.zeros(3)
    for target in targets:
        box.set_target(start.moved(target, (0.0, 0.0, 3.0 * target[0])))
        positions, joint_velocities = play(box, pause)
        velocities = np.diff(np.vstack([position, positions]), axis=0) / DT
        accelerations = np.diff(np.vstack([velocity, velocities]), axis=0) / DT
        assert np.linalg.norm(velocities, axis=1).max() < caps.linear_velocity * 1.001
        assert np.linalg.norm(accelerations, axis=1).max() < caps.linear_acceleration * 1.001
        assert (np.abs(joint_velocities) <= ARM.velocity * 1.0001).all()
        position, velocity = positions[-1], velocities[-1]


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1)])
def test_the_command_lags_a_target_at_0_3_m_per_s_by_less_than_2_cm(direction: tuple[int, int, int]) -> None:
    box = controller()
    start, lags = box.target, []
    for tick in range(60):
        target = start.moved(np.array(direction) * 0.003 * (tick + 1), (0.0, 0.0, 0.005 * (tick + 1)))
        box.set_target(target)
        play(box, 0.01)
        lags.append(ARM.tcp_pose(box.q).distance_to(target))
    metres, radians = np.array(lags).max(axis=0)
    assert metres < 0.02 and radians < 0.05
    assert metres > 0.005  # it is a controller with limits, not a teleporter


def test_stop_brakes_within_the_cap_and_stays() -> None:
    box = controller()
    box.set_target(box.target.moved((0.0, 0.35, 0.0), (0.0, 0.0, 0.0)))
    positions, _ = play(box, 0.35)
    speed = float(np.linalg.norm(positions[-1] - positions[-2])) / DT
    assert speed > 0.4
    box.stop()
    after, _ = play(box, 1.0)
    shortest = speed**2 / (2.0 * box.caps.linear_acceleration)
    travelled = float(np.linalg.norm(after[-1] - positions[-1]))
    assert 0.8 * shortest < travelled < 1.2 * shortest
    assert np.array_equal(after[-1], after[-50])
    assert box.mode == "idle"


def test_joint_velocity_limits_hold_when_the_caps_would_allow_more() -> None:
    box = controller(MotionCaps(linear_velocity=5.0, angular_velocity=20.0, angular_acceleration=200.0))
    box.set_target(box.target.moved((0.2, 0.3, 0.0), (0.0, 0.0, 2.5)))
    _, velocities = play(box, 1.0)
    share = np.abs(velocities) / ARM.velocity
    assert 0.99 < share.max() < 1.0001


def test_out_of_reach_it_keeps_the_joint_limits_and_comes_back() -> None:
    box = controller()
    start = box.target
    box.set_target(start.moved((1.5, 0.0, 0.0), (0.0, 0.0, 0.0)))
    _, velocities = play(box, 4.0)
    assert (box.q >= ARM.lower).all() and (box.q <= ARM.upper).all()
    assert (np.abs(velocities) <= ARM.velocity * 1.0001).all()
    assert math.dist(box.reference.position, ARM.tcp_pose(box.q).position) < 0.06
    box.set_target(start)
    play(box, 5.0)
    assert ARM.tcp_pose(box.q).distance_to(start)[0] < 1e-3


def test_the_posture_returns_to_home_where_the_tcp_does_not_mind() -> None:
    box = ArmController(ARM, HOME_Q)
    target = ARM.tcp_pose(HOME_Q)
    turned = ARM.solve(target, HOME_Q + np.array([0.5, 0.0, -0.6, 0.0, 0.3, 0.0, 0.0]))
    before = float(np.abs(turned - HOME_Q).max())
    box.enter_motion(turned)
    play(box, 6.0)
    assert float(np.abs(box.q - HOME_Q).max()) < 0.2 * before
    assert ARM.tcp_pose(box.q).distance_to(target)[0] < 1e-4


def test_approach_speed_can_always_brake() -> None:
    caps = MotionCaps()
    for distance in np.linspace(0.0, 0.2, 400):
        speed = approach_speed(float(distance), caps.linear_velocity, caps.linear_acceleration)
        assert speed**2 <= 2.0 * caps.linear_acceleration * distance + 1e-12
        assert speed <= caps.linear_velocity


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_caps_must_be_positive_numbers(value: float) -> None:
    with pytest.raises(ValueError, match="linear_velocity"):
        MotionCaps(linear_velocity=value)


def test_a_target_is_a_pose() -> None:
    with pytest.raises(ValueError, match="not finite"):
        controller().set_target(Pose((math.nan, 0.0, 0.3), (0.0, 1.0, 0.0, 0.0)))
