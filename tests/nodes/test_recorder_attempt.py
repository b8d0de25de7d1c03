"""`Attempt` without ROS: what is taken, what is counted as dropped, and how it ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from vla_rft_core.cell import find_cell
from vla_rft_episodes import channels
from vla_rft_episodes.errors import DiskFullError
from vla_rft_episodes.messages import message_class, serialize
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.synthetic import synthetic_info
from vla_rft_episodes.verdict import Verdict
from vla_rft_episodes.writer import EpisodeWriter
from vla_rft_nodes.recorder import Attempt, AttemptResult, RecorderLimits, Sample

CELL = find_cell("vla_rft_sim:towel_cell")
TEXT = serialize("std_msgs/msg/String", message_class("std_msgs/msg/String")("x"))
CHANNEL = channels.ROBOT_DESCRIPTION


class Running:
    """An attempt into a folder, and its result."""

    def __init__(self, folder: Path, *, create=None, **options) -> None:
        now_ns = time.time_ns()
        self.info = replace(synthetic_info(CELL, started_ns=now_ns), expected_hz={})
        self.results: list[AttemptResult] = []
        self.failures: list[str] = []
        make = partial(EpisodeWriter.create, folder, self.info, cell=CELL)
        options.setdefault("limits", RecorderLimits(disk_reserve_bytes=1))
        self.attempt = Attempt(
            self.info,
            partial(create, make) if create else make,
            on_end=self.results.append,
            on_failure=self.failures.append,
            **options,
        )

    def offer(self, *, channel=CHANNEL, at_ns: int | None = None, encode=None) -> None:
        now_ns = at_ns or time.time_ns()
        self.attempt.offer(Sample(channel, TEXT, now_ns, now_ns, now_ns, encode))

    def result(self) -> AttemptResult:
        assert self.attempt.join(20.0), "the attempt does not end"
        return self.results[0]


def test_only_what_is_born_between_start_and_stop_is_taken(tmp_path):
    running = Running(tmp_path)
    running.offer(at_ns=running.info.started_ns - 1)
    for _ in range(3):
        running.offer()
    running.attempt.stop("operator stop")
    running.offer()
    running.attempt.stop("time limit")
    result = running.result()
    assert result.path is not None and result.termination_reason == "operator stop"
    info = Episode.open(result.path).info
    assert info.messages == {CHANNEL.topic: 3} and info.dropped == {}
    assert not running.failures


def test_what_does_not_fit_is_counted_and_never_waits(tmp_path):
    gate = threading.Event()

    def slow(data: bytes) -> bytes:
        gate.wait(20.0)
        return data

    limits = RecorderLimits(max_waiting=6, max_pictures=4, disk_reserve_bytes=1)
    running = Running(tmp_path, create=lambda make: (gate.wait(20.0), make())[1], limits=limits)
    for _ in range(10):
        running.offer(channel=channels.color("front"), encode=slow)
    for _ in range(10):
        running.offer()
    assert running.attempt.progress().dropped == {channels.color("front").topic: 6, CHANNEL.topic: 8}
    gate.set()
    running.attempt.lost(CHANNEL, 5)
    running.attempt.stop("operator stop")
    result = running.result()
    assert (result.frames, result.dropped) == (4, 6)
    info = Episode.open(result.path).info
    assert info.messages == {channels.color("front").topic: 4, CHANNEL.topic: 2}
    assert info.dropped == {channels.color("front").topic: 6, CHANNEL.topic: 13}


def test_it_ends_by_itself_at_its_time_limit_and_at_the_disk_reserve(tmp_path):
    timed = Running(tmp_path, limits=RecorderLimits(max_duration_s=0.3, disk_reserve_bytes=1))
    assert timed.result().termination_reason == "time limit" and not timed.failures
    full = Running(tmp_path, limits=RecorderLimits(disk_reserve_bytes=1 << 60))
    result = full.result()
    assert result.disk_full and result.path is not None and "disk full" in full.failures[0]


def test_a_failing_disk_is_told_at_once_and_what_was_written_stays(tmp_path, monkeypatch):
    def write(self, *arguments, **keywords):
        raise DiskFullError("episode.mcap: the disk is full")

    monkeypatch.setattr(EpisodeWriter, "write", write)
    running = Running(tmp_path)
    running.offer()
    result = running.result()
    assert (result.path, result.disk_full, result.termination_reason) == (None, True, "disk full")
    assert running.failures == ["episode.mcap: the disk is full"]
    assert (tmp_path / f".open-{running.info.id}" / "episode.mcap").exists()


@pytest.mark.parametrize(("reason", "quality"), [("operator stop", "good"), ("signal", None)])
def test_the_verdict_is_asked_for_unless_the_process_is_ending(tmp_path, reason, quality):
    running = Running(tmp_path, judge=lambda path: Verdict("good"))
    running.offer()
    running.attempt.stop(reason)
    verdict = running.result().verdict
    assert (verdict.quality if verdict else None) == quality
