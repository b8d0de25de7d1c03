"""What is in a collection and how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_rft_episodes import collection as module
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.labels import Label, Outcome

MINUTE_NS = 60_000_000_000


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    collection = Collection(tmp_path / "none")
    assert collection.episodes() == [] and collection.open_attempts() == []
    progress = collection.progress(50)
    assert (progress.kept, progress.per_hour, progress.disk_minutes) == (0, None, None)
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeError, match="is not a folder"):
        Collection(tmp_path / "file")


def test_finished_attempts_are_listed_with_what_was_decided(attempt) -> None:
    start_ns = attempt.info().started_ns
    late, early = attempt.record(started_ns=start_ns + MINUTE_NS, ticks=1), attempt.record(ticks=1)
    attempt.open(9).abandon()
    (attempt.folder / "notes.txt").write_text("not an episode")
    (attempt.folder / "__pycache__").mkdir()
    collection = Collection(attempt.folder)
    collection.labels.append(late.name, Label.KEEP, Outcome.SUCCESS, "a")
    refs = collection.episodes()
    assert [(r.id, r.kept, r.discarded, r.outcome) for r in refs] == [
        (early.name, False, False, Outcome.UNKNOWN),
        (late.name, True, False, Outcome.SUCCESS),
    ]
    assert [r.path for r in collection.episodes(kept_only=True)] == [late]
    assert refs[0].info.id == early.name and refs[0].label is None


def test_an_attempt_being_recorded_is_told_from_a_dead_one(attempt) -> None:
    dead, live = attempt.open(1), attempt.open(2)
    dead.abandon()
    found = Collection(attempt.folder).open_attempts()
    assert [(o.id, o.path, o.recording) for o in found] == [
        (dead.info.id, dead.path, False),
        (live.info.id, live.path, True),
    ]
    live.abandon()


def test_an_unreadable_attempt_is_told_and_hides_no_other(attempt) -> None:
    good, bad = attempt.record(0, ticks=1), attempt.record(1, ticks=1)
    (bad / "manifest.json").write_text("{")
    collection = Collection(attempt.folder)
    assert [ref.id for ref in collection.episodes()] == [good.name]
    assert len(collection.unreadable) == 1 and "malformed" in collection.unreadable[0]


def test_progress_counts_what_stands(attempt) -> None:
    start_ns = attempt.info().started_ns
    names = [attempt.record(i, started_ns=start_ns + i * 3 * MINUTE_NS, ticks=20).name for i in range(5)]
    collection = Collection(attempt.folder)
    collection.labels.append(names[0], Label.KEEP, Outcome.SUCCESS, "a")
    collection.labels.append(names[1], Label.KEEP, Outcome.FAILURE, "a")
    collection.labels.append(names[2], Label.DISCARD, Outcome.FAILURE, "a")
    collection.labels.append(names[3], Label.KEEP, Outcome.SUCCESS, "a")
    progress = collection.progress(50)
    counts = (progress.goal, progress.kept, progress.successes, progress.discarded, progress.unlabelled)
    assert counts == (50, 3, 2, 1, 1)
    assert progress.per_hour == pytest.approx(2 / (9 * 60) * 3600)
    collection.labels.undo("a")
    assert collection.progress(50).kept == 2


def test_the_pace_is_that_of_the_last_hour(attempt) -> None:
    start_ns = attempt.info().started_ns
    collection = Collection(attempt.folder)
    for i, minute in enumerate((0, 180, 210, 239)):  # lunch after the first
        name = attempt.record(i, started_ns=start_ns + minute * MINUTE_NS, ticks=1).name
        collection.labels.append(name, Label.KEEP, Outcome.SUCCESS, "a")
    assert collection.progress(50).per_hour == pytest.approx(2 / (59 * 60) * 3600)


def test_room_on_the_disk_is_time_at_the_present_rate(attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (attempt.record() / "episode.mcap").stat().st_size  # one second

    class Usage:
        free = size * 60 * 90

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage)
    assert Collection(attempt.folder).progress(50).disk_minutes == pytest.approx(90.0)
