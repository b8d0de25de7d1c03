"""Episodes into datasets: what the rows mean, that no truth is read, and what is refused."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vla_rft_core import config
from vla_rft_core.action import accumulate
from vla_rft_core.errors import ManifestError, SpecMismatchError, VlaRftError
from vla_rft_core.executor import ChunkExecutor
from vla_rft_core.geometry import Pose
from vla_rft_core.sync import FreshnessLimits, assemble
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_episodes import channels, codec
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.lerobot import check, export
from vla_rft_episodes.lerobot.check import problems
from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.mcap_file import McapFile
from vla_rft_episodes.reader import Episode

MS = 1_000_000
CLOSE = 1e-6


def set_point(row: np.ndarray) -> SetPoint:
    return SetPoint(Pose(row[:3], row[3:7]), row[7])


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args([str(a) for a in arguments]))


def test_export_and_check_dataset_as_typed(recording, tmp_path, capsys):
    recording.record(1)
    recording.record(2, outcome=Outcome.FAILURE)
    recording.record(3, outcome=None)
    recording.record(4, label=Label.DISCARD)
    assert run(recording.folder, "--format", "lerobot-v3", "--fps", "10", "--out", tmp_path / "kept") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'kept'}: 1 episodes added, 1 episodes and 26 rows in all\n"
    assert run(recording.folder, "--all", "--out", tmp_path / "all") == 0
    data = Dataset.open(tmp_path / "all")
    assert [bool(data.columns(i)["next.success"][-1]) for i in range(4)] == [True, False, False, True]
    assert not any(data.columns(i)["next.success"][:-1].any() for i in range(4))
    assert check.run(argparse.Namespace(dataset=tmp_path / "all")) == 0


def test_rows_are_what_assemble_gives_on_the_grid(recording, spec, tmp_path):
    path = recording.record(1)
    export.export([recording.folder], tmp_path / "out", fps=10)
    data, episode = Dataset.open(tmp_path / "out"), Episode.open(path)
    rows, streams = data.columns(0), episode.streams()
    entries = list(episode.servo_entries())
    assert rows["stamp_ns"][0] == entries[0].stamp_ns - 1
    np.testing.assert_array_equal(np.diff(rows["stamp_ns"]), spec.control_period_ns)
    last_state_ns = max(state.arm.stamp_ns for state in episode.robot_states())
    assert 0 <= last_state_ns - rows["stamp_ns"][-1] - spec.control_period_ns < spec.control_period_ns
    for k, stamp_ns in enumerate(rows["stamp_ns"].tolist()):
        seen = assemble(stamp_ns, spec=spec, streams=streams, prompt="", limits=FreshnessLimits())
        np.testing.assert_array_equal(rows["observation.state"][k], seen.state)
        pose = seen.commanded.T_base_tcp
        np.testing.assert_array_equal(
            rows["observation.commanded"][k], [*pose.position, *pose.quaternion, seen.commanded.width]
        )
        assert rows["observation.front.stamp_ns"][k] == seen.image_stamps_ns["front"]
        assert rows["observation.state.stamp_ns"][k] == seen.state_stamp_ns
        assert rows["observation.front.age_ms"][k] == pytest.approx(seen.ages_ns["image.front"] / 1e6)
        assert rows["observation.state.age_ms"][k] == pytest.approx(seen.ages_ns["state"] / 1e6)
        shown = data.frames(0, "front", [k])[0].astype(int)
        assert np.abs(shown - seen.images["front"]).mean() < 3.0  # H.264 is not exact
        then = max((e for e in entries if e.stamp_ns <= stamp_ns + spec.control_period_ns), key=lambda e: e.stamp_ns)
        for name in ("requested", "safe", "sent"):
            there = getattr(then, name)
            expected = [*there.T_base_tcp.position, *there.T_base_tcp.quaternion, there.width]
            np.testing.assert_array_equal(rows[f"action.{name}"][k], expected)
    assert set(rows["source"]) == {"teleop"}
    assert not rows["intervention"].any()
    assert data.prompts(0) == ["fold the towel in half"] * len(rows["index"])


def test_export_to_chunk_to_executor_reproduces_the_recorded_set_points(recording, spec, tmp_path):
    path = recording.record(1)
    export.export([recording.folder], tmp_path / "out")
    rows = Dataset.open(tmp_path / "out").columns(0)
    start = set_point(rows["observation.commanded"][0])
    targets = accumulate(start, rows["action"], spec)
    begin_ns, period_ns = int(rows["stamp_ns"][0]), spec.control_period_ns
    chunk = ActionChunk.from_set_points(
        targets, stamp_ns=begin_ns, period_ns=period_ns, sequence=1, source=Source.REPLAY
    )
    executor = ChunkExecutor()
    executor.splice(chunk, now_ns=begin_ns, reference=start)
    moved = 0.0
    for k, recorded in enumerate(map(set_point, rows["action.sent"])):
        played = executor.sample(begin_ns + (k + 1) * period_ns - 1)  # at the very moment the next width is due
        metres, radians = played.set_point.T_base_tcp.distance_to(recorded.T_base_tcp)
        assert metres < CLOSE
        assert radians < CLOSE
        assert abs(played.set_point.width - recorded.width) < CLOSE
        moved += float(np.linalg.norm(rows["action"][k, :3]))
    assert moved > 0.2  # a motion, not a rest
    sent = {entry.stamp_ns: entry.sent for entry in Episode.open(path).servo_entries()}
    assert set(np.unique(rows["action"][:, 6]).round(3)) >= {np.float32(0.08), np.float32(0.02)}
    assert len(sent) > len(rows["action"])


def test_no_truth_reaches_a_dataset_nor_is_read(recording, make_motion, files, tmp_path, monkeypatch):
    read: list[str] = []

    def spy(original):
        def call(self, topics):
            assert topics is not None
            read.extend([topics] if isinstance(topics, str) else topics)
            return original(self, topics)

        return call

    monkeypatch.setattr(McapFile, "messages", spy(McapFile.messages))
    monkeypatch.setattr(McapFile, "refs", spy(McapFile.refs))
    recording.record(1, messages=make_motion(1))
    export.export([recording.folder], tmp_path / "without")
    shutil.rmtree(recording.folder)
    path = recording.record(1, messages=make_motion(1, truth=True))
    assert channels.SIM_STATE in Episode.open(path).counts
    export.export([recording.folder], tmp_path / "with")
    assert read
    assert not [topic for topic in read if topic.startswith(channels.TRUTH_PREFIX)]
    without, with_truth = files(tmp_path / "without"), files(tmp_path / "with")
    assert without.pop("meta/provenance.json") != with_truth.pop("meta/provenance.json")  # hashes of the episodes
    assert without == with_truth


def test_exporting_again_adds_what_is_new_and_touches_nothing_else(recording, files, tmp_path):
    recording.record(1)
    export.export([recording.folder], tmp_path / "out")
    before = files(tmp_path / "out")
    assert export.export([recording.folder], tmp_path / "out").added == ()
    assert files(tmp_path / "out") == before
    recording.record(2)
    done = export.export([recording.folder], tmp_path / "out")
    assert (len(done.added), done.episodes, done.rows) == (1, 2, 52)
    after = files(tmp_path / "out")
    old = [name for name in before if not name.startswith("meta/") or name.startswith("meta/episodes")]
    assert all(after[name] == before[name] for name in old)
    export.export([recording.folder], tmp_path / "whole")
    assert files(tmp_path / "whole") == after
    assert list(problems(Dataset.open(tmp_path / "out"))) == []


def test_a_take_over_is_an_intervention(recording, make_motion, tmp_path):
    messages = []
    for channel, data, stamp_ns, received_ns in make_motion(1):
        if channel == channels.SERVO_REPORT:
            entry = codec.decode_servo_report(data)
            first_half = entry.stamp_ns < 1_795_000_000_000_000_000 + 1500 * MS
            data = codec.encode_servo_report(replace(entry, source="policy" if first_half else "teleop"))
        messages.append((channel, data, stamp_ns, received_ns))
    recording.record(1, messages=messages, source="policy")
    export.export([recording.folder], tmp_path / "out")
    rows = Dataset.open(tmp_path / "out").columns(0)
    assert set(rows["source"]) == {"policy", "teleop"}
    np.testing.assert_array_equal(rows["intervention"], rows["source"] == "teleop")


def without(channel, after_ms=0):
    """A change of messages: none on a channel from some time on."""
    limit_ns = 1_795_000_000_000_000_000 + after_ms * MS
    return lambda messages: [m for m in messages if m[0] != channel or m[2] < limit_ns]


def stamps_back(messages):
    k = next(i for i, m in enumerate(messages) if m[0] == channels.ROBOT_STATE and i > 100)
    channel, data, stamp_ns, received_ns = messages[k]
    return [*messages[:k], (channel, data, stamp_ns - 500 * MS, received_ns), *messages[k + 1 :]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without(channels.SERVO_REPORT), "has no row, as no source ever moved the arm"),
        (without(channels.color("front")), "has no row, as no observation was complete"),
        (without(channels.color("front"), 1500), r"image of 'front' is 0\.\d+ s old \(limit 0\.5 s\)"),
        (stamps_back, r"stamps of /robot_state are not monotonic, one goes back by 0\.4\d+ s"),
    ],
)
def test_episodes_without_honest_rows_are_refused_and_nothing_is_written(
    change, sentence, recording, make_motion, files, tmp_path
):
    recording.record(1)
    export.export([recording.folder], tmp_path / "out")
    before = files(tmp_path / "out")
    recording.record(2, messages=change(make_motion(2)))
    with pytest.raises(LerobotError, match=rf"^episode 20261121T034502\.123-4f2a: .*{sentence}"):
        export.export([recording.folder], tmp_path / "out")
    assert files(tmp_path / "out") == before
    with pytest.raises(LerobotError, match=sentence):
        export.export([recording.folder], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_two_robots_in_one_dataset_are_refused(recording, spec, tmp_path):
    recording.record(1)
    other = replace(spec, home=replace(spec.home, width=0.07))
    recording.record(2, spec=config.to_mapping(other))
    with pytest.raises(SpecMismatchError, match=r"differs in home\.width: episode \S+1\.123-4f2a has 0\.08, episode"):
        export.export([recording.folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_id_in_two_collections_is_refused(recording, tmp_path):
    recording.record(1)
    shutil.copytree(recording.folder, tmp_path / "copy")
    with pytest.raises(LerobotError, match=r"episode 20261121T034501\.123-4f2a is in .*collection and in .*copy"):
        export.export([recording.folder, tmp_path / "copy"], tmp_path / "out")


@pytest.mark.parametrize(
    ("fps", "sentence"),
    [
        (0, "--fps must be positive, got 0"),
        (-10, "--fps must be positive, got -10"),
        (float("nan"), "--fps must be positive, got nan"),
        (30, r"--fps 30: spec 'rizon4s-gn01-towel' has control_period_s 0\.1, so 10 rows per second"),
    ],
)
def test_rates_other_than_the_specs_are_refused(fps, sentence, recording, tmp_path):
    recording.record(1)
    with pytest.raises(ValueError, match=sentence):
        export.export([recording.folder], tmp_path / "out", fps=fps)
    assert not (tmp_path / "out").exists()


def test_a_rate_that_lerobot_cannot_say_is_refused(recording, spec, tmp_path):
    recording.record(1, spec=config.to_mapping(replace(spec, control_period_s=0.15)))
    with pytest.raises(ValueError, match="LeRobot's fps is a whole number"):
        export.export([recording.folder], tmp_path / "out")


def test_truncated_and_altered_episodes_are_refused(recording, tmp_path):
    path = recording.record(1)
    file = path / "episode.mcap"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ManifestError, match=r"episode\.mcap: was altered since the manifest was written"):
        export.export([recording.folder], tmp_path / "out")
    (path / "manifest.json").unlink()
    with pytest.raises(VlaRftError, match="was never finished"):
        export.export([recording.folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_decisions_changed_since_the_export_are_refused(recording, tmp_path):
    path = recording.record(1)
    recording.record(2)
    export.export([recording.folder], tmp_path / "kept")
    export.export([recording.folder], tmp_path / "all", everything=True)
    Labels(recording.folder).append(path.name, Label.KEEP, Outcome.FAILURE, "tester")
    with pytest.raises(LerobotError, match="is no kept success any more; export into a new folder"):
        export.export([recording.folder], tmp_path / "kept")
    with pytest.raises(LerobotError, match="was exported as success, it is failure"):
        export.export([recording.folder], tmp_path / "all", everything=True)


def test_nothing_to_export_is_said(recording, tmp_path):
    recording.record(1, outcome=Outcome.FAILURE)
    with pytest.raises(LerobotError, match="none of 1 finished attempts is a kept success; --all takes the rest too"):
        export.export([recording.folder], tmp_path / "out")
    with pytest.raises(LerobotError, match="no such collection"):
        export.export([tmp_path / "nowhere"], tmp_path / "out")
