"""Writing an attempt: atomic, recoverable, the same bytes every time, readable by others."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from vla_rft_core import manifest
from vla_rft_core.clock import ManualClock
from vla_rft_episodes import channels, codec, messages, output
from vla_rft_episodes.errors import DiskFullError, EpisodeError
from vla_rft_episodes.info import EpisodeInfo, new_episode_id
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.salvage import Salvage
from vla_rft_episodes.verdict import Verdict
from vla_rft_episodes.writer import FLUSH_NS, EpisodeWriter


def messages_in(path: Path) -> int:
    """How many messages can be recovered from a file."""
    return sum(type(record).__name__ == "Message" for record in Salvage(path).records())


def state_bytes(attempt, i: int) -> bytes:
    return codec.encode_robot_state(attempt.state_at(i))


def test_a_finished_attempt_is_whole(attempt) -> None:
    folder = attempt.record()
    assert folder == attempt.folder / attempt.info().id
    assert [p.name for p in attempt.folder.iterdir()] == [folder.name]
    found = manifest.verify(folder, kind="episode")
    info = EpisodeInfo.from_plain(found.metadata, "manifest")
    assert info.messages == {
        "/robot_state": 100,
        channels.color("front").topic: 10,
        channels.depth("front").topic: 10,
    }
    assert (info.termination_reason, info.duration_s, info.prompt) == ("operator stop", 1.0, "fold the towel in half")


def test_others_read_it(attempt) -> None:
    path = attempt.record() / "episode.mcap"
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        attached = {a.name: a.data for a in reader.iter_attachments()}
        record = next(reader.iter_metadata())
        schema = next(s for s in reader.get_summary().schemas.values() if s.name.endswith("RobotState"))
        count = sum(1 for _ in reader.iter_messages())
    assert count == 120
    assert attached == {p.name: p.read_bytes() for p in attempt.cell.path.glob("*.yaml")}
    assert (record.name, record.metadata["task"], record.metadata["operator"]) == ("episode", "fold_towel", "tester")
    assert schema.encoding == "ros2msg" and b"gripper_width" in schema.data
    with AnyReader([path]) as bag:
        seen = {c.topic: bag.deserialize(raw, c.msgtype) for c, _, raw in bag.messages()}
        reliability = {c.topic: c.ext.offered_qos_profiles[0].reliability.name for c in bag.connections}
    assert seen["/robot_state"].gripper_width == attempt.state_at(99).gripper.width
    assert reliability == {
        "/robot_state": "RELIABLE",
        channels.color("front").topic: "BEST_EFFORT",
        channels.depth("front").topic: "BEST_EFFORT",
    }


def test_the_same_messages_give_the_same_bytes(attempt, cell, tmp_path: Path) -> None:
    first = attempt.record()
    writer = EpisodeWriter.create(tmp_path / "other", attempt.info(), cell=cell, clock=ManualClock())
    attempt.fill(writer)
    second = writer.finish(ended_ns=attempt.info().started_ns + 1_000_000_000, termination_reason="operator stop")
    for name in ("episode.mcap", "manifest.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    now_ns = 1_795_000_000_123_456_789
    ids = [new_episode_id(now_ns) for _ in range(1000)]
    assert len(set(ids)) == 1000 and {text[:19] for text in ids} == {"20261118T110640.123"}
    assert new_episode_id(now_ns + 1_000_000) > max(ids)


def test_an_id_is_used_once(attempt) -> None:
    writer = attempt.open()
    with pytest.raises(EpisodeError, match="is open already"):
        attempt.open()
    writer.finish(ended_ns=attempt.info().started_ns, termination_reason="signal")
    with pytest.raises(EpisodeError, match="exists already"):
        attempt.open()


def test_what_was_received_half_a_second_ago_is_in_the_file(attempt) -> None:
    writer = attempt.open(clock=ManualClock())
    attempt.fill(writer, ticks=120)  # 1.2 s
    assert messages_in(writer.path / "episode.mcap") >= 100
    writer.abandon()


def test_a_live_recorder_flushes_by_its_own_clock(attempt) -> None:
    clock = ManualClock()
    writer = attempt.open(clock=clock)
    writer.write(channels.ROBOT_STATE, state_bytes(attempt, 0), stamp_ns=1, received_ns=1)
    writer.flush_if_due()
    assert messages_in(writer.path / "episode.mcap") == 0
    clock.advance(FLUSH_NS)
    writer.flush_if_due()
    assert messages_in(writer.path / "episode.mcap") == 1
    writer.abandon()


def test_the_disk_is_waited_for_once_a_second(attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits = ManualClock(), []
    writer = attempt.open(clock=clock)
    monkeypatch.setattr(output.os, "fdatasync", lambda fd: waits.append(clock.now_ns))
    for i in range(30):
        writer.write(channels.ROBOT_STATE, state_bytes(attempt, i), stamp_ns=i, received_ns=i)
        clock.advance(100_000_000)
        writer.flush_if_due()
    assert len(waits) in (2, 3)
    writer.abandon()


def test_abandoning_leaves_what_was_flushed_and_refuses_more(attempt) -> None:
    writer = attempt.open()
    attempt.fill(writer)
    writer.abandon()
    assert writer.path.name.startswith(".open-")
    assert messages_in(writer.path / "episode.mcap") >= 50
    with pytest.raises(EpisodeError, match="was abandoned"):
        writer.write(channels.ROBOT_STATE, b"", stamp_ns=1, received_ns=1)
    with pytest.raises(EpisodeError, match="was abandoned"):
        writer.finish(ended_ns=2, termination_reason="signal")


def test_a_verdict_is_asked_of_the_closed_file_and_kept(attempt) -> None:
    writer = attempt.open()
    attempt.fill(writer)
    verdict = Verdict("suspect", ("too short",), {"duration_s": 1.0})

    def judge(path: Path) -> Verdict:
        assert Episode.open(path).info.termination_reason == "time limit"
        return verdict

    folder = writer.finish(ended_ns=attempt.info().started_ns + 5, termination_reason="time limit", verdict=judge)
    assert Episode.open(folder).info.verdict == verdict


def test_an_attempt_that_cannot_be_judged_is_kept_all_the_same(attempt) -> None:
    writer = attempt.open()

    def judge(path: Path) -> Verdict:
        raise EpisodeError("nothing in it")

    folder = writer.finish(ended_ns=attempt.info().started_ns, termination_reason="signal", verdict=judge)
    verdict = Episode.open(folder).info.verdict
    assert verdict is not None and (verdict.quality, verdict.reasons) == (
        "suspect",
        ("could not be judged: nothing in it",),
    )


def test_drops_are_counted(attempt) -> None:
    writer = attempt.open()
    writer.dropped(channels.color("front"), 2)
    writer.dropped(channels.color("front"), 1)
    writer.dropped(channels.ROBOT_STATE, 0)
    folder = writer.finish(ended_ns=attempt.info().started_ns, termination_reason="signal")
    assert Episode.open(folder).info.dropped == {channels.color("front").topic: 3}


def test_a_wrong_message_is_refused_and_the_attempt_goes_on(attempt) -> None:
    writer = attempt.open()
    writer.write(channels.ROBOT_STATE, state_bytes(attempt, 0), stamp_ns=1, received_ns=1)
    with pytest.raises(EpisodeError, match=r"was recorded as .*RobotState, now comes as std_msgs"):
        writer.write(channels.Channel("/robot_state", "std_msgs/msg/String"), b"", stamp_ns=1, received_ns=1)
    with pytest.raises(EpisodeError, match="no message type"):
        writer.write(channels.Channel("/x", "std_msgs/msg/Strnig"), b"", stamp_ns=1, received_ns=1)
    with pytest.raises(EpisodeError, match="must not be negative"):
        writer.write(channels.ROBOT_STATE, b"", stamp_ns=-1, received_ns=1)
    folder = writer.finish(ended_ns=attempt.info().started_ns, termination_reason="signal")
    assert len(list(Episode.open(folder).messages())) == 1


@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_apart_and_nothing_follows(attempt, monkeypatch, cause: int) -> None:
    writer = attempt.open()
    attempt.fill(writer)
    before = messages_in(writer.path / "episode.mcap")
    real = os.write
    monkeypatch.setattr(output.os, "write", lambda fd, data: _fail_after(real, fd, data, cause))
    with pytest.raises(DiskFullError, match=r"episode\.mcap: the disk is full"):
        writer.finish(ended_ns=attempt.info().started_ns, termination_reason="operator stop")
    monkeypatch.undo()
    with pytest.raises(EpisodeError, match=r"nothing more is written after: .*the disk is full"):
        writer.write(channels.ROBOT_STATE, state_bytes(attempt, 0), stamp_ns=1, received_ns=1)
    writer.abandon()
    assert messages_in(writer.path / "episode.mcap") >= before


def _fail_after(real, fd: int, data, cause: int) -> int:
    """Half of it fits."""
    if len(data) < 100:
        raise OSError(cause, os.strerror(cause))
    return real(fd, data[: len(data) // 2])


def test_another_failure_is_no_full_disk(attempt, monkeypatch) -> None:
    writer = attempt.open()

    def broken(fd: int, data: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(output.os, "write", broken)
    with pytest.raises(EpisodeError, match="Input/output error") as caught:
        writer.finish(ended_ns=attempt.info().started_ns, termination_reason="operator stop")
    assert not isinstance(caught.value, DiskFullError)
    writer.abandon()


RECORDER = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import fill, info_for
from vla_rft_core.cell import find_cell
from vla_rft_episodes.errors import DiskFullError
from vla_rft_episodes.writer import EpisodeWriter

cell = find_cell("vla_rft_sim:towel_cell")
writer = EpisodeWriter.create(Path({folder!r}), info_for(cell), cell=cell)
{then}
"""


