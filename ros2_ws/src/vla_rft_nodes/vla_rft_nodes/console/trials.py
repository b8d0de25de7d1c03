"""Trials: the running study as the page shows it, and the studies that could be run. It knows code names only."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node

from vla_rft_core.errors import VlaRftError
from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.srv import JudgeTrial
from vla_rft_nodes.console.snapshot import StudyView, TrialsView, TrialView
from vla_rft_nodes.evaluator_client import EvaluatorClient
from vla_rft_trials.progress import progress as progress_of
from vla_rft_trials.records import TrialRecord
from vla_rft_trials.study import LOCKED, Study, StudyError, open_study
from vla_rft_trials.trial_log import read_log

SHOWN = 8
"""Ended trials and studies on the page."""
LOOK_AGAIN_S = 4.0
PHASES = RunTrials.Feedback
NO_STUDY = "no study is run now"


class Trials:
    """Methods may be called from any thread; those that ask the evaluator block."""

    def __init__(
        self, node: Node, *, folder: Path, available: Callable[[], bool], on_change: Callable[[], None]
    ) -> None:
        """`folder`: where studies lie, directly or one level below."""
        self._folder, self._available, self._on_change = folder, available, on_change
        self._evaluator = EvaluatorClient(node, on_feedback=self._on_feedback)
        self._reading = threading.Lock()
        self._study: Study | None = None
        self._ended: tuple[TrialView, ...] = ()
        self._studies: tuple[StudyView, ...] = ()
        self._read_at = -math.inf
        self._phase = ""
        self._was_running = False

    def start(self, study: str, *, operator: str, limit: int = 0) -> None:
        """Run what is left of a study in the folder of studies; ValueError for another path."""
        folder = (self._folder / study).resolve()
        if not folder.is_relative_to(self._folder.resolve()):
            raise ValueError(f"{study!r} is not in {self._folder}")
        if limit < 0:
            raise ValueError(f"limit: at least 0 (all that are left), got {limit}")
        self._study = open_study(folder)
        self._evaluator.start(folder, operator=operator, limit=limit)

    def pause(self) -> None:
        """No trial begins after the running one."""
        self._evaluator.pause()

    def judge(self, word: str, *, by: str, failure_mode: str = "", note: str = "") -> str:
        """A person's word about the scene or a trial: what was done, in words. ValueError when it was not heeded."""
        response = self._evaluator.judge(word, by=by, failure_mode=failure_mode, note=note)
        self._read_at = -math.inf
        if response.error_code != JudgeTrial.Response.NONE:
            raise ValueError(response.error_msg)
        return f"trial {response.trial}: {word}" if response.trial else word

    def refresh(self) -> None:
        """Read from disk what changes slowly; call it now and then, from a thread that may wait."""
        changed, self._was_running = self._evaluator.running != self._was_running, self._evaluator.running
        due = changed or time.monotonic() - self._read_at >= LOOK_AGAIN_S
        if not due or not self._reading.acquire(blocking=False):
            return
        try:
            self._read_at = time.monotonic()
            study = self._running_study()
            if study is not None:
                self._ended = ended_trials(study)
            if not self._evaluator.running:
                self._studies = studies_in(self._folder)
        finally:
            self._reading.release()

    def view(self) -> TrialsView:
        """For the page."""
        feedback, result = self._evaluator.feedback, self._evaluator.result
        running = self._evaluator.running and self._available()
        protocol = self._study.protocol if self._study is not None else None
        shown = feedback if running and feedback is not None else PHASES()
        return TrialsView(
            available=self._available(),
            running=running,
            study=protocol.title if protocol is not None else "",
            phase=shown.phase,
            trial=shown.trial,
            settled=shown.settled,
            planned=shown.planned,
            code=shown.code,
            placement=shown.placement,
            seconds=shown.seconds,
            limit_s=protocol.time_limit_s if protocol is not None else math.nan,
            similarity=shown.similarity if running else None,
            similarity_needed=protocol.scene.min_similarity if protocol is not None else 0.0,
            text=shown.text,
            failure_modes=tuple(protocol.failure_modes) if protocol is not None else (),
            ended=self._ended,
            outcome="" if running or result is None else ending_words(result),
            studies=self._studies,
        )

    def _running_study(self) -> Study | None:
        """Of the newest feedback: after a new start of this page, too."""
        feedback = self._evaluator.feedback
        named = Path(feedback.study) if feedback is not None and feedback.study else None
        if named is not None and (self._study is None or self._study.folder.resolve() != named.resolve()):
            try:
                self._study = open_study(named)
            except VlaRftError:
                self._study = None
        return self._study

    def _on_feedback(self, feedback: RunTrials.Feedback) -> None:
        changed, self._phase = feedback.phase != self._phase, feedback.phase
        if changed:
            self._read_at = -math.inf
            self._on_change()


def ended_trials(study: Study) -> tuple[TrialView, ...]:
    """The last ones, newest first, without the code names of their policies."""
    if not study.records.exists():
        return ()
    contents = read_log(study.records)
    running = {start.index for start in contents.open}
    return tuple(_trial(record) for record in contents.records[::-1] if record.index not in running)[:SHOWN]


def _trial(record: TrialRecord) -> TrialView:
    return TrialView(
        number=record.index + 1,
        outcome=str(record.outcome),
        failure_mode=record.failure_mode,
        seconds=record.seconds,
        note=record.note,
    )


def studies_in(folder: Path) -> tuple[StudyView, ...]:
    """Locked studies in the folder or one level below, those that can be run first, then the newest first."""
    found = {path.parents[1] for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{LOCKED}/manifest.json")}
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    views = [_study(path, folder) for path in newest[: 3 * SHOWN]]
    return tuple(sorted(views, key=lambda view: bool(view.problem) or view.complete)[:SHOWN])


def _study(path: Path, folder: Path) -> StudyView:
    name = str(path.relative_to(folder))
    try:
        study = open_study(path)
        if study.unlocked() is not None:
            raise StudyError("unlocked: no more trials")
        state = progress_of(study, read_log(study.records)) if study.records.exists() else None
    except VlaRftError as error:
        words = str(error).removeprefix(f"{path}: ")
        return StudyView(folder=name, title=path.name, settled=0, planned=0, complete=False, problem=words)
    return StudyView(
        folder=name,
        title=study.protocol.title,
        settled=state.settled if state is not None else 0,
        planned=len(study.plan.schedule),
        complete=state is not None and state.complete,
        problem="",
    )


def ending_words(result: RunTrials.Result) -> str:
    """How a session of trials ended."""
    if result.error_code:
        return f"it stopped: {result.error_msg}"
    state = "the study is complete" if result.complete else "paused"
    return f"{state}: {result.settled} of {result.planned} places settled"
