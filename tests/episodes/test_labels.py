"""Decisions: appended, undone, never lost, whoever dies while writing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_rft_core.clock import ManualClock
from vla_rft_episodes import labels as module
from vla_rft_episodes.errors import DiskFullError, EpisodeError
from vla_rft_episodes.labels import Label, Labels, Outcome

ONE, TWO = "20261121T034512.123-0000", "20261121T034513.123-0001"


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    for episode in (ONE, TWO):
        (tmp_path / episode).mkdir()
    return Labels(tmp_path, clock=ManualClock())


def lines(tmp_path: Path) -> list[bytes]:
    return (tmp_path / "labels.jsonl").read_bytes().splitlines()


def test_the_last_decision_counts(labels: Labels, tmp_path: Path) -> None:
    assert labels.state() == {}
    labels.append(ONE, Label.KEEP, Outcome.SUCCESS, "pedals")
    labels.append(TWO, Label.KEEP, Outcome.UNKNOWN, "pedals")
    labels.append(ONE, Label.DISCARD, Outcome.FAILURE, "console", note="towel slipped")
    state = labels.state()
    assert (state[ONE].label, state[ONE].outcome, state[ONE].by, state[ONE].note) == (
        Label.DISCARD,
        Outcome.FAILURE,
        "console",
        "towel slipped",
    )
    assert state[TWO].label is Label.KEEP
    assert [json.loads(line)["label"] for line in lines(tmp_path)] == ["keep", "keep", "discard"]


def test_undo_takes_back_one_decision_after_the_other(labels: Labels, tmp_path: Path) -> None:
    labels.append(ONE, Label.KEEP, Outcome.SUCCESS, "a")
    labels.append(TWO, Label.KEEP, Outcome.SUCCESS, "a")
    labels.append(ONE, Label.DISCARD, Outcome.FAILURE, "a")
    undone = [labels.undo("b") for _ in range(4)]
    assert undone[3] is None
    assert [(u.episode, u.label, u.outcome, u.undoes) for u in undone if u] == [
        (ONE, Label.KEEP, Outcome.SUCCESS, 2),
        (TWO, None, Outcome.UNKNOWN, 1),
        (ONE, None, Outcome.UNKNOWN, 0),
    ]
    assert labels.state() == {}
    labels.append(TWO, Label.DISCARD, Outcome.FAILURE, "a")
    assert labels.state()[TWO].label is Label.DISCARD
    assert len(lines(tmp_path)) == 7


def test_undo_of_one_attempt_leaves_the_others(labels: Labels) -> None:
    labels.append(ONE, Label.DISCARD, Outcome.UNKNOWN, "a")
    labels.append(TWO, Label.KEEP, Outcome.UNKNOWN, "a")
    labels.undo("a", episode_id=ONE)
    assert {e: entry.label for e, entry in labels.state().items()} == {TWO: Label.KEEP}
    assert labels.undo("a", episode_id=ONE) is None


def test_nothing_to_undo_writes_nothing(labels: Labels, tmp_path: Path) -> None:
    assert labels.undo("a") is None
    assert not (tmp_path / "labels.jsonl").exists()


@pytest.mark.parametrize("episode", ["20261121T034512.123-0009", "", "../x", ".open-" + ONE])
def test_unknown_episodes_are_refused(labels: Labels, episode: str) -> None:
    with pytest.raises(EpisodeError, match="no episode"):
        labels.append(episode, Label.KEEP, Outcome.SUCCESS, "a")


def test_unknown_words_are_refused(labels: Labels) -> None:
    with pytest.raises(ValueError, match="'kept' is not a valid Label"):
        labels.append(ONE, "kept", Outcome.SUCCESS, "a")  # type: ignore[arg-type]


def test_a_torn_line_is_skipped_reported_and_not_glued_to_the_next(labels: Labels, tmp_path: Path) -> None:
    labels.append(ONE, Label.KEEP, Outcome.SUCCESS, "a")
    with (tmp_path / "labels.jsonl").open("ab") as file:
        file.write(b'{"episode": "2026')
    assert labels.state()[ONE].label is Label.KEEP and labels.torn == (1,)
    labels.append(TWO, Label.DISCARD, Outcome.FAILURE, "a")
    assert {e: entry.label for e, entry in labels.state().items()} == {ONE: Label.KEEP, TWO: Label.DISCARD}
    assert labels.torn == (1,)
    undone = labels.undo("a")
    assert undone is not None and (undone.episode, undone.undoes) == (TWO, 2)


def test_a_full_disk_leaves_no_half_line(labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels.append(ONE, Label.KEEP, Outcome.SUCCESS, "a")
    before, write = lines(tmp_path), os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: write(fd, data[:10]))
    with pytest.raises(DiskFullError, match=r"labels\.jsonl: the disk is full"):
        labels.append(TWO, Label.KEEP, Outcome.SUCCESS, "a")
    monkeypatch.undo()
    assert lines(tmp_path) == before

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module.os, "fsync", refuse)
    with pytest.raises(EpisodeError, match="Input/output error"):
        labels.append(TWO, Label.KEEP, Outcome.SUCCESS, "a")
    monkeypatch.undo()
    assert lines(tmp_path) == before


def test_two_processes_do_not_tear_each_others_lines(labels: Labels, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vla_rft_episodes.labels import *\n"
        "labels = Labels(Path(sys.argv[1]))\n"
        "for i in range(50): labels.append(sys.argv[2], Label.KEEP, Outcome.SUCCESS, 'x', note='n' * 500)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), episode]) for episode in (ONE, TWO)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(labels.history()) == 100 and labels.torn == ()
