"""The safety filter: each rule by its number, and the laws that hold for any set-point, motion and measured state."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_rft_core.geometry import Pose, rotation_angle
from vla_rft_core.safety import Action, Filtered, Motion, SafetyFilter
from vla_rft_core.safety_profile import Box, SafetyProfile
from vla_rft_core.types import ActionChunk, ArmState, GripperState, RobotState, SetPoint, Source

PERIOD_S = 0.01
S = 1_000_000_000
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
PROFILE = SafetyProfile(
    name="test",
    workspace_low=(0.3, -0.5, 0.0),
    workspace_high=(0.9, 0.5, 0.7),
    keep_out=(Box(name="post", low=(0.5, 0.2, -1.0), high=(0.6, 0.3, 0.4)),),
    table_height=0.01,
    table_clearance=0.005,
    joint_low=(-2.7,) * 7,
    joint_high=(2.7,) * 7,
)
FILTER = SafetyFilter(PROFILE)
FLOOR = 0.015
REACH = PROFILE.max_speed * PERIOD_S
CHANGE = PROFILE.max_acceleration * PERIOD_S**2
TURN_REACH = PROFILE.max_angular_speed * PERIOD_S
TURN_CHANGE = PROFILE.max_angular_acceleration * PERIOD_S**2


def pose(x: float = 0.6, y: float = 0.0, z: float = 0.3, *, tilt: float = 0.0) -> Pose:
    return Pose(np.array([x, y, z]), (Rotation.from_rotvec([tilt, 0, 0]) * Rotation.from_quat(DOWN)).as_quat())


def robot(T_base_tcp: Pose | None = None, **arm: Any) -> RobotState:
    values: dict[str, Any] = {
        "stamp_ns": S, "q": np.zeros(7), "dq": np.zeros(7), "tau_ext": np.zeros(7),
        "T_base_tcp": T_base_tcp or pose(), "tcp_twist": np.zeros(6), "wrench": np.zeros(6),
    }  # fmt: skip
    return RobotState(ArmState(**(values | arm)), GripperState(S, 0.05, 0.0, False), None)


def apply(
    wanted: Pose | SetPoint, *, motion: Motion | None = None, measured: RobotState | None = None, width: float = 0.05
) -> Filtered:
    measured = measured or robot()
    motion = motion or Motion.at_rest(SetPoint(measured.arm.T_base_tcp, 0.05))
    set_point = wanted if isinstance(wanted, SetPoint) else SetPoint(wanted, width)
    return FILTER.apply(set_point, motion=motion, measured=measured, period_s=PERIOD_S)


def moving(T_base_tcp: Pose, linear: list[float], angular: tuple[float, float, float] = (0, 0, 0)) -> Motion:
    return Motion(SetPoint(T_base_tcp, 0.05), np.array(linear, dtype=float), np.array(angular, dtype=float))


# --- set-points, rule by rule ---------------------------------------------------------------------------------


def test_a_harmless_set_point_passes_untouched() -> None:
    wanted = SetPoint(pose(0.6 + 0.9 * CHANGE), 0.06)
    out = apply(wanted)
    assert (out.action, out.reasons) == (Action.PASS, ())
    assert out.safe.T_base_tcp is wanted.T_base_tcp and out.safe.width == 0.06


def test_speed_is_clipped() -> None:
    out = apply(pose(0.62), motion=moving(pose(), [0.4, 0, 0]))
    assert out.action is Action.CLIP and out.reasons == ("speed: set-point slowed down",)
    np.testing.assert_allclose(out.safe.T_base_tcp.position, [0.604, 0, 0.3], atol=1e-9)


def test_acceleration_is_clipped() -> None:
    out = apply(pose(0.62))
    assert out.action is Action.CLIP and out.reasons == ("acceleration: set-point slowed down",)
    np.testing.assert_allclose(out.safe.T_base_tcp.position, [0.6004, 0, 0.3], atol=1e-9)


def test_it_brakes_no_harder_than_allowed() -> None:
    out = apply(pose(0.6 - 0.02), motion=moving(pose(), [0.4, 0, 0]))
    np.testing.assert_allclose(out.safe.T_base_tcp.position, [0.6 + REACH - CHANGE, 0, 0.3], atol=1e-9)


def test_angular_speed_and_acceleration_are_clipped() -> None:
    out = apply(pose(tilt=0.2))
    assert out.reasons == ("angular acceleration: set-point slowed down",)
    assert rotation_angle(out.safe.T_base_tcp.quaternion, DOWN) == pytest.approx(TURN_CHANGE)
    out = apply(pose(tilt=0.2), motion=moving(pose(), [0, 0, 0], (1.5, 0, 0)))
    assert out.reasons == ("angular speed: set-point slowed down",)
    assert rotation_angle(out.safe.T_base_tcp.quaternion, DOWN) == pytest.approx(TURN_REACH)


@pytest.mark.parametrize(
    ("inside", "wanted", "clipped", "reason"),
    [
        (pose(0.9), pose(0.9001), [0.9, 0, 0.3], "workspace: x 0.900 m clipped to 0.900 m"),
        (pose(0.3), pose(0.2998), [0.3, 0, 0.3], "workspace: x 0.300 m clipped to 0.300 m"),
        (pose(y=-0.5), pose(y=-0.5003), [0.6, -0.5, 0.3], "workspace: y -0.500 m clipped to -0.500 m"),
        (pose(z=0.7), pose(z=0.7002), [0.6, 0, 0.7], "workspace: z 0.700 m clipped to 0.700 m"),
        (pose(z=FLOOR), pose(z=FLOOR - 0.0003), [0.6, 0, FLOOR], "table: z 0.015 m clipped to 0.015 m"),
    ],
)
def test_walls_and_table_clip(inside: Pose, wanted: Pose, clipped: list[float], reason: str) -> None:
    out = apply(wanted, measured=robot(inside))
    assert (out.action, out.reasons) == (Action.CLIP, (reason,))
    np.testing.assert_allclose(out.safe.T_base_tcp.position, clipped, atol=1e-12)


def test_a_wall_wins_over_the_acceleration_limit() -> None:
    start = pose(0.8999)
    out = apply(pose(0.95), motion=moving(start, [0.4, 0, 0]), measured=robot(start))
    assert out.action is Action.CLIP and out.safe.T_base_tcp.position[0] == 0.9


def test_along_a_wall_it_slides() -> None:
    start = pose(0.9)
    out = apply(pose(0.95, 0.0003), motion=moving(start, [0, 0, 0]), measured=robot(start))
    np.testing.assert_allclose(out.safe.T_base_tcp.position, [0.9, 0.0003, 0.3], atol=1e-9)


def test_from_outside_the_workspace_it_may_only_come_back() -> None:
    outside = pose(0.91)
    further = apply(pose(0.92), measured=robot(outside))
    assert further.safe.T_base_tcp.position[0] == pytest.approx(0.91)
    back = apply(pose(0.91 - 0.9 * CHANGE), measured=robot(outside))
    assert back.action is Action.PASS


def test_a_keep_out_box_rejects() -> None:
    start = pose(0.4999, 0.25)
    out = apply(pose(0.5002, 0.25), measured=robot(start))
    assert out.action is Action.REJECT and out.safe.T_base_tcp is start
    assert out.reasons == ("keep-out: tcp would enter 'post' at (0.500, 0.250, 0.300) m",)
    assert apply(pose(0.5002, 0.25, 0.41), measured=robot(pose(0.4999, 0.25, 0.41))).action is Action.PASS


def test_out_of_a_keep_out_box_it_may_leave_but_not_go_deeper() -> None:
    inside = robot(pose(0.51, 0.25))
    assert apply(pose(0.51 - 0.0003, 0.25), measured=inside).action is Action.PASS
    assert apply(pose(0.51 + 0.0003, 0.25), measured=inside).action is Action.REJECT


def test_too_much_tilt_rejects() -> None:
    start = pose(tilt=0.599)
    out = apply(pose(tilt=0.6005), measured=robot(start), motion=moving(start, [0, 0, 0], (0.15, 0, 0)))
    assert out.action is Action.REJECT and out.safe.T_base_tcp is start
    assert out.reasons == ("tilt: tool 0.600 rad from straight down (limit 0.6 rad)",) or "tilt" in out.reasons[-1]


@pytest.mark.parametrize("tilt", [0.7, -0.7, 2.0])
def test_out_of_too_much_tilt_it_may_come_back_but_not_go_further(tilt: float) -> None:
    measured = robot(pose(tilt=tilt))
    step = math.copysign(0.001, tilt)
    assert apply(pose(tilt=tilt - step), measured=measured).action is Action.PASS
    assert apply(pose(tilt=tilt + step), measured=measured).action is Action.REJECT


def test_turning_about_the_vertical_is_no_tilt() -> None:
    wanted = Pose(pose().position, (Rotation.from_rotvec([0, 0, 2.0]) * Rotation.from_quat(DOWN)).as_quat())
    ahead = wanted.moved([0, 0, 0], [0, 0, 0.001])
    assert apply(ahead, measured=robot(wanted)).action is Action.PASS


@pytest.mark.parametrize(
    ("width", "safe", "reason"),
    [
        (0.2, 0.1, "width: 0.2000 m clipped to 0.1000 m"),
        (-0.01, 0.0, "width: -0.0100 m clipped to 0.0000 m"),
        (math.nan, 0.05, "width: nan is not finite, 0.0500 m kept"),
        (math.inf, 0.05, "width: inf is not finite, 0.0500 m kept"),
    ],
)
def test_the_width_stays_in_its_range(width: float, safe: float, reason: str) -> None:
    out = apply(pose(), width=width)
    assert (out.safe.width, out.action, out.reasons) == (safe, Action.CLIP, (reason,))


# --- latching -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [pose(0.6), pose(0.5999)])
def test_a_lead_beyond_the_limit_latches_at_the_measured_pose(wanted: Pose) -> None:
    measured = robot(pose(0.549))
    out = apply(wanted, motion=moving(pose(0.6), [0, 0, 0]), measured=measured)
    assert out.action is Action.LATCH and out.safe.T_base_tcp is measured.arm.T_base_tcp
    assert out.reasons[-1].startswith(
        "lead: set-point 0.051 m, 0.000 rad from the measured pose (limits 0.05 m, 0.3 rad)"
    )


def test_a_lead_in_orientation_latches() -> None:
    out = apply(pose(tilt=0.305), motion=moving(pose(tilt=0.305), [0, 0, 0]))
    assert out.action is Action.LATCH and "0.305 rad from the measured pose" in out.reasons[-1]


def test_a_lead_at_the_limit_passes() -> None:
    assert apply(pose(0.65), motion=moving(pose(0.65), [0, 0, 0])).action is Action.PASS


def joints(index: int, value: float) -> np.ndarray:
    out = np.zeros(7)
    out[index] = value
    return out


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ({"operational": False}, "device fault: the arm is not operational"),
        ({"fault": "emergency stop"}, "device fault: emergency stop"),
        ({"wrench": np.array([0, 18, 25, 0, 0, 0.0])}, "contact: 30.8 N, 0.0 Nm (limits 30 N, 8 Nm)"),
        ({"wrench": np.array([0, 0, 0, 5, 5, 5.0])}, "contact: 0.0 N, 8.7 Nm"),
        ({"wrench": np.full(6, math.nan)}, "contact: nan N"),
        ({"q": joints(2, 2.71)}, "joint 3 at 2.710 rad nears its limit (-2.700 to 2.700 rad, margin 0.05)"),
        ({"q": joints(0, -2.71)}, "joint 1 at -2.710 rad"),
        ({"q": joints(6, 2.66), "dq": joints(6, 0.03)}, "joint 7 at 2.660 rad"),
        ({"q": joints(6, -2.66), "dq": joints(6, -0.03)}, "joint 7 at -2.660 rad"),
        ({"q": joints(4, math.nan)}, "joint 5 at nan rad"),
        ({"T_base_tcp": pose(0.921)}, "workspace left: tcp at (0.921, 0.000, 0.300) m, allowed (0.300, -0.500, 0.015)"),
        ({"T_base_tcp": pose(z=-0.006)}, "workspace left: tcp at (0.600, 0.000, -0.006) m"),
    ],
)
def test_an_alarming_state_latches_whatever_is_wanted(arm: dict[str, Any], reason: str) -> None:
    measured = robot(**arm)
    assert FILTER.alarm(measured).startswith(reason)
    out = apply(measured.arm.T_base_tcp, measured=measured)
    assert out.action is Action.LATCH and out.reasons == (FILTER.alarm(measured),)
    assert out.safe.T_base_tcp is measured.arm.T_base_tcp and out.safe.width == 0.05


@pytest.mark.parametrize(
    "arm",
    [
        {"wrench": np.array([0, 18, 24, 4, 4, 4.0])},
        {"q": joints(2, 2.69)},
        {"q": joints(2, 2.66), "dq": joints(2, -1.0)},
        {"q": joints(2, -2.66), "dq": joints(2, 1.0)},
        {"q": joints(2, 2.66), "dq": joints(2, 0.019)},
        {"q": joints(2, 2.64), "dq": joints(2, 1.0)},
        {"T_base_tcp": pose(0.919)},
        {"T_base_tcp": pose(z=-0.004)},
    ],
)
def test_a_state_within_its_limits_is_no_alarm(arm: dict[str, Any]) -> None:
    assert FILTER.alarm(robot(**arm)) == ""


# --- chunks ---------------------------------------------------------------------------------------------------


def chunk(count: int = 4, **change: Any) -> ActionChunk:
    points = [SetPoint(pose(0.6 + 0.01 * i), 0.05) for i in range(count)]
    return replace(
        ActionChunk.from_set_points(points, stamp_ns=10 * S, period_ns=S // 10, sequence=1, source=Source.POLICY),
        **change,
    )


def with_value(name: str, index: tuple[int, ...], value: float) -> ActionChunk:
    whole = chunk()
    array = getattr(whole, name).copy()
    array[index] = value
    return replace(whole, **{name: array})


def turned(angle: float) -> np.ndarray:
    out = chunk().quaternions.copy()
    out[2:] = (Rotation.from_rotvec([0, 0, angle]) * Rotation.from_quat(DOWN)).as_quat()
    return out


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (with_value("positions", (2, 1), math.nan), "malformed: target 2 has a position that is not finite"),
        (with_value("positions", (0, 0), math.inf), "malformed: target 0 has a position that is not finite"),
        (with_value("quaternions", (3, 3), -math.inf), "malformed: target 3 has a quaternion that is not finite"),
        (with_value("widths", (1,), math.nan), "malformed: target 1 has a width that is not finite"),
        (with_value("quaternions", (1, 1), 0.9), "malformed: a quaternion has norm 0.900, expected 1"),
        (with_value("quaternions", (1, 1), 0.0), "malformed: a quaternion has norm 0.000, expected 1"),
        (chunk(0), "malformed: 0 targets, allowed 1 to 128"),
        (chunk(129), "malformed: 129 targets, allowed 1 to 128"),
        (chunk(widths=np.zeros(3)), "malformed: positions, quaternions and widths have shapes ((4, 3), (4, 4), (3,))"),
        (chunk(positions=np.zeros((4, 4))), "malformed: positions, quaternions and widths have shapes ((4, 4), (4, 4)"),
        (
            chunk(positions=np.zeros(12)),
            "malformed: positions, quaternions and widths have shapes ((12,), (4, 4), (4,))",
        ),
        (
            chunk(widths=np.zeros((4, 1))),
            "malformed: positions, quaternions and widths have shapes ((4, 3), (4, 4), (4, 1)",
        ),
        (chunk(period_ns=0), "malformed: period 0 ns, allowed 1 ms to 1 s"),
        (chunk(period_ns=-S), "malformed: period -1000000000 ns"),
        (chunk(period_ns=2 * S), "malformed: period 2000000000 ns"),
        (chunk(stamp_ns=10 * S - 510_000_000), "stale: 0.510 s old, allowed 0.5 s"),
        (chunk(stamp_ns=0), "stale: 10.000 s old"),
        (chunk(stamp_ns=10 * S + 51_000_000), "stale: stamped 0.051 s in the future"),
        (with_value("positions", (2, 2), 0.41), "step: 0.110 m, 0.000 rad to target 2 (limits 0.1 m, 0.5 rad)"),
        (with_value("positions", (3, 0), 1e300), "step: "),
        (chunk(quaternions=turned(0.51)), "step: 0.010 m, 0.510 rad to target 2"),
    ],
)
def test_a_bad_chunk_is_rejected_whole_with_its_reason(bad: ActionChunk, reason: str) -> None:
    assert FILTER.judge_chunk(bad, now_ns=10 * S).startswith(reason)


@pytest.mark.parametrize(
    "good",
    [
        chunk(), chunk(1), chunk(stamp_ns=10 * S - 500_000_000), chunk(stamp_ns=10 * S + 50_000_000),
        chunk(quaternions=turned(0.49)), chunk(quaternions=-chunk().quaternions), chunk(period_ns=S),
        with_value("quaternions", (1, 1), 1.005), with_value("widths", (0,), 7.0),
        with_value("positions", (3, 2), 0.395),
    ],
)  # fmt: skip
def test_a_good_chunk_may_play(good: ActionChunk) -> None:
    assert FILTER.judge_chunk(good, now_ns=10 * S) == ""


@given(arrays(np.float64, (3, 8), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_any_numbers_get_a_verdict_and_what_may_play_is_playable(values: np.ndarray) -> None:
    some = chunk(3, positions=values[:, :3], quaternions=values[:, 3:7], widths=values[:, 7])
    if FILTER.judge_chunk(some, now_ns=10 * S) == "":
        assert all(np.isfinite(some.set_point(i).T_base_tcp.position).all() for i in range(3))


# --- laws -----------------------------------------------------------------------------------------------------

unit = st.floats(-1.0, 1.0)
near_walls = st.sampled_from([0.3, 0.9, 0.5, 0.6, 0.91, 0.29, 0.4999, 0.6001])
positions = st.one_of(
    st.tuples(st.floats(0.2, 1.0), st.floats(-0.6, 0.6), st.floats(-0.05, 0.8)),
    st.tuples(
        near_walls, st.sampled_from([-0.5, 0.5, 0.2, 0.3, 0.25, 0.51]), st.sampled_from([FLOOR, 0.0, 0.4, 0.7, 0.3])
    ),
).map(np.array)
tilts = st.tuples(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(-math.pi, math.pi))
small_tilts = st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7), st.floats(-math.pi, math.pi))
orientations = st.one_of(small_tilts, tilts).map(
    lambda v: (Rotation.from_rotvec(v) * Rotation.from_quat(DOWN)).as_quat()
)
poses = st.builds(Pose, positions, orientations)
vectors = arrays(np.float64, 3, elements=unit)


@st.composite
def situations(draw: st.DrawFn) -> tuple[SetPoint, Motion, RobotState]:
    """A wanted set-point, what is in force, and where the arm is: near one another in most draws, anywhere in some."""

    def near(origin: Pose, metres: float, radians: float) -> Pose:
        scale = draw(st.sampled_from([0.0, 0.01, 0.3, 1.0]))
        return origin.moved(scale * metres * draw(vectors), scale * radians * draw(vectors))

    in_force = draw(poses)
    wanted = draw(st.one_of(poses, st.just(None))) or near(in_force, 0.05, 0.3)
    measured = draw(st.one_of(poses, st.just(None), st.just(None))) or near(in_force, 0.02, 0.1)
    fast = draw(st.sampled_from([0.0, 0.1, 1.0, 3.0, 30.0]))
    motion = Motion(
        SetPoint(in_force, draw(st.floats(0.0, 0.1))), 0.4 * fast * draw(vectors), 1.5 * fast * draw(vectors)
    )
    return SetPoint(wanted, draw(st.floats(-0.1, 0.2))), motion, robot(measured)


@settings(max_examples=200)
@given(situations())
@example((SetPoint(pose(0.95), 0.05), moving(pose(0.8999), [9.0, 3.0, 0]), robot(pose(0.8999))))
@example((SetPoint(pose(0.95, 0.6), 0.05), moving(pose(0.8999, 0.4999), [9.0, 9.0, 0]), robot(pose(0.8999, 0.4999))))
@example((SetPoint(pose(0.5, 0.6), 0.05), moving(pose(0.89, 0.4999), [0.4, 0.4, 0]), robot(pose(0.89, 0.4999))))
@example((SetPoint(pose(0.95, 0.02), 0.05), moving(pose(0.8999), [0.08, 0.392, 0]), robot(pose(0.8999))))
def test_the_filter_is_idempotent(situation: tuple[SetPoint, Motion, RobotState]) -> None:
    wanted, motion, measured = situation
    once = apply(wanted, motion=motion, measured=measured)
    twice = apply(once.safe, motion=motion, measured=measured)
    np.testing.assert_allclose(twice.safe.T_base_tcp.position, once.safe.T_base_tcp.position, rtol=0, atol=1e-12)
    assert rotation_angle(twice.safe.T_base_tcp.quaternion, once.safe.T_base_tcp.quaternion) < 1e-12
    assert twice.safe.width == once.safe.width


@settings(max_examples=200)
@given(situations())
def test_what_is_sent_is_finite_inside_slow_and_explained(situation: tuple[SetPoint, Motion, RobotState]) -> None:
    wanted, motion, measured = situation
    out = apply(wanted, motion=motion, measured=measured)
    safe, start, here = out.safe.T_base_tcp, motion.set_point.T_base_tcp, measured.arm.T_base_tcp
    assert np.isfinite([*safe.position, *safe.quaternion, out.safe.width]).all()
    assert bool(out.reasons) == (out.action is not Action.PASS)
    if out.action is Action.LATCH:
        assert safe is here and out.safe.width == motion.set_point.width
        return
    assert 0.0 <= out.safe.width <= 0.1
    lead, lead_angle = here.distance_to(safe)
    assert lead <= PROFILE.max_lead + 1e-8 and lead_angle <= PROFILE.max_lead_angle + 1e-8
    if any((p.position == safe.position).all() and (p.quaternion == safe.quaternion).all() for p in (start, here)):
        return  # staying where the arm is, or where it was sent, is always allowed
    assert out.action is not Action.REJECT, "a rejected set-point is replaced by the one in force"
    low = np.array([*PROFILE.workspace_low[:2], FLOOR])
    high = np.array(PROFILE.workspace_high)
    assert (safe.position >= np.minimum(low, start.position) - 1e-12).all(), "inside, or no further out than before"
    assert (safe.position <= np.maximum(high, start.position) + 1e-12).all()
    step, turn = start.delta_to(safe)
    assert np.linalg.norm(step) <= REACH + 1e-8 and np.linalg.norm(turn) <= TURN_REACH + 1e-8
    on_a_wall = (np.abs(safe.position - np.minimum(low, start.position)) < 1e-9).any() or (
        np.abs(safe.position - np.maximum(high, start.position)) < 1e-9
    ).any()
    too_fast = np.linalg.norm(motion.linear) * PERIOD_S > REACH + CHANGE
    if not on_a_wall and not too_fast:
        assert np.linalg.norm(step - motion.linear * PERIOD_S) <= CHANGE + 1e-8
    if np.linalg.norm(motion.angular) * PERIOD_S <= TURN_REACH + TURN_CHANGE:
        assert np.linalg.norm(turn - motion.angular * PERIOD_S) <= TURN_CHANGE + 1e-8


@settings(max_examples=25)
@given(st.lists(st.tuples(poses, st.integers(1, 40)), min_size=1, max_size=6))
def test_whatever_is_asked_the_set_point_stays_in_bounds_over_time(wishes: list[tuple[Pose, int]]) -> None:
    """A perfect arm from a good pose: every wish in a row, never outside, never in the post, never over-tilted."""
    motion = Motion.at_rest(SetPoint(pose(), 0.05))
    for wish, ticks in wishes:
        for _ in range(ticks):
            here = motion.set_point.T_base_tcp
            out = apply(SetPoint(wish, 0.05), motion=motion, measured=robot(here))
            position = out.safe.T_base_tcp.position
            assert out.action is not Action.LATCH
            assert (position >= [0.3, -0.5, FLOOR]).all() and (position <= [0.9, 0.5, 0.7]).all()
            assert not ((position > [0.5, 0.2, -1.0]) & (position < [0.6, 0.3, 0.4])).all()
            tool = Rotation.from_quat(out.safe.T_base_tcp.quaternion).as_matrix()[:, 2]
            assert math.acos(np.clip(-tool[2], -1, 1)) <= PROFILE.max_tilt + 1e-6
            motion = motion.to(out.safe, PERIOD_S)


@pytest.mark.parametrize("wanted", [pose(0.75, 0.1, 0.2), pose(0.4, -0.3, 0.5, tilt=0.5)])
def test_the_set_point_gets_where_it_is_allowed_to_go_and_stops_there(wanted: Pose) -> None:
    motion = Motion.at_rest(SetPoint(pose(), 0.05))
    for _ in range(200):
        out = apply(wanted, motion=motion, measured=robot(motion.set_point.T_base_tcp))
        motion = motion.to(out.safe, PERIOD_S)
    metres, radians = motion.set_point.T_base_tcp.distance_to(wanted)
    assert metres < 1e-6 and radians < 1e-6
    assert np.linalg.norm(motion.linear) < 1e-6


def test_the_profile_decides() -> None:
    strict = SafetyFilter(replace(PROFILE, max_step=0.005, max_contact_force=1.0))
    assert strict.judge_chunk(chunk(), now_ns=10 * S).startswith("step: 0.010 m")
    assert strict.alarm(robot(wrench=np.array([1.1, 0, 0, 0, 0, 0]))).startswith("contact: 1.1 N")