def run_recorder(folder: Path, then: str) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).parent)
    code = RECORDER.format(tests=tests, folder=str(folder), then=textwrap.dedent(then))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_limit_on_the_files_size_is_a_full_disk(tmp_path: Path) -> None:
    limit = 60_000
    done = run_recorder(
        tmp_path,
        f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            fill(writer, 10_000)
        except DiskFullError as error:
            print("full:", error)
        """,
    )
    assert done.stdout.startswith("full:") and "File too large" in done.stdout, done.stderr
    (path,) = tmp_path.glob(".open-*/episode.mcap")
    assert path.stat().st_size == limit
    assert messages_in(path) > 100


def test_a_killed_recorder_leaves_an_open_attempt(tmp_path: Path) -> None:
    done = run_recorder(tmp_path, "fill(writer, 200)\nimport os\nos.kill(os.getpid(), 9)")
    assert done.returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith(".open-")
    assert messages_in(folder / "episode.mcap") >= 180


def test_the_lock_tells_who_is_recording(attempt) -> None:
    writer = attempt.open()
    path = writer.path / "episode.mcap"
    assert output.is_being_written(path)
    writer.abandon()
    assert not output.is_being_written(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, attempt, cell) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeError, match="file"):
        EpisodeWriter.create(tmp_path / "file", attempt.info(), cell=cell)


def test_info_is_plain_data_and_checked(attempt) -> None:
    info = attempt.info()
    plain = json.loads(json.dumps(info.to_plain()))
    assert EpisodeInfo.from_plain(plain, "here") == info
    assert info.robot_spec == attempt.cell.spec
    with pytest.raises(ValueError, match="here: unknown field 'promt'; did you mean 'prompt'"):
        EpisodeInfo.from_plain({**plain, "promt": ""}, "here")
    with pytest.raises(ValueError, match="id: expected one like"):
        EpisodeInfo.from_plain({**plain, "id": "../x"}, "here")


def test_channels_below_sim_are_truth() -> None:
    assert channels.SIM_TRUTH.is_truth and channels.SIM_STATE.is_truth
    assert not channels.color("sim").is_truth
    assert messages.type_hash(channels.SIM_STATE.type) != messages.type_hash(channels.SIM_TRUTH.type)
