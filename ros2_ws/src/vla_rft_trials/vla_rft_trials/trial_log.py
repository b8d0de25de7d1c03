"""The trial log: one JSON line when a trial starts and one when it ends, each on disk before the call returns.

A process killed at any moment loses no earlier line. Append-only: nothing is rewritten, and a trial that started but
never ended reads as void. Does not know how trials are run or judged.

    {"event": "log", "format": "vla_rft_trials", "version": 2, "chain": "..."}
    {"event": "start", "index": 0, "slot": 0, "seed": 4, "placement": "x 0.52 m, ...", "policy": "B", ...}
    {"event": "end", "index": 0, ..., "outcome": "success", "termination_reason": "success_held", "seconds": 6.1, ...}
    {"event": "amend", "index": 0, "outcome": "void", "by": "ada", "note": "the camera was bumped", ...}

`chain` is a hash over the line and the chain of the line before: a line that was changed or taken out is noticed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import sync
from vla_rft_trials.records import Amendment, TrialRecord, TrialStart
from vla_rft_trials.schema import SchemaError, parse

HEADER = {"event": "log", "format": "vla_rft_trials", "version": 2}


class RecordError(VlaRftError):
    """The log cannot be read or written; one sentence with the file and, where it applies, the line."""


@dataclass(frozen=True)
class LogContents:
    """What a log says."""

    records: tuple[TrialRecord, ...]
    """In the order in which they started, with the last word about each."""
    torn: str = ""
    """A last line that was cut short while being written; empty when there is none. It is not counted."""
    original: tuple[TrialRecord, ...] = ()
    """The same as they ended, before any amendment."""
    amendments: tuple[Amendment, ...] = ()
    open: tuple[TrialStart, ...] = ()
    """Trials that started and whose end was never written."""
    chain: str = ""
    """Of the last whole line."""


@dataclass
class _Reading:
    """What is known after some lines."""

    started: dict[int, TrialStart] = field(default_factory=dict)
    ended: dict[int, TrialRecord] = field(default_factory=dict)
    amendments: list[Amendment] = field(default_factory=list)
    chain: str = ""

    def contents(self, torn: str) -> LogContents:
        original = tuple(self.ended.get(i) or TrialRecord.interrupted(start) for i, start in self.started.items())
        return LogContents(
            records=tuple(_amended(record, standing(self.amendments, record.index)) for record in original),
            torn=torn,
            original=original,
            amendments=tuple(self.amendments),
            open=tuple(start for i, start in self.started.items() if i not in self.ended),
            chain=self.chain,
        )


def standing(amendments: Sequence[Amendment], index: int) -> Amendment | None:
    """The last amendment of a trial that was not taken back; None when it is as it ended."""
    undone = {amendment.undoes for amendment in amendments}
    found = [a for n, a in enumerate(amendments) if a.index == index and a.undoes is None and n not in undone]
    return found[-1] if found else None


def _amended(record: TrialRecord, word: Amendment | None) -> TrialRecord:
    return record if word is None else replace(record, outcome=word.outcome, failure_mode=word.failure_mode)


def read_log(path: Path) -> LogContents:
    """Read a log; a torn last line is reported, anything else that is malformed raises RecordError."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    *lines, torn = text.split("\n")
    reading = _Reading()
    for number, line in enumerate(lines, start=1):
        try:
            _take_event(json.loads(line), reading, first=number == 1)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}, line {number}: not JSON ({error.msg})") from error
        except SchemaError as error:
            raise RecordError(f"{path}, line {number}: {error}") from error
    return reading.contents(torn)


def _take_event(event: object, reading: _Reading, *, first: bool) -> None:
    """Add one decoded line to what is known; SchemaError when it does not belong there."""
    if not isinstance(event, dict):
        raise SchemaError(f"expected a JSON object, got {event!r}")
    content = {name: value for name, value in event.items() if name not in ("event", "chain")}
    if first:
        if {"event": event.get("event"), **content} != HEADER:
            raise SchemaError(f"expected the header {json.dumps(HEADER)}, so this is no log of this version")
    else:
        _take_content(event.get("event"), content, reading)
    expected = _chained(reading.chain, {name: value for name, value in event.items() if name != "chain"})
    if event.get("chain") != expected:
        raise SchemaError("the chain of hashes breaks here: this line, or one before it, was changed or taken out")
    reading.chain = expected


