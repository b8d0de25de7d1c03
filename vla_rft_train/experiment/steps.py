"""Steps: commands whose inputs are other steps, and folders named after what went into them. Knows no command.

A step's key is a hash of its command lines, of the files they read that no step made, and of the keys of the steps they
read. So a step whose key has a complete record is not run again, and one that anything changed for lies elsewhere.
What was made under a key is never touched by another. Code is not part of a key: a record says which revision ran.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vla_rft_core.config import did_you_mean
from vla_rft_core.files import write_atomic
from vla_rft_core.manifest import hash_file

RECORDS, LOGS = "steps", "logs"
KEY_DIGITS = 10


@dataclass(frozen=True)
class Own:
    """A path within the step's own folder; empty: the folder itself."""

    path: str = ""
    before: str = ""
    """Written before the path: "study:="."""


@dataclass(frozen=True)
class Of:
    """A path within another step's folder."""

    step: str
    path: str = ""
    before: str = ""
    """Written before the path: "name="."""
    after: str = ""


@dataclass(frozen=True)
class Given:
    """A file or folder that no step made: its contents are part of the key."""

    path: Path

    def digest(self) -> str:
        """Of all it holds; ValueError when it is not there."""
        if not self.path.exists():
            raise ValueError(f"{self.path}: no such file or folder")
        return digest_of(self.path)


Word = str | Own | Of | Given


@dataclass(frozen=True, kw_only=True)
class Command:
    """`python -m` and these words."""

    words: tuple[Word, ...]
    makes: str = ""
    """In the own folder, made whole or not at all: where it is there, the command is not run. Empty: it goes on by
    itself with what is there."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something to be made."""

    name: str
    commands: tuple[Command, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the steps that it reads, each once."""
        read = (word.step for command in self.commands for word in command.words if isinstance(word, Of))
        return tuple(dict.fromkeys(read))

    @property
    def makes_its_folder(self) -> bool:
        """Whether a command wants to make the step's folder itself."""
        return any(word == Own() for command in self.commands for word in command.words)


class State(StrEnum):
    """Of a step."""

    DONE = "done"
    STARTED = "started"
    """Interrupted, or failed: the same command goes on."""
    MISSING = "not run"


@dataclass(frozen=True)
class Record:
    """What is known of a step's runs."""

    attempts: tuple[Mapping[str, Any], ...]
    """Each with began and ended (UTC), seconds, exit code, git revision; the last with the output's digest."""

    @property
    def done(self) -> bool:
        """Whether the last attempt brought it to its end."""
        return bool(self.attempts) and self.attempts[-1]["exit_code"] == 0

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return sum(float(attempt["seconds"]) for attempt in self.attempts)


class Plan:
    """The steps of an experiment, in an order in which they can be run, and where they lie."""

    def __init__(self, steps: Sequence[Step], out: Path) -> None:
        self.steps, self.out = {step.name: step for step in steps}, out
        if len(self.steps) != len(steps):
            raise ValueError("two steps have one name")
        self.keys: dict[str, str] = {}
        for step in steps:
            for name in step.inputs:
                if name not in self.keys:
                    raise ValueError(f"step {step.name!r} reads {name!r}, which does not come before it")
            self.keys[step.name] = self._key(step)

    def _key(self, step: Step) -> str:
        def identity(word: Word) -> Any:
            if isinstance(word, Of):
                return {"step": self.keys[word.step], "path": word.path, "around": [word.before, word.after]}
            if isinstance(word, Own):
                return {"own": word.path, "before": word.before}
            return {"given": word.digest()} if isinstance(word, Given) else word

        lines = [[identity(word) for word in command.words] for command in step.commands]
        return hashlib.sha256(json.dumps([step.name, lines]).encode()).hexdigest()[:KEY_DIGITS]

    def label(self, name: str) -> str:
        """ "sft-0-1a2b3c4d5e": of folder, record and log."""
        return f"{name}-{self.keys[name]}"

    def folder(self, name: str) -> Path:
        """What the step made, or will make."""
        return self.out / self.label(name)

    def log(self, name: str) -> Path:
        """What its commands said."""
        return self.out / LOGS / f"{self.label(name)}.log"

    def argv(self, step: Step, command: Command) -> list[str]:
        """The command's words as they are typed."""

        def typed(word: Word) -> str:
            if isinstance(word, str):
                return word
            if isinstance(word, Given):
                return str(word.path)
            if isinstance(word, Own):
                return f"{word.before}{self.folder(step.name) / word.path}"
            return f"{word.before}{self.folder(word.step) / word.path}{word.after}"

        return [typed(word) for word in command.words]

    def record(self, name: str) -> Record:
        """Of a step's attempts so far."""
        path = self._record_path(name)
        return Record(tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ())

    def note(self, name: str, *, began_s: float, exit_code: int, git: str) -> None:
        """Write down an attempt that has just ended."""
        attempt: dict[str, Any] = {
            "began": _utc(began_s),
            "ended": _utc(time.time()),
            "seconds": round(time.time() - began_s, 1),
            "exit_code": exit_code,
            "git": git,
            "commands": [["python", "-m", *self.argv(self.steps[name], c)] for c in self.steps[name].commands],
            "inputs": {step: self.label(step) for step in self.steps[name].inputs},
        }
        if exit_code == 0:
            attempt["output"] = digest_of(self.folder(name))
        attempts = [*self.record(name).attempts, attempt]
        self._record_path(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._record_path(name), (json.dumps(attempts, indent=1) + "\n").encode())

    def _record_path(self, name: str) -> Path:
        return self.out / RECORDS / f"{self.label(name)}.json"

    def state(self, name: str) -> State:
        """Whether it is there."""
        if self.record(name).done and self.folder(name).is_dir():
            return State.DONE
        return State.STARTED if self.log(name).is_file() else State.MISSING

    def needed(self, wanted: Sequence[str]) -> list[str]:
        """The steps of these names and all that they read, in order; ValueError for a name that is none."""
        for name in wanted:
            if name not in self.steps:
                raise ValueError(f"no step {name!r}{did_you_mean(name, list(self.steps))}")
        reached = set(wanted or self.steps)
        for name in reversed(self.steps):
            if name in reached:
                reached |= set(self.steps[name].inputs)
        return [name for name in self.steps if name in reached]


def digest_of(path: Path) -> str:
    """sha256 over the names and hashes of all files of a folder, or of one file."""
    if path.is_file():
        return hash_file(path).sha256
    lines = [f"{file.relative_to(path).as_posix()} {hash_file(file).sha256}" for file in sorted(_files(path))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
