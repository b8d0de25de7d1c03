"""labels.jsonl: what was decided about a collection's attempts. One line per decision, fsynced, only ever appended.

The last line about an attempt says what it is; undoing is a line too. Nothing is moved or deleted anywhere.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vla_rft_core import config
from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.config import did_you_mean
from vla_rft_core.files import sync
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import is_episode_id
from vla_rft_episodes.output import write_error

FILE_NAME = "labels.jsonl"


class Label(StrEnum):
    """Whether an attempt is to be learned from."""

    KEEP = "keep"
    DISCARD = "discard"


class Outcome(StrEnum):
    """Whether the task was done."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class LabelEntry:
    """One line. Example: LabelEntry(episode="20261121T034512.123-4f2a", label=Label.KEEP, by="pedals", ...)."""

    episode: str
    """Id of the attempt."""
    label: Label | None
    """None: a decision was undone, and there was none before it."""
    outcome: Outcome
    by: str
    """Who decided."""
    note: str
    stamp_ns: int
    """When."""
    undoes: int | None = None
    """Number of the line whose decision this one takes back, from 0; None for a decision."""


class Labels:
    """The decisions about a collection's attempts. Several processes may append at once."""

    def __init__(self, collection: Path, *, clock: Clock | None = None) -> None:
        self._collection, self._path = collection, collection / FILE_NAME
        self._clock = clock or SystemClock()
        self.torn: tuple[int, ...] = ()
        """Numbers of the lines, from 0, that the last call skipped: a process died while it wrote them."""

    def append(self, episode_id: str, label: Label, outcome: Outcome, by: str, note: str = "") -> LabelEntry:
        """Decide about a finished attempt; EpisodeError when there is none of that id."""
        if not is_episode_id(episode_id) or not (self._collection / episode_id).is_dir():
            known = sorted(p.name for p in self._collection.glob("*") if is_episode_id(p.name)) or ["none"]
            raise EpisodeError(f"{self._collection}: no episode {episode_id!r}{did_you_mean(episode_id, known)}")
        now_ns = self._clock.realtime_ns()
        entry = LabelEntry(
            episode=episode_id, label=Label(label), outcome=Outcome(outcome), by=by, note=note, stamp_ns=now_ns
        )
        with self._locked() as file:
            self._add(file, entry)
        return entry

    def undo(self, by: str, *, episode_id: str | None = None) -> LabelEntry | None:
        """Take back the last decision that still stands, of all or of one attempt: the line that says what holds now.

        None when there is nothing to take back.
        """
        if not self._path.exists():
            return None
        with self._locked() as file:
            entry = _reversal(self._parse(_read_all(file)), by=by, stamp_ns=self._clock.realtime_ns(), of=episode_id)
            if entry is not None:
                self._add(file, entry)
        return entry

    def history(self) -> list[LabelEntry]:
        """Every line, oldest first."""
        if not self._path.exists():
            self.torn = ()
            return []
        with self._path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            return [entry for _, entry in self._parse(stream.read())]

    def state(self) -> dict[str, LabelEntry]:
        """Id -> what holds now; attempts without a decision are not in it."""
        last = {entry.episode: entry for entry in self.history()}
        return {episode: entry for episode, entry in last.items() if entry.label is not None}

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, for this process alone."""
        try:
            is_new = not self._path.exists()
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
            if is_new:
                sync(self._collection)
        except OSError as error:
            raise write_error(self._path, error) from None

    def _add(self, file: int, entry: LabelEntry) -> None:
        """Append a line, or nothing at all when it does not fit."""
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        line = ("\n" if torn else "") + json.dumps(config.to_mapping(entry), sort_keys=True) + "\n"
        data = line.encode()
        try:
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise

    def _parse(self, text: bytes) -> list[tuple[int, LabelEntry]]:
        """(number, entry) of every whole line."""
        entries, torn = [], []
        for number, line in enumerate(text.split(b"\n")):
            if not line:
                continue
            try:
                plain = json.loads(line)
                label = None if plain["label"] is None else Label(plain["label"])
                entries.append((number, LabelEntry(**{**plain, "label": label, "outcome": Outcome(plain["outcome"])})))
            except (ValueError, KeyError, TypeError):
                torn.append(number)
        self.torn = tuple(torn)
        return entries


def _read_all(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _reversal(entries: list[tuple[int, LabelEntry]], *, by: str, stamp_ns: int, of: str | None) -> LabelEntry | None:
    """The line that takes back the last decision standing: it repeats what held before."""
    undone = {entry.undoes for _, entry in entries}
    standing = [(n, entry) for n, entry in entries if entry.undoes is None and n not in undone]
    ours = [(n, entry) for n, entry in standing if of is None or entry.episode == of]
    if not ours:
        return None
    number, last = ours[-1]
    before = [entry for n, entry in standing if entry.episode == last.episode and n < number]
    label, outcome = (before[-1].label, before[-1].outcome) if before else (None, Outcome.UNKNOWN)
    return LabelEntry(
        episode=last.episode, label=label, outcome=outcome, by=by, note="undo", stamp_ns=stamp_ns, undoes=number
    )
