"""Observations: which frame, state and set-point are taken, what is stale, and that live and recorded agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core.errors import StaleInputError
from vla_rft_core.geometry import Pose
from vla_rft_core.spec import TOWEL_ACTION_LAYOUT, TOWEL_STATE_LAYOUT, CameraSpec, HomeSpec, RobotSpec, ToolSpec
from vla_rft_core.sync import FreshnessLimits, History, Streams, assemble, state_vector
from vla_rft_core.types import ArmState, CameraFrame, GripperState, Observation, SetPoint

MS = 1_000_000
DOWN = (0.0, 1.0, 0.0, 0.0)
FRONT = CameraSpec(name="front", width=8, height=6, fps=15, policy_size=4)
SPEC = RobotSpec(
    name="towel",
    cameras=(FRONT,),
    tool=ToolSpec(name="tcp", tcp_position=(0, 0, 0.2), tcp_quaternion=(0, 0, 0, 1.0), mass=1.1),
    home=HomeSpec(q=(0.0,) * 7, position=(0.6, 0, 0.3), quaternion=DOWN, width=0.08, raise_height=0.25),
    state_layout=TOWEL_STATE_LAYOUT,
    state_min_range=(0.001,) * 10,
    action_layout=TOWEL_ACTION_LAYOUT,
    action_min_range=(0.001,) * 7,
    control_period_s=0.1,
    action_horizon=8,
)
STEREO = replace(SPEC, cameras=(FRONT, replace(FRONT, name="wrist")))


def frame(stamp_ms: float, received_ms: float, camera: str = "front", number: int = 0) -> CameraFrame:
    color = np.full((6, 8, 3), number % 256, np.uint8)
    return CameraFrame(camera, round(stamp_ms * MS), round(received_ms * MS), number, color)


def measured(stamp_ms: float, x: float = 0.6, width: float = 0.04) -> tuple[ArmState, GripperState]:
    stamp_ns = round(stamp_ms * MS)
    arm = ArmState(
        stamp_ns=stamp_ns,
        q=np.arange(7) / 10.0,
        dq=np.zeros(7),
        tau_ext=np.zeros(7),
        T_base_tcp=Pose(np.array([x, 0.1, 0.2]), np.array(DOWN)),
        tcp_twist=np.zeros(6),
        wrench=np.zeros(6),
    )
    return arm, GripperState(stamp_ns, width, 0.0, False)


def set_point(x: float) -> SetPoint:
    return SetPoint(Pose(np.array([x, 0.1, 0.2]), np.array(DOWN)), 0.03)


def observe(streams: Streams, t_ms: float, spec: RobotSpec = SPEC) -> Observation:
    return assemble(round(t_ms * MS), spec=spec, streams=streams, prompt="fold", limits=FreshnessLimits())


# --- history --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 60), st.integers(-1, 51))
def test_history_answers_as_a_sorted_list_would(stamps: list[int], capacity: int, t: int) -> None:
    history: History[int] = History(capacity)
    for index, stamp in enumerate(stamps):
        history.add(stamp, index)
    kept = sorted(((stamp, index) for index, stamp in enumerate(stamps)))
    # What falls out is always the oldest, but a late one may fall out at once: only a full look-back needs no capacity.
    if len(stamps) <= capacity:
        assert history.at_or_before(t) == max((pair for pair in kept if pair[0] <= t), default=None)
    assert history.newest() == (kept[-1] if kept else None)


def test_a_late_arrival_is_sorted_in() -> None:
    history = History.of([(10, "a"), (30, "c"), (20, "b")])
    assert [history.at_or_before(t) for t in (9, 10, 25, 30, 99)] == [
        None, (10, "a"), (20, "b"), (30, "c"), (30, "c"),
    ]  # fmt: skip


def test_of_two_items_with_one_stamp_the_later_arrival_counts() -> None:
    assert History.of([(10, "first"), (10, "second")]).at_or_before(10) == (10, "second")


def test_the_oldest_falls_out() -> None:
    history = History.of([(i, i) for i in range(10)], capacity=3)
    assert history.at_or_before(6) is None and history.at_or_before(7) == (7, 7)


# --- what is taken --------------------------------------------------------------------------------------------


def streams_of(
    frames: list[CameraFrame],
    states: list[tuple[ArmState, GripperState]],
    sent: list[tuple[int, SetPoint]] | None = None,
    spec: RobotSpec = SPEC,
) -> Streams:
    streams = Streams.for_spec(spec)
    for f in frames:
        streams.add_frame(f)
    for arm, gripper in states:
        streams.robot.add(arm.stamp_ns, (arm, gripper))
    for stamp_ns, point in sent or []:
        streams.commanded.add(stamp_ns, point)
    return streams


def test_the_newest_frame_that_had_arrived_and_the_state_of_its_capture() -> None:
    streams = streams_of(
        [frame(100, 130, number=1), frame(166, 196, number=2), frame(233, 263, number=3)],
        [measured(t, x=t / 1000) for t in range(0, 300, 10)],
        [(90 * MS, set_point(0.09)), (160 * MS, set_point(0.16)), (170 * MS, set_point(0.17))],
    )
    seen = observe(streams, 262)
    assert seen.images["front"][0, 0, 0] == 2, "frame 3 was captured but had not arrived"
    assert (seen.stamp_ns, seen.image_stamps_ns) == (166 * MS, {"front": 166 * MS})
    assert seen.state_stamp_ns == 160 * MS and seen.state[0] == np.float32(0.16)
    assert seen.commanded.T_base_tcp.position[0] == 0.16
    assert seen.ages_ns == {"image.front": 96 * MS, "state": 102 * MS}
    assert observe(streams, 263).images["front"][0, 0, 0] == 3


def test_with_two_cameras_the_stamp_is_the_older_capture() -> None:
    streams = streams_of(
        [frame(100, 110), frame(80, 140, "wrist")], [measured(t) for t in range(0, 200, 10)], spec=STEREO
    )
    seen = observe(streams, 150, STEREO)
    assert seen.stamp_ns == 80 * MS and seen.state_stamp_ns == 80 * MS
    assert seen.image_stamps_ns == {"front": 100 * MS, "wrist": 80 * MS}


def test_before_the_first_command_the_measured_pose_is_the_reference() -> None:
    streams = streams_of([frame(100, 110)], [measured(95, x=0.5, width=0.02)], [(101 * MS, set_point(0.9))])
    commanded = observe(streams, 120).commanded
    assert (commanded.T_base_tcp.position[0], commanded.width) == (0.5, 0.02)


def test_the_state_follows_the_layout() -> None:
    arm, gripper = measured(0, x=0.5, width=0.02)
    turned = replace(arm, T_base_tcp=Pose(np.array([0.5, 0.1, 0.2]), np.array([0, 0, math.sin(0.5), math.cos(0.5)])))
    state = state_vector(SPEC, turned, gripper)
    c, s = math.cos(1.0), math.sin(1.0)
    np.testing.assert_allclose(state, [0.5, 0.1, 0.2, c, s, 0, -s, c, 0, 0.02], atol=1e-7)
    assert state.dtype == np.float32
    joints = replace(SPEC, state_layout=("joint.6", "gripper.width", "joint.0"), state_min_range=(1.0,) * 3)
    np.testing.assert_allclose(state_vector(joints, arm, gripper), [0.6, 0.02, 0.0], atol=1e-7)


def test_an_unmeasured_dimension_is_named() -> None:
    spec = replace(SPEC, state_layout=("tcp.x", "griper.width"), state_min_range=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"'towel': state_layout has 'griper.width', .*did you mean 'gripper.width'"):
        state_vector(spec, *measured(0))


def test_a_frame_of_an_unknown_camera_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no camera 'frnt' in the spec; did you mean 'front'\?"):
        Streams.for_spec(SPEC).add_frame(frame(0, 0, "frnt"))


# --- what is stale --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "states", "message"),
    [
        ([], [measured(0)], "camera 'front' has delivered nothing"),
        ([frame(100, 700)], [measured(90)], "camera 'front' has delivered nothing"),
        ([frame(99, 105)], [measured(90)], r"image of 'front' is 0.501 s old \(limit 0.5 s\)"),
        ([frame(100, 105)], [], "no robot state from before the image was taken"),
        ([frame(100, 105)], [measured(101)], "no robot state from before the image was taken"),
        ([frame(300, 305)], [measured(99)], r"robot state is 0.201 s older than the image \(limit 0.2 s\)"),
    ],
)
def test_stale_input_is_named_with_its_age(
    frames: list[CameraFrame], states: list[tuple[ArmState, GripperState]], message: str
) -> None:
    with pytest.raises(StaleInputError, match=message):
        observe(streams_of(frames, states), 600)


def test_every_stale_camera_is_named() -> None:
    with pytest.raises(
        StaleInputError, match=r"image of 'front' is 0.800 s old .*; camera 'wrist' has delivered nothing"
    ):
        observe(streams_of([frame(100, 110)], [measured(90)], spec=STEREO), 900, STEREO)


def test_exactly_at_the_limit_is_fresh() -> None:
    assert observe(streams_of([frame(100, 105)], [measured(-100)]), 600).stamp_ns == 100 * MS


# --- live and recorded ----------------------------------------------------------------------------------------

delays = st.floats(5.0, 120.0)


@given(
    frame_delays=st.lists(st.tuples(delays, delays), min_size=4, max_size=12),
    state_delays=st.lists(st.floats(0.0, 5.0), min_size=90, max_size=90),
    ticks=st.lists(st.floats(0.0, 900.0), min_size=1, max_size=8),
)
def test_live_and_recorded_observations_are_the_same(
    frame_delays: list[tuple[float, float]], state_delays: list[float], ticks: list[float]
) -> None:
    """Frames arrive late and out of order, states within 5 ms: always before the frame that they belong to."""
    frames = [
        frame(66.0 * i, 66.0 * i + delay, camera, number=i)
        for i, both in enumerate(frame_delays)
        for camera, delay in zip(("front", "wrist"), both, strict=True)
    ]
    states = [(10.0 * i + delay, measured(10.0 * i, x=i / 1000)) for i, delay in enumerate(state_delays)]
    sent = [(10 * i * MS, set_point(i / 1000)) for i in range(3, 90)]
    recorded = streams_of(frames, [s for _, s in states], sent, STEREO)
    for t_ms in ticks:
        live = streams_of(
            sorted((f for f in frames if f.received_ns <= t_ms * MS), key=lambda f: f.received_ns),
            [state for arrival_ms, state in sorted(states, key=lambda pair: pair[0]) if arrival_ms <= t_ms],
            [pair for pair in sent if pair[0] <= t_ms * MS],
            STEREO,
        )
        assert outcome(live, t_ms) == outcome(recorded, t_ms)


def outcome(streams: Streams, t_ms: float) -> object:
    """The observation as comparable data, or the sentence that refused it."""
    try:
        seen = observe(streams, t_ms, STEREO)
    except StaleInputError as error:
        return str(error)
    assert seen.state_stamp_ns <= seen.stamp_ns <= t_ms * MS, "never a state from the image's future"
    return (
        seen.stamp_ns,
        seen.image_stamps_ns,
        {name: int(image[0, 0, 0]) for name, image in seen.images.items()},
        seen.state.tolist(),
        seen.state_stamp_ns,
        seen.commanded.T_base_tcp.position.tolist(),
        seen.ages_ns,
    )
