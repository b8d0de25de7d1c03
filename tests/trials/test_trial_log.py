"""The log loses nothing that was written, and refuses what it did not write."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla_rft_trials.records import Amendment, Outcome, Termination, TrialRecord, score
from vla_rft_trials.trial_log import RecordError, RecordLog, read_log

Make = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path, trial: Make, success: Make, failure: Make) -> Path:
    """A log of one success and one failure."""
    path = tmp_path / "records.jsonl"
    with RecordLog(path) as log:
        for start, finish in ((trial(0), success), (trial(1), failure)):
            log.start(start)
            log.end(finish(start))
    return path


def test_records_come_back_equal(path: Path, trial: Make, success: Make, failure: Make) -> None:
    contents = read_log(path)
    assert contents.records == (success(trial(0)), failure(trial(1)))
    assert contents.torn == ""
    assert len((path).read_text().splitlines()) == 5


def test_every_event_is_synced_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: Make, success: Make
) -> None:
    sizes: list[int] = []
    real = os.fsync

    def recording_fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    with RecordLog(tmp_path / "records.jsonl") as log:
        monkeypatch.setattr(os, "fsync", recording_fsync)
        log.start(trial(0))
        assert sizes[-1] == (tmp_path / "records.jsonl").stat().st_size
        log.end(success(trial(0)))
        assert sizes[-1] == (tmp_path / "records.jsonl").stat().st_size
    assert len(sizes) == 2


def test_a_trial_that_never_ended_reads_as_void(tmp_path: Path, trial: Make, success: Make, failure: Make) -> None:
    with RecordLog(tmp_path / "records.jsonl") as log:
        log.start(trial(0))
    (record,) = read_log(tmp_path / "records.jsonl").records
    assert record.outcome is Outcome.VOID
    assert record.termination_reason is Termination.INTERRUPTED
    assert record.ended_ns is None and record.seconds is None
    result = score((record, success(trial(1)), failure(trial(2))))
    assert (result.successes, result.counted, result.void) == (1, 2, 1)


def test_cut_at_every_byte_the_whole_lines_survive(path: Path) -> None:
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for size in range(header, len(whole), 3):
        path.write_bytes(whole[:size])
        contents = read_log(path)
        assert len(contents.records) == min(2, max(0, (whole[:size].count(b"\n")) // 2))
        assert bool(contents.torn) == (whole[size - 1 : size] != b"\n")


@pytest.mark.parametrize("cut", [3, 30, 400, 1000])
def test_a_torn_log_is_continued_and_its_torn_text_kept(path: Path, cut: int, trial: Make, success: Make) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    torn = read_log(path).torn
    with RecordLog(path) as log:
        log.start(trial(7))
        log.end(success(trial(7)))
    assert read_log(path).records[-1] == success(trial(7))
    repairs = [json.loads(line) for line in path.read_text().splitlines() if '"repair"' in line]
    assert [repair["dropped"] for repair in repairs] == [torn]


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        (2, "{not json", "line 2: not JSON"),
        (2, "[1]", "line 2: expected a JSON object"),
        (2, '{"event": "begin"}', "line 2: unknown event 'begin'; known: start, end, amend, repair"),
        (3, '"outcome": "won"', "line 3: field 'outcome' is 'won'; known: success, failure, void"),
        (3, '"seed": 41', "line 3: trial 0 does not end as the trial that started"),
        (3, '"seconds": "6"', "line 3: field 'seconds' is '6', expected float"),
        (3, '"edge_gap": NaN', "line 3: edge_gap must be finite"),
        (3, '"colour": 1, "note": ""', "line 3: unknown field 'colour'"),
        (2, '"video": "../../secret.mp4"', "line 2: video must be a path inside the study folder"),
        (1, '{"event": "log", "format": "vla_rft_trials", "version": 1}', "line 1: expected the header"),
        (3, '"note": "as I wish"', "line 3: the chain of hashes breaks here"),
    ],
)
def test_a_malformed_line_is_refused_by_number(path: Path, line: int, text: str, expected: str) -> None:
    lines = path.read_text().splitlines()
    if text[0] in "{[":
        lines[line - 1] = text
    else:
        name = text.split(":")[0] if not text.startswith('"colour"') else '"note"'
        old = next(part for part in lines[line - 1].replace("}", ",").split(", ") if part.startswith(name))
        lines[line - 1] = lines[line - 1].replace(old.rstrip(","), text)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError) as caught:
        read_log(path)
    assert f"{path}, {expected}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(path: Path) -> None:
    path.write_text(path.read_text().replace('"placement": "x +2 cm, <yaw> 86 deg", ', "", 1))
    with pytest.raises(RecordError, match="line 2: field 'placement' is missing"):
        read_log(path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        RecordLog(tmp_path / "records.jsonl"),
        pytest.raises(RecordError, match="another process is writing"),
    ):
        RecordLog(tmp_path / "records.jsonl")


def test_the_writer_refuses_what_the_reader_would(tmp_path: Path, trial: Make, success: Make) -> None:
    with RecordLog(tmp_path / "records.jsonl") as log:
        log.start(trial(0))
        with pytest.raises(RecordError, match="trial 0 is in"):
            log.start(trial(0))
        with pytest.raises(RecordError, match="trial 0 is not running as recorded"):
            log.end(replace(success(trial(0)), seed=9))
        with pytest.raises(RecordError, match="trial 1 is not running"):
            log.end(success(trial(1)))
        log.end(success(trial(0)))
    assert read_log(tmp_path / "records.jsonl").records == (success(trial(0)),)


def test_a_full_disk_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: Make, success: Make
) -> None:
    path = tmp_path / "records.jsonl"
    real = os.write
    with RecordLog(path) as log:
        log.start(trial(0))
        before = path.read_bytes()

        def half_then_full(descriptor: int, data: bytes) -> int:
            if len(data) > 40:
                return real(descriptor, data[:40])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(RecordError, match="No space left on device"):
            log.end(success(trial(0)))
        monkeypatch.undo()
        assert path.read_bytes() == before
        log.end(success(trial(0)))
    assert read_log(path).records == (success(trial(0)),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_gap": float("nan")}, "edge_gap must be finite"),
        ({"metrics": {"area": float("inf")}}, "area must be finite"),
        ({"seconds": -1.0}, "seconds must be >= 0"),
        ({"failure_mode": "drop"}, "a success has no failure mode"),
        ({"index": -1}, "trial index must be >= 0"),
        ({"video": "/elsewhere/x.mp4"}, "video must be a path inside the study folder"),
    ],
)
def test_a_record_refuses_impossible_values(
    changes: dict[str, object], message: str, trial: Make, success: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(success(trial(0)), **changes)
    assert isinstance(success(trial(0)), TrialRecord)


def amendment(index: int, outcome: Outcome, mode: str = "") -> Amendment:
    return Amendment(index=index, outcome=outcome, failure_mode=mode, by="ada", note="looked again", stamp_ns=1)


def test_amendments_add_a_word_and_undo_takes_it_back(path: Path, trial: Make, success: Make, failure: Make) -> None:
    with RecordLog(path) as log:
        log.amend(amendment(0, Outcome.FAILURE, "drop"))
        log.amend(amendment(0, Outcome.VOID))
        log.amend(amendment(1, Outcome.SUCCESS))
    assert [r.outcome for r in read_log(path).records] == [Outcome.VOID, Outcome.SUCCESS]
    assert [r.failure_mode for r in read_log(path).records] == ["", ""]
    with RecordLog(path) as log:
        assert log.undo(by="ben", stamp_ns=2).index == 1
        assert log.undo(by="ben", stamp_ns=3).outcome is Outcome.VOID
    contents = read_log(path)
    assert [(r.outcome, r.failure_mode) for r in contents.records] == [
        (Outcome.FAILURE, "drop"),
        (Outcome.FAILURE, "no grasp"),
    ]
    assert contents.original == (success(trial(0)), failure(trial(1)))
    assert [a.undoes for a in contents.amendments] == [None, None, None, 2, 1]
    with RecordLog(path) as log:
        log.undo(by="ben", stamp_ns=4)
        with pytest.raises(RecordError, match="no amendment to take back"):
            log.undo(by="ben", stamp_ns=5)
    assert read_log(path).records == contents.original


def test_only_what_has_ended_can_be_amended(path: Path, trial: Make) -> None:
    with RecordLog(path) as log:
        log.start(trial(2))
        for index in (2, 9):
            with pytest.raises(RecordError, match=f"trial {index} has not ended"):
                log.amend(amendment(index, Outcome.VOID))


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_line_taken_out_is_noticed(path: Path, line: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: line - 1] + lines[line:]))
    with pytest.raises(RecordError):
        read_log(path)


def test_a_trial_left_open_can_be_ended_by_the_next_writer(path: Path, trial: Make) -> None:
    with RecordLog(path) as log:
        log.start(trial(2))
    with RecordLog(path) as log:
        assert log.open == (trial(2),) and log.next_index == 3
        log.end(TrialRecord.interrupted(trial(2), outcome=Outcome.FAILURE, failure_mode="protective stop"))
    assert read_log(path).records[-1].outcome is Outcome.FAILURE
    assert read_log(path).open == ()
