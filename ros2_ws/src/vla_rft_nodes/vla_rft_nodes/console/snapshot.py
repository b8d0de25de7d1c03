"""What the page shows, as data: one frozen dataclass per part of it, sent as JSON several times a second.

The page draws this and decides nothing. Times are ages [s] at the moment of sending: clocks of other machines differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vla_rft_nodes.console.words import Words


@dataclass(frozen=True, kw_only=True)
class ArmView:
    """Mode, lease and what they mean."""

    mode: str
    source: str
    words: Words


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One node as its own diagnostics describe it."""

    name: str
    ok: bool
    words: str
    """ "ok", its trouble, or that it is silent."""


@dataclass(frozen=True, kw_only=True)
class Vital:
    """One live figure: `Vital(name="camera", value="15.0", unit="fps", words="of 15", ok=True)`."""

    name: str
    value: str
    """"" = not known."""
    unit: str
    words: str
    ok: bool


@dataclass(frozen=True, kw_only=True)
class CheckView:
    """One line of the doctor."""

    name: str
    status: str
    """green, yellow or red."""
    words: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class DoctorView:
    """The doctor's last visit."""

    running: bool
    words: str
    """One line: what it found, or why it could not look."""
    age_s: float | None
    """None: it has not been asked."""
    checks: tuple[CheckView, ...]


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """The last attempt and what was decided about it."""

    episode: str
    quality: str
    """good, suspect, bad or "not judged"."""
    reasons: tuple[str, ...]
    duration_s: float
    frames: int
    dropped: int
    decision: str
    """kept, discarded, or "" for nothing yet."""


@dataclass(frozen=True, kw_only=True)
class CoverageView:
    """The table from above in cells: x up (away from the arm), y to the left."""

    cells: tuple[tuple[int, ...], ...]
    """Starts per cell [rows along x, columns along y], discarded ones not counted."""
    newest: tuple[int, int] | None
    """Indices of the last start that counts."""
    filled: int
    cell_cm: float


@dataclass(frozen=True, kw_only=True)
class RecordingView:
    """The recording session, or why there is none."""

    available: bool
    """recorder_node is there."""
    active: bool
    operator: str
    task: str
    prompt: str
    moment: str
    """One of `session_view.Moment`; "" without a session."""
    cue: str
    """The last thing said to be noticed."""
    lines: tuple[str, ...]
    kept: int
    goal: int
    discarded: int
    undecided: int
    per_hour: float | None
    attempt_s: float | None
    """The open attempt has lasted so long [s]; None without one."""
    attempt_dropped: int
    disk: str
    last: VerdictView | None
    coverage: CoverageView | None


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study in the folder of studies. Nothing here says which policy is which."""

    folder: str
    title: str
    settled: int
    planned: int
    complete: bool
    problem: str
    """Why it cannot be run; "" when it can."""


@dataclass(frozen=True, kw_only=True)
class TrialView:
    """One trial that has ended, blinded: without the code name of its policy."""

    number: int
    outcome: str
    failure_mode: str
    seconds: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class TrialsView:
    """The study that runs, or those that could."""

    available: bool
    """evaluator_node is there."""
    running: bool
    study: str
    """Title of the study that runs."""
    phase: str
    """One of `RunTrials.Feedback`'s; "" when none runs."""
    trial: int
    settled: int
    planned: int
    code: str
    placement: str
    seconds: float
    limit_s: float
    similarity: float | None
    similarity_needed: float
    text: str
    failure_modes: tuple[str, ...]
    ended: tuple[TrialView, ...]
    """The newest first."""
    outcome: str
    """How the last session of trials ended, in words; "" while one runs."""
    studies: tuple[StudyView, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that all pages see alike."""

    cell: str
    simulated: bool
    arm: ArmView
    nodes: tuple[NodeView, ...]
    vitals: tuple[Vital, ...]
    doctor: DoctorView
    recording: RecordingView
    trials: TrialsView
    suggested: Mapping[str, str | int]
    """Task, prompt and count for a new session."""
    holder: str
    """Who has control of this page; "" = nobody."""
    holder_at_cell: bool
    holder_absent_s: float
    viewers: int


def to_json(snapshot: Snapshot, **own: Any) -> str:
    """The snapshot with what only one page is told (`own`). JSON knows no NaN or infinity: they become null."""
    return json.dumps(_finite({"type": "state", **asdict(snapshot), "you": own}), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
