"""What is known about one trial: how it was set up, how it ended, and what was said about it later.

Outcome and termination reason are separate: what the trial says about the policy, and what ended it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any


class Outcome(StrEnum):
    """What the trial says about the policy."""

    SUCCESS = "success"
    FAILURE = "failure"
    VOID = "void"
    """Says nothing about the policy (a fault, an interruption): not counted, but kept."""


class Termination(StrEnum):
    """What ended the trial; separate from its outcome."""

    SUCCESS_HELD = "success_held"
    TIME_LIMIT = "time_limit"
    SOURCE_DONE = "source_done"
    SAFETY_HOLD = "safety_hold"
    OPERATOR_STOP = "operator_stop"
    OPERATOR_VOID = "operator_void"
    DEVICE_FAULT = "device_fault"
    CLOCK_JUMP = "clock_jump"
    INTERRUPTED = "interrupted"


TERMINATION_MEANING: Mapping[Termination, str] = {
    Termination.SUCCESS_HELD: "the success condition held for the required time",
    Termination.TIME_LIMIT: "the time limit was reached",
    Termination.SOURCE_DONE: "the policy or expert said that it was done",
    Termination.SAFETY_HOLD: "a safety rule or watchdog latched a hold",
    Termination.OPERATOR_STOP: "the operator stopped the trial and said how it went",
    Termination.OPERATOR_VOID: "the operator declared the trial void",
    Termination.DEVICE_FAULT: "a device failed or vanished",
    Termination.CLOCK_JUMP: "the computer's clock was set during the trial",
    Termination.INTERRUPTED: "the run ended before the trial did",
}


@dataclass(frozen=True, kw_only=True)
class TrialStart:
    """What is fixed when the trial's clock starts."""

    index: int
    """0-based, over all trials of the study in the order in which they started."""
    slot: int
    """Its place in the order that was locked, 0-based."""
    study: str
    """Digest of everything locked."""
    seed: int
    placement_id: str
    placement: str
    """Where the towel lies, in words."""
    policy: str
    """Code name of what drives the arm."""
    policy_stamp: str
    """Proves, once the study is unlocked, which policy it was; says nothing until then."""
    started_ns: int
    """Stamp, CLOCK_REALTIME [ns]."""
    video: str = ""
    """Relative to the study folder, with forward slashes; empty when none is made."""
    repeats: int | None = None
    """Index of the void trial whose place this one fills."""
    similarity: float | None = None
    """Overlap of the scene with the required start, 0..1; None when it was not measured."""
    preflight: Mapping[str, str] = field(default_factory=dict)
    """What was checked just before, by name, in words."""
    calibration_id: str = ""
    """Of the cell."""

    def __post_init__(self) -> None:
        if self.index < 0:
            raise ValueError(f"trial index must be >= 0, got {self.index}")
        path = PurePosixPath(self.video)
        if path.is_absolute() or ".." in path.parts or "\\" in self.video:
            raise ValueError(f"video must be a path inside the study folder, got {self.video!r}")


@dataclass(frozen=True, kw_only=True)
class TrialRecord(TrialStart):
    """One finished (or interrupted) trial."""

    outcome: Outcome
    termination_reason: Termination
    ended_ns: int | None
    """Stamp, CLOCK_REALTIME [ns]; None when interrupted."""
    seconds: float | None
    """Duration [s] on the trial's own clock (monotonic or simulated); None when interrupted."""
    failure_mode: str = ""
    """The protocol's word for how it failed ("no grasp", "drop", ...); empty on success."""
    edge_gap: float | None = None
    """Mean distance between the edges that should meet [m]; None when it was not measured."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Parts of the success metric by name, SI units."""
    frames_dropped: int = 0
    """Camera frames that are not in the video because the encoder was behind (`VideoSummary.dropped`)."""
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    """Of the control path during the trial, by name: {"p50": 4.1, "p99": 9.0}."""
    video_sha256: str = ""
    episode: str = ""
    """Folder of the episode recorded with it, as the recorder named it; empty when none was."""
    labelled_by: str = ""
    """Who said how it went: "simulator", or a person's name."""
    note: str = ""
    """Free text: the hold's reason, the device's words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = {"seconds": self.seconds, "edge_gap": self.edge_gap, **self.metrics}
        for name, value in numbers.items():
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}; leave out what was not measured")
        if self.seconds is not None and self.seconds < 0:
            raise ValueError(f"seconds must be >= 0, got {self.seconds}")
        if self.outcome is Outcome.SUCCESS and self.failure_mode:
            raise ValueError(f"a success has no failure mode, got {self.failure_mode!r}")

    @classmethod
    def of(cls, start: TrialStart, **end: Any) -> TrialRecord:
        """The record of the trial that began as `start`; `end` holds the remaining fields."""
        return cls(**asdict(start), **end)

    @classmethod
    def interrupted(cls, start: TrialStart, **end: Any) -> TrialRecord:
        """The record of a trial whose end was never written: void, unless `end` says otherwise."""
        known = {"outcome": Outcome.VOID, "termination_reason": Termination.INTERRUPTED}
        return cls.of(start, **{**known, "ended_ns": None, "seconds": None, **end})


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A later word about a trial that has ended. The record stays; the last word that was not taken back counts."""

    index: int
    outcome: Outcome
    failure_mode: str = ""
    by: str
    note: str
    """Why."""
    stamp_ns: int
    undoes: int | None = None
    """Number of the amendment, from 0 in the log, that this one takes back; None for a word of its own."""


@dataclass(frozen=True)
class Score:
    """How many trials count, and how many of them succeeded."""

    successes: int
    counted: int
    void: int


def score(records: tuple[TrialRecord, ...]) -> Score:
    """Count outcomes; void trials are not counted."""
    outcomes = [record.outcome for record in records]
    void = outcomes.count(Outcome.VOID)
    return Score(outcomes.count(Outcome.SUCCESS), len(outcomes) - void, void)