def _take_content(kind: object, content: dict[str, Any], reading: _Reading) -> None:
    started, ended = reading.started, reading.ended
    match kind:
        case "start":
            start = parse(TrialStart, content)
            if start.index in started:
                raise SchemaError(f"trial {start.index} starts a second time")
            started[start.index] = start
        case "end":
            record = parse(TrialRecord, content)
            if record.index in ended or record.index not in started:
                raise SchemaError(f"trial {record.index} ends, but no such trial is running")
            if _start_of(record) != started[record.index]:
                raise SchemaError(f"trial {record.index} does not end as the trial that started")
            ended[record.index] = record
        case "amend":
            amendment = parse(Amendment, content)
            if amendment.index not in ended:
                raise SchemaError(f"trial {amendment.index} is amended, but no such trial has ended")
            reading.amendments.append(amendment)
        case "repair":
            if set(content) != {"dropped"}:
                raise SchemaError("a repair has the one field 'dropped'")
        case other:
            raise SchemaError(f"unknown event {other!r}; known: start, end, amend, repair")


def _start_of(record: TrialRecord) -> TrialStart:
    return TrialStart(**{f.name: getattr(record, f.name) for f in fields(TrialStart)})


def _chained(before: str, event: Mapping[str, Any]) -> str:
    text = before + json.dumps(event, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class RecordLog:
    """The one writer of a log. Opening an existing log continues it; a second writer is refused.

    A torn last line of an earlier, killed writer is moved into a `repair` event, so that its text is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started: dict[int, TrialStart | None] = {}
        """By index every trial there is; None once it has ended."""
        self._amendments: list[Amendment] = []
        self._chain = ""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._continue()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordError(f"another process is writing {self.path}") from error

    def _continue(self) -> None:
        """Check what is there, write the header of a new log, close a torn line."""
        if os.fstat(self._descriptor).st_size == 0:
            self._append(HEADER)
            sync(self.path.parent)
            return
        contents = read_log(self.path)
        self._started = {record.index: None for record in contents.records}
        self._started |= {start.index: start for start in contents.open}
        self._amendments, self._chain = list(contents.amendments), contents.chain
        if contents.torn:
            raw = self.path.read_bytes()
            os.ftruncate(self._descriptor, raw.rfind(b"\n") + 1)
            if raw.count(b"\n") == 0:
                self._append(HEADER)
            self._append({"event": "repair", "dropped": contents.torn})

    @property
    def next_index(self) -> int:
        """Of the next trial."""
        return max(self._started, default=-1) + 1

    @property
    def open(self) -> tuple[TrialStart, ...]:
        """Trials that have not ended: running, or left open by a writer that was killed."""
        return tuple(start for start in self._started.values() if start is not None)

    def start(self, trial: TrialStart) -> None:
        """Record that `trial` begins."""
        if trial.index in self._started:
            raise RecordError(f"trial {trial.index} is in {self.path} already and is not run again")
        self._append({"event": "start", **asdict(trial)})
        self._started[trial.index] = trial

    def end(self, record: TrialRecord) -> None:
        """Record how the trial that was started as this one ended."""
        if self._started.get(record.index) != _start_of(record):
            raise RecordError(f"trial {record.index} is not running as recorded in {self.path}, so it cannot end")
        self._append({"event": "end", **asdict(record)})
        self._started[record.index] = None

    def amend(self, amendment: Amendment) -> None:
        """Add a later word about a trial that has ended."""
        if self._started.get(amendment.index, amendment) is not None:
            raise RecordError(f"trial {amendment.index} has not ended in {self.path}, so it cannot be amended")
        self._append({"event": "amend", **asdict(amendment)})
        self._amendments.append(amendment)

    def undo(self, *, by: str, stamp_ns: int) -> Amendment:
        """Take back the last amendment that stands; RecordError when there is none."""
        undone = {amendment.undoes for amendment in self._amendments}
        left = [n for n, a in enumerate(self._amendments) if a.undoes is None and n not in undone]
        if not left:
            raise RecordError(f"there is no amendment to take back in {self.path}")
        last = self._amendments[left[-1]]
        self.amend(replace(last, by=by, note="undo", stamp_ns=stamp_ns, undoes=left[-1]))
        return last

    def _append(self, event: Mapping[str, Any]) -> None:
        """One whole line on disk, or (disk full) none of it and RecordError."""
        chain = _chained(self._chain, event)
        rest = memoryview((json.dumps({**event, "chain": chain}, allow_nan=False) + "\n").encode())
        size = os.fstat(self._descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise RecordError(f"cannot write {self.path}: {error.strerror}") from error
        self._chain = chain

    def close(self) -> None:
        """Release the log; all of it is on disk already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
