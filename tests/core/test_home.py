"""The way home: raised, slow, at home in the end, and accepted by every rule it passes on the way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_rft_core.executor import ChunkExecutor
from vla_rft_core.geometry import Pose
from vla_rft_core.home import home_chunk
from vla_rft_core.safety import Action, Motion, SafetyFilter
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.spec import TOWEL_ACTION_LAYOUT, TOWEL_STATE_LAYOUT, CameraSpec, HomeSpec, RobotSpec, ToolSpec
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint, Source

S = 1_000_000_000
PERIOD_NS = 10_000_000
DOWN = (0.0, 1.0, 0.0, 0.0)
SPEC = RobotSpec(
    name="towel",
    cameras=(CameraSpec(name="front", width=640, height=480, fps=15, policy_size=96),),
    tool=ToolSpec(name="tcp", tcp_position=(0, 0, 0.2), tcp_quaternion=(0, 0, 0, 1.0), mass=1.1),
    home=HomeSpec(q=(0.0,) * 7, position=(0.6, 0.0, 0.3), quaternion=DOWN, width=0.08, raise_height=0.2),
    state_layout=TOWEL_STATE_LAYOUT,
    state_min_range=(0.001,) * 10,
    action_layout=TOWEL_ACTION_LAYOUT,
    action_min_range=(0.001,) * 7,
    control_period_s=0.1,
    action_horizon=8,
)
PROFILE = SafetyProfile(
    name="test",
    workspace_low=(0.3, -0.5, 0.0),
    workspace_high=(0.9, 0.5, 0.7),
    table_height=0.0,
    table_clearance=0.005,
    joint_low=(-2.7,) * 7,
    joint_high=(2.7,) * 7,
)


def start_at(x: float, y: float, z: float, tilt: float = 0.0, yaw: float = 0.0, width: float = 0.01) -> SetPoint:
    turn = Rotation.from_rotvec([0, 0, yaw]) * Rotation.from_rotvec([tilt, 0, 0]) * Rotation.from_quat(DOWN)
    return SetPoint(Pose(np.array([x, y, z]), turn.as_quat()), width)


starts = st.builds(
    start_at,
    st.floats(0.3, 0.9),
    st.floats(-0.5, 0.5),
    st.floats(0.005, 0.7),
    st.floats(-0.55, 0.55),
    st.floats(-math.pi, math.pi),
    st.floats(0.0, 0.1),
)


@given(starts)
def test_up_then_across_then_home(start: SetPoint) -> None:
    chunk = home_chunk(start, SPEC, stamp_ns=7 * S, sequence=3)
    assert (chunk.source, chunk.sequence, chunk.stamp_ns, chunk.period_ns) == (Source.HOME, 3, 7 * S, 100_000_000)
    home = SPEC.home.T_base_tcp
    metres, radians = chunk.set_point(len(chunk) - 1).T_base_tcp.distance_to(home)
    assert metres < 1e-12 and radians < 1e-9 and chunk.widths[-1] == SPEC.home.width

    path = np.vstack([start.T_base_tcp.position, chunk.positions])
    raised = max(0.3, start.T_base_tcp.position[2])
    steps = np.diff(path, axis=0)
    across = np.linalg.norm(steps[:, :2], axis=1) > 1e-12
    assert (path[1:][across, 2] > raised - 1e-9).all() and (path[:-1][across, 2] > raised - 1e-9).all()
    assert np.linalg.norm(steps, axis=1).max(initial=0.0) <= 0.25 * 0.1 + 1e-9
    opened = int(np.argmax(chunk.widths == SPEC.home.width))
    assert (chunk.widths[:opened] == start.width).all() and (chunk.widths[opened:] == SPEC.home.width).all()


def test_the_gripper_does_not_open_before_it_is_raised() -> None:
    chunk = home_chunk(start_at(0.5, 0.2, 0.02), SPEC, stamp_ns=S, sequence=0)
    assert (chunk.positions[chunk.widths != 0.01, 2] >= 0.3 - 1e-9).all()


def test_the_raise_height_counts_when_home_is_low() -> None:
    low_home = replace(SPEC, home=replace(SPEC.home, position=(0.6, 0.0, 0.1)))
    chunk = home_chunk(start_at(0.5, 0.2, 0.02), low_home, stamp_ns=S, sequence=0)
    assert chunk.positions[:, 2].max() == pytest.approx(0.2) and chunk.positions[-1, 2] == pytest.approx(0.1)


def test_at_home_already_it_is_one_target() -> None:
    chunk = home_chunk(SetPoint(SPEC.home.T_base_tcp, 0.08), SPEC, stamp_ns=S, sequence=0)
    assert len(chunk) == 1


@given(starts)
def test_every_way_home_is_accepted(start: SetPoint) -> None:
    chunk = home_chunk(start, SPEC, stamp_ns=S, sequence=0)
    assert SafetyFilter(PROFILE).judge_chunk(chunk, now_ns=S) == ""


@settings(max_examples=8)
@given(starts, st.floats(0.02, 0.08))
def test_played_through_executor_and_filter_it_arrives_without_latching(start: SetPoint, lag_s: float) -> None:
    """The arm follows with a first-order lag; it ends at home, and no rule does more than slow the corners down."""
    chunk = home_chunk(start, SPEC, stamp_ns=S, sequence=0)
    executor, safety = ChunkExecutor(), SafetyFilter(PROFILE)
    executor.splice(chunk, now_ns=S, reference=start)
    motion, arm, now_ns = Motion.at_rest(start), start.T_base_tcp, S
    while (played := executor.sample(now_ns)) is not None:
        out = safety.apply(played.set_point, motion=motion, measured=robot(arm, now_ns), period_s=0.01)
        assert out.action in (Action.PASS, Action.CLIP), out.reasons
        assert all(reason.endswith("set-point slowed down") for reason in out.reasons), out.reasons
        motion = motion.to(out.safe, 0.01)
        arm = arm.interpolate(out.safe.T_base_tcp, 0.01 / (0.01 + lag_s))
        now_ns += PERIOD_NS
    metres, radians = motion.set_point.T_base_tcp.distance_to(SPEC.home.T_base_tcp)
    assert metres < 1e-6 and radians < 1e-6


def robot(T_base_tcp: Pose, stamp_ns: int) -> RobotState:
    seven, six = np.zeros(7), np.zeros(6)
    arm = ArmState(
        stamp_ns=stamp_ns, q=seven, dq=seven, tau_ext=seven, T_base_tcp=T_base_tcp, tcp_twist=six, wrench=six
    )
    return RobotState(arm, GripperState(stamp_ns, 0.05, 0.0, False), None)
