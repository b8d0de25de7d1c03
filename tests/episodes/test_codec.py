"""What goes through bytes comes back: exactly, but for JPEG and the last bit of a quaternion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_episodes import codec
from vla_rft_episodes.entries import ColorIntrinsics, SafetyEvent, ServoEntry, SimStateEntry
from vla_rft_episodes.errors import EpisodeError


def same_pose(a: Pose, b: Pose) -> bool:
    """Reading a pose normalises its quaternion again, which may change the last bit."""
    return np.array_equal(a.position, b.position) and np.allclose(a.quaternion, b.quaternion, rtol=0.0, atol=1e-15)


def same_set_point(a: SetPoint, b: SetPoint) -> bool:
    return same_pose(a.T_base_tcp, b.T_base_tcp) and a.width == b.width


def test_robot_state_comes_back(attempt) -> None:
    state = attempt.state_at(9)
    back = codec.decode_robot_state(codec.encode_robot_state(state))
    for name in ("q", "dq", "tau_ext", "tcp_twist", "wrench"):
        assert np.array_equal(getattr(back.arm, name), getattr(state.arm, name)), name
    assert same_pose(back.arm.T_base_tcp, state.arm.T_base_tcp)
    assert back.gripper == state.gripper
    assert same_set_point(back.reference, state.reference)
    assert (back.arm.stamp_ns, back.arm.operational, back.arm.fault) == (state.arm.stamp_ns, True, "")


def test_before_a_set_point_the_measured_pose_stands_for_it(attempt) -> None:
    state = replace(attempt.state_at(2), commanded=None)
    back = codec.decode_robot_state(codec.encode_robot_state(state))
    assert back.commanded is not None
    assert same_set_point(back.commanded, state.reference)


def test_servo_report(attempt) -> None:
    state = attempt.state_at(1)
    entry = ServoEntry(
        stamp_ns=12,
        source="teleop",
        sequence=2**40,
        requested=state.reference,
        safe=SetPoint(state.arm.T_base_tcp, 0.01),
        sent=state.reference,
        moving=True,
        reasons=("slower", "inside"),
        chunk_received_ns=11,
    )
    back = codec.decode_servo_report(codec.encode_servo_report(entry))
    for name in ("requested", "safe", "sent"):
        assert same_set_point(getattr(back, name), getattr(entry, name)), name
    plain = ("stamp_ns", "source", "sequence", "moving", "reasons", "chunk_received_ns")
    assert [getattr(back, n) for n in plain] == [getattr(entry, n) for n in plain]


def test_chunk_with_values_that_are_wrong_is_carried_all_the_same() -> None:
    chunk = ActionChunk(
        stamp_ns=1,
        period_ns=100_000_000,
        positions=np.arange(6.0).reshape(2, 3),
        quaternions=np.tile([0.0, 1.0, 0.0, 0.0], (2, 1)),
        widths=np.array([np.nan, -3.0]),
        sequence=3,
        source=Source.REPLAY,
        policy_id="x",
    )
    back = codec.decode_action_chunk(codec.encode_action_chunk(chunk))
    assert np.array_equal(back.positions, chunk.positions) and np.array_equal(back.quaternions, chunk.quaternions)
    assert np.array_equal(back.widths, chunk.widths, equal_nan=True)
    assert (back.stamp_ns, back.period_ns, back.sequence, back.source, back.policy_id) == (
        1,
        100_000_000,
        3,
        "replay",
        "x",
    )


def test_events(attempt) -> None:
    event = SafetyEvent(5, "ACTIVE", "policy", False, "", 1, 2, 3)
    assert codec.decode_safety_status(codec.encode_safety_status(event)) == event
    outcome = ChunkOutcome(sequence=1, accepted=True, reason="", targets_late=0, age_ns=12_000_000)
    answer = codec.decode_chunk_verdict(codec.encode_chunk_verdict(outcome, source="home", received_ns=8))
    assert (answer.stamp_ns, answer.source, answer.outcome) == (8, "home", outcome)
    intrinsics = ColorIntrinsics("front", 640, 480, 600.0, 601.0, 320.0, 240.0)
    assert codec.decode_camera_info(codec.encode_camera_info(intrinsics, stamp_ns=1), camera="front") == intrinsics
    world = SimStateEntry(4, "towel/1", bytes(range(256)))
    assert codec.decode_sim_state(codec.encode_sim_state(world)) == world


def test_depth_is_lossless_and_colour_close(attempt) -> None:
    frame = attempt.frame_at(4)
    assert np.array_equal(codec.decode_depth(codec.encode_depth(frame)), frame.depth)
    difference = codec.decode_color(codec.encode_color(frame)).astype(int) - frame.color
    assert np.abs(difference).mean() < 2.0
    assert codec.image_stamp_ns(codec.encode_color(frame)) == frame.stamp_ns


def test_extreme_depths_survive() -> None:
    depth = np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16)
    assert np.array_equal(codec.decode_depth(codec.compress_depth(depth, camera="front", stamp_ns=1)), depth)


def test_the_wrong_kind_of_image_is_refused(attempt) -> None:
    frame = attempt.frame_at(0)
    with pytest.raises(EpisodeError, match="expected an image of format 'rgb8; jpeg compressed bgr8', found '16UC1"):
        codec.decode_color(codec.encode_depth(frame))
    with pytest.raises(ValueError, match="expected uint16 millimetres"):
        codec.compress_depth(np.zeros((4, 4), np.float32), camera="front", stamp_ns=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no depth"):
        codec.encode_depth(attempt.frame_at(0, depth=False))
    cut = bytearray(codec.encode_color(frame))
    cut[-len(cut) // 2 :] = bytes(len(cut) - len(cut) // 2)
    start = bytes(cut).find(b"\xff\xd8")
    cut[start : start + 4] = bytes(4)
    with pytest.raises(EpisodeError, match="are no image"):
        codec.decode_color(bytes(cut))
