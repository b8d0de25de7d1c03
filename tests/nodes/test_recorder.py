"""recorder_node in the simulated cell: attempts, verdicts, labels; no leak, full disk, SIGTERM, SIGKILL."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla_rft_core import manifest
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import Source
from vla_rft_episodes import channels
from vla_rft_episodes.fsck import Kind, fsck
from vla_rft_episodes.labels import Label, Labels
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import repair_attempt
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_nodes import convert
from vla_rft_nodes.recorder_client import RecorderClient

pytestmark = [pytest.mark.ros, pytest.mark.realtime]

CAMERA = "front"


class Recorder:
    """A recorder_node of its own, and its client."""

    def __init__(self, graph, collection: Path) -> None:
        self.collection = collection
        parameters = {
            "cell": "vla_rft_sim:towel_cell",
            "episodes": str(collection),
            "simulated": "true",
            "disk_needed": "0.1",
            "disk_reserve": "0.05",
        }
        pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "vla_rft_nodes.recorder_node", "--ros-args", *pairs]
        self.process = subprocess.Popen(command)
        self.client = graph.recorder_client

    def record(self, seconds: float, **request) -> RecordEpisode.Result:
        """One attempt of so many seconds."""
        self.start(**request)
        time.sleep(seconds)
        return self.client.stop()

    def start(self, **request) -> None:
        """Begin an attempt once all streams are heard."""
        goal = RecordEpisode.Goal(task="fold_towel", prompt="fold the towel in half", operator_name="test", **request)
        deadline = time.monotonic() + 20.0
        while True:
            try:
                return self.client.start(goal)
            except DeviceError as error:
                assert "heard" in str(error) and time.monotonic() < deadline, error
            time.sleep(0.2)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def graph(graph):
    """The running cell, with a client of the recorder in its node."""
    graph.make_ready()
    graph.recorder_client = RecorderClient(graph.node)
    return graph


@pytest.fixture
def recorder(graph, tmp_path: Path) -> Iterator[Recorder]:
    running = Recorder(graph, tmp_path / "episodes")
    yield running
    running.close()


def stamps(episode: Episode, topic: str) -> list[int]:
    return [message.received_ns for message in episode.messages([topic])]


def test_attempts_are_recorded_judged_labelled_and_do_not_leak(graph, recorder):
    first = recorder.record(3.0)
    assert first.error_code == first.NONE and first.termination_reason == "operator stop", first.error_msg
    assert first.dropped == 0 and first.frames > 30 and first.duration > 2.9
    assert first.quality == "bad" and any("gripper never closed" in reason for reason in first.reasons), first.reasons
    second = recorder.record(1.0)

    manifest.verify(Path(first.path), kind="episode")
    one, two = Episode.open(Path(first.path)), Episode.open(Path(second.path))
    assert one.info.ended_ns <= two.info.started_ns
    assert one.info.messages["/robot_state"] > 20.0 * first.duration
    for episode in (one, two):
        topics = {message.channel.topic for message in episode.messages()}
        needed = {channels.ROBOT_STATE, channels.color(CAMERA), channels.depth(CAMERA), channels.camera_info(CAMERA)}
        assert {channel.topic for channel in needed | channels.LATCHED | {channels.SIM_TRUTH}} <= topics
        for topic in topics:
            received = stamps(episode, topic)
            assert episode.info.started_ns <= received[0] and received[-1] <= episode.info.ended_ns, topic
        pictures = [m.stamp_ns for m in episode.messages([channels.color(CAMERA).topic])]
        assert pictures[0] >= episode.info.started_ns

    client = recorder.client
    assert client.label(first.episode, "keep", outcome="success", by="test").kept == 1
    assert client.label(second.episode, "discard", outcome="unknown", by="test").discarded == 1
    undone = client.undo(by="test")
    assert (undone.episode, undone.kept, undone.discarded) == (second.episode, 1, 0)
    assert Labels(recorder.collection).state()[first.episode].label is Label.KEEP
    assert Path(second.path).is_dir()
    with pytest.raises(DeviceError, match="no finished attempt"):
        client.label("20200101T000000.000-0000", "keep", outcome="success", by="test")
    with pytest.raises(DeviceError, match="perhaps"):
        client.label(first.episode, "perhaps", outcome="success", by="test")


def test_refusals_are_one_sentence(graph, recorder):
    recorder.start(max_duration=2.0)
    with pytest.raises(DeviceError, match="only one attempt at a time"):
        RecorderClient(graph.node).start(RecordEpisode.Goal(task="fold_towel", prompt="fold"))
    graph.until(lambda: recorder.client.result is not None, 15.0, "the attempt does not end by itself")
    assert recorder.client.result.termination_reason == "time limit"
    with pytest.raises(DeviceError, match="max_duration"):
        recorder.client.start(RecordEpisode.Goal(task="fold_towel", prompt="fold", max_duration=1e6))
    with pytest.raises(DeviceError, match="needs a task"):
        recorder.client.start(RecordEpisode.Goal())


def test_a_full_disk_ends_the_attempt_and_holds_the_arm(graph, recorder):
    graph.make_ready_here()
    recorder.start()
    resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    graph.until(lambda: graph.status.latched, 20.0, "the arm does not hold")
    assert "recorder_node" in graph.status.reason
    graph.until(lambda: recorder.client.result is not None, 10.0, "the attempt does not end")
    result = recorder.client.result
    assert result.error_code == result.DISK_FULL and "episode.mcap" in result.error_msg
    assert repair_attempt(recorder.collection / f".open-{result.episode}").path is not None
    graph.cell.recover("terminal", timeout_s=10.0)


def test_a_recorded_motion_is_replayed(graph, recorder):
    graph.make_ready()
    recorder.start()
    chunk = convert.from_chunk(graph.message(12, dx=0.008, source=Source.REPLAY))
    graph.cell.play(chunk, within_m=0.005, timeout_s=5.0)
    episode = recorder.client.stop().path
    command = [sys.executable, "-m", "vla_rft_nodes.replay", episode, "--speed", "0.5", "--json"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "add --approach" in refused.stderr, refused.stderr
    played = subprocess.run([*command, "--approach"], capture_output=True, text=True, timeout=60)
    assert played.returncode == 0, played.stderr
    outcome = json.loads(played.stdout.splitlines()[-1])
    assert outcome["held"] == "" and 0.0 < outcome["error"]["sent"]["max_mm"] < 20.0, outcome
    assert outcome["error"]["demonstration"]["max_mm"] < 20.0, outcome
    assert distance(graph, chunk) < 0.005


def distance(graph, chunk) -> float:
    """From the arm to the end of a chunk [m]."""
    return graph.cell.state().arm.T_base_tcp.distance_to(chunk.set_point(len(chunk) - 1).T_base_tcp)[0]


def test_sigterm_finishes_and_sigkill_loses_a_second_at_most(graph, recorder):
    recorder.start()
    time.sleep(1.0)
    recorder.process.terminate()
    assert recorder.process.wait(15.0) == 0
    (finished,) = recorder.collection.iterdir()
    manifest.verify(finished, kind="episode")
    assert Episode.open(finished).info.termination_reason == "signal"

    again = Recorder(graph, recorder.collection)
    try:
        again.start()
        time.sleep(1.5)
        os.kill(again.process.pid, signal.SIGKILL)
        killed_ns = time.time_ns()
    finally:
        again.close()
    assert [finding.kind for finding in fsck(recorder.collection).findings] == [Kind.TRUNCATED]
    repaired = Episode.open(repair_attempt(next(recorder.collection.glob(".open-*"))).path)
    assert killed_ns - max(stamps(repaired, "/robot_state")) < 1_000_000_000
