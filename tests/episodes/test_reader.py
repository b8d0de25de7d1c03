"""Reading an attempt: core types out of it, and one sentence for every file that is none."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import Writer

from vla_rft_core.errors import StaleInputError
from vla_rft_core.sync import FreshnessLimits, Streams, assemble
from vla_rft_core.types import CameraFrame
from vla_rft_episodes import channels, codec
from vla_rft_episodes.entries import SafetyEvent, ServoEntry
from vla_rft_episodes.errors import EpisodeError, TruncatedError
from vla_rft_episodes.reader import Episode

CAMERA = "front"


def test_states_come_back_in_order(attempt) -> None:
    episode = Episode.open(attempt.record())
    states = list(episode.robot_states())
    assert [s.arm.stamp_ns for s in states] == [attempt.state_at(i).arm.stamp_ns for i in range(100)]
    assert np.array_equal(states[42].arm.q, attempt.state_at(42).arm.q)
    assert episode.spec == attempt.cell.spec
    assert episode.attachments()["spec.yaml"] == (attempt.cell.path / "spec.yaml").read_bytes()
    assert {c.topic: n for c, n in episode.counts.items()} == episode.info.messages


def test_messages_carry_both_times_and_come_in_the_order_received(attempt) -> None:
    writer = attempt.open()
    start_ns = attempt.info().started_ns
    for delay_ns in (30, 10, 20):  # as several receiving threads hand them over
        writer.write(channels.ROBOT_STATE, b"\0\1\0\0", stamp_ns=start_ns, received_ns=start_ns + delay_ns)
    episode = Episode.open(writer.finish(ended_ns=start_ns + 1, termination_reason="signal"))
    assert [(m.stamp_ns, m.received_ns - start_ns) for m in episode.messages()] == [(start_ns, d) for d in (10, 20, 30)]
    assert list(episode.messages([])) == []
    assert list(episode.messages(["/unknown"])) == []


def test_frames_are_those_recorded_with_the_depth_of_their_time(attempt) -> None:
    episode = Episode.open(attempt.record())
    frames = list(episode.frames(CAMERA))
    assert len(frames) == 10
    for i, frame in enumerate(frames):
        original = attempt.frame_at(10 * i)
        assert (frame.camera, frame.stamp_ns, frame.received_ns) == (CAMERA, original.stamp_ns, original.received_ns)
        assert np.array_equal(frame.depth, original.depth)
        assert np.array_equal(frame.color, codec.decode_color(codec.encode_color(original)))
        assert not frame.color.flags.writeable
    assert isinstance(frames[0].frame(), CameraFrame)
    with pytest.raises(ValueError, match=r"no camera 'frnt'.*did you mean 'front'"):
        next(episode.frames("frnt"))


def test_a_frame_without_depth_of_its_time_has_none(attempt) -> None:
    writer = attempt.open()
    with_depth, without = attempt.frame_at(0), attempt.frame_at(1)
    for frame in (with_depth, without):
        stamps = {"stamp_ns": frame.stamp_ns, "received_ns": frame.received_ns}
        writer.write(channels.color(CAMERA), codec.encode_color(frame), **stamps)
    late_ns = with_depth.received_ns + 900_000_000
    writer.write(
        channels.depth(CAMERA), codec.encode_depth(with_depth), stamp_ns=with_depth.stamp_ns, received_ns=late_ns
    )
    episode = Episode.open(writer.finish(ended_ns=late_ns, termination_reason="signal"))
    first, second = episode.frames(CAMERA)
    assert first.has_depth and np.array_equal(first.depth, with_depth.depth)
    assert not second.has_depth and second.depth is None


def test_streams_give_the_observations_of_a_live_client(attempt) -> None:
    spec, limits = attempt.cell.spec, FreshnessLimits()
    live = Streams.for_spec(spec)  # filled as `vla_rft_nodes.client.CellClient` does
    recorded = Episode.open(attempt.record()).streams()
    frames = {i: attempt.frame_at(i) for i in range(0, 100, 10)}
    states = [codec.decode_robot_state(codec.encode_robot_state(attempt.state_at(i))) for i in range(100)]
    compared = 0
    for t_ns in range(attempt.info().started_ns, states[-1].arm.stamp_ns, 50_000_000):
        for state in [s for s in states if s.arm.stamp_ns <= t_ns]:
            live.robot.add(state.arm.stamp_ns, (state.arm, state.gripper))
            live.commanded.add(state.arm.stamp_ns, state.commanded)
        for i in [i for i, frame in frames.items() if frame.received_ns <= t_ns]:
            live.add_frame(frames.pop(i))
        try:
            expected = assemble(t_ns, spec=spec, streams=live, prompt="x", limits=limits)
        except StaleInputError as stale:
            with pytest.raises(StaleInputError) as found:
                assemble(t_ns, spec=spec, streams=recorded, prompt="x", limits=limits)
            assert str(found.value) == str(stale)
            continue
        observation = assemble(t_ns, spec=spec, streams=recorded, prompt="x", limits=limits)
        compared += 1
        assert observation.state.tobytes() == expected.state.tobytes()
        assert observation.stamp_ns == expected.stamp_ns and observation.ages_ns == expected.ages_ns
        assert observation.state_stamp_ns == expected.state_stamp_ns
        pose, wanted = observation.commanded.T_base_tcp, expected.commanded.T_base_tcp
        assert pose.position.tobytes() == wanted.position.tobytes()
        assert pose.quaternion.tobytes() == wanted.quaternion.tobytes()
        assert observation.commanded.width == expected.commanded.width
        assert observation.images[CAMERA].shape == expected.images[CAMERA].shape
    assert compared > 10


def test_events_and_servo_ticks(attempt) -> None:
    writer, state = attempt.open(), attempt.state_at(0)
    at = {"stamp_ns": state.arm.stamp_ns, "received_ns": state.arm.stamp_ns}
    event = SafetyEvent(state.arm.stamp_ns, "ACTIVE", "teleop", False, "")
    tick = ServoEntry(state.arm.stamp_ns, "teleop", 3, state.reference, state.reference, state.reference, True, ("a",))
    writer.write(channels.SAFETY_STATUS, codec.encode_safety_status(event), **at)
    writer.write(channels.SERVO_REPORT, codec.encode_servo_report(tick), **at)
    episode = Episode.open(writer.finish(ended_ns=state.arm.stamp_ns + 1, termination_reason="signal"))
    assert list(episode.safety_events()) == [event]
    (back,) = episode.servo_entries()
    assert (back.source, back.sequence, back.moving, back.reasons) == ("teleop", 3, True, ("a",))
    assert list(episode.chunks()) == [] and list(episode.chunk_answers()) == []


def test_the_file_alone_tells_what_the_folder_does(attempt, tmp_path: Path) -> None:
    folder = attempt.record()
    alone = shutil.copy(folder / "episode.mcap", tmp_path / "moved.mcap")
    assert Episode.open(alone).info == Episode.open(folder).info


def test_an_unfinished_attempt_is_refused(attempt) -> None:
    writer = attempt.open()
    attempt.fill(writer)
    writer.abandon()
    with pytest.raises(TruncatedError, match="was never finished; repair"):
        Episode.open(writer.path)
    with pytest.raises(TruncatedError, match=r"is truncated after .* bytes; repair"):
        Episode.open(writer.path / "episode.mcap")


def test_a_file_cut_anywhere_is_refused(attempt, tmp_path: Path) -> None:
    whole = (attempt.record() / "episode.mcap").read_bytes()
    path = tmp_path / "cut.mcap"
    for size in [0, 1, 7, 8, 9, *random.Random(0).sample(range(10, len(whole)), 40), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(TruncatedError, match=r"cut\.mcap: is truncated"):
            Episode.open(path)


def test_a_file_altered_anywhere_is_read_or_refused_in_one_sentence(attempt, tmp_path: Path) -> None:
    whole = (attempt.record() / "episode.mcap").read_bytes()
    path, draw, refused = tmp_path / "altered.mcap", random.Random(1), 0
    for _ in range(150):
        altered = bytearray(whole)
        altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
        path.write_bytes(altered)
        try:
            episode = Episode.open(path)
            for _ in episode.messages():
                pass
            for frame in episode.frames(CAMERA):
                assert frame.color.shape == (48, 64, 3)
        except EpisodeError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50


def test_foreign_files_are_refused(attempt, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with pytest.raises(EpisodeError, match="no such episode"):
        Episode.open(path)
    path.write_text("not MCAP at all, though long enough")
    with pytest.raises(EpisodeError, match="is not an MCAP file"):
        Episode.open(path)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "somebody else")
        writer.finish()
    with pytest.raises(EpisodeError, match="is an MCAP file, but no episode"):
        Episode.open(path)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "the future")
        writer.add_metadata("episode", {"format_version": "2", "id": "x"})
        writer.finish()
    with pytest.raises(EpisodeError, match="has episode format '2', this software reads '1'"):
        Episode.open(path)
    with pytest.raises(EpisodeError, match=r"no such file, so .* is not a finished episode"):
        Episode.open(tmp_path)


def test_folders_that_do_not_fit_together_are_refused(attempt) -> None:
    first, second = attempt.record(0), attempt.record(1)
    shutil.copy(first / "episode.mcap", second / "episode.mcap")
    with pytest.raises(EpisodeError, match=f"the manifest is of episode {second.name}, the file of {first.name}"):
        Episode.open(second)
    manifest = first / "manifest.json"
    content = json.loads(manifest.read_text())
    content["metadata"]["started_ns"] = "yesterday"
    manifest.write_text(json.dumps(content))
    with pytest.raises(EpisodeError, match="started_ns: expected int, found 'yesterday'"):
        Episode.open(first)
