"""Session: attempt after attempt with an operator: home, cue, record, verdict, keep or discard. Keys decide everything.

→ (keep) ends an attempt and keeps it, ← (discard) ends and discards it, u (undo) takes the last decision back, Esc
(stop) ends the session. It talks to robot and recorder through their clients and knows neither keyboards nor files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.types import Source
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.labels import Label, Outcome
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.recorder_client import AttemptOpenError, RecorderClient
from vla_rft_nodes.session_view import Moment, SessionView

KEEP, DISCARD, UNDO, STOP = "keep", "discard", "undo", "stop"
POLL_S = 0.1
RELEASE_S = 2.0
ENDING_S = 1.0
"""Given to another's attempt to be written out before the next is started."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What is recorded, and how much of it."""

    task: str
    prompt: str
    operator: str
    count: int
    """The session ends when the collection has so many kept attempts."""
    start_device: bool = False
    """Give teleoperation the lease at the start of each attempt (the scripted expert has no dead-man to press)."""
    attended: bool = False
    """In simulation, too, somebody presses → before each attempt."""


@dataclass(frozen=True)
class SimulatedTable:
    """What stands in for a person laying out the towel and looking at the result, in simulation."""

    reset: Callable[[], str]
    """Lays the towel out afresh: where it lies, in words."""
    success: Callable[[], bool]
    """Whether the towel is folded now."""


class Keys(Protocol):
    """What the operator presses: recorder keys in order."""

    driving: bool
    """While it is set, other keys may move the arm."""
    origin: str
    """Where the last key was pressed, as `Rearm` names it: terminal, pedal, loopback."""

    def next(self, timeout_s: float) -> str | None:
        """The next key, or None when none came in time."""


class Session:
    """Run once. `table` is None where a person stands at the table."""

    def __init__(
        self,
        cell: CellClient,
        recorder: RecorderClient,
        keys: Keys,
        *,
        view: SessionView,
        options: SessionOptions,
        table: SimulatedTable | None,
    ) -> None:
        self._cell, self._recorder, self._keys = cell, recorder, keys
        self._view, self._options, self._table = view, options, table
        self._attended = options.attended or table is None
        self._number = self._kept = 0
        self._last: RecordEpisode.Result | None = None
        self._stopped = False

    def run(self) -> None:
        """Until enough attempts are kept or the operator stops. DeviceError when recorder or terminal is gone."""
        options = self._options
        self._tell(f"{options.task}: {options.prompt!r}, by {options.operator}, until {options.count} are kept")
        self._tell("→ keep and next   ← discard and again   u undo   Esc stop")
        while not self._stopped and self._kept < options.count:
            if self._prepare():
                self._attempt()
        self._view.moment(Moment.ENDED)
        self._tell("session ended" if self._stopped else f"done: {self._kept} attempts are kept")

    # --- between attempts ---------------------------------------------------------------------------------------

    def _prepare(self) -> bool:
        """Arm at home, towel laid out, operator ready; False when the session is to end."""
        while not self._stopped:
            try:
                if self._go_home() and self._lay_out():
                    return True
            except (DeviceError, ModeError) as error:
                self._tell(f"not ready: {error}")
                self._confirm("→ try again")
        return False

    def _go_home(self) -> bool:
        """Guarded and not recorded. A hold is left, and brakes are released, only when the operator says so."""
        status = self._cell.status
        assert status is not None  # connected
        if status.latched and not self._confirm(f"the arm holds: {status.reason}; → re-arm"):
            return False
        if status.mode == SafetyStatus.MAINTENANCE and not self._confirm("→ make the arm ready"):
            return False
        self._view.moment(Moment.BUSY)
        self._tell("going home")
        if status.mode != SafetyStatus.READY:
            self._cell.recover(self._keys.origin)
        self._cell.go_home()
        return True

    def _lay_out(self) -> bool:
        if self._table is None:
            return self._confirm("lay out the towel; → record")
        laid_out = f"towel laid out: {self._table.reset()}"
        if self._attended:
            return self._confirm(f"{laid_out}; → record")
        self._tell(laid_out)
        return not self._stopped

    def _confirm(self, text: str) -> bool:
        """Wait for →; meanwhile u and ← decide about the attempt before. Where nobody attends, nobody is waited for."""
        self._view.moment(Moment.ASKING)
        self._cue(text)
        while not self._stopped:
            key = self._keys.next(POLL_S)
            if key == KEEP or (key is None and not self._attended):
                return True
            self._decide_again(key)
        return False

    def _decide_again(self, key: str | None) -> None:
        """A key that is not about the attempt being recorded."""
        if key == STOP:
            self._stopped = True
        elif key == UNDO:
            self._undo()
        elif key == DISCARD and self._last is not None:
            self._label(self._last, Label.DISCARD, Outcome.UNKNOWN)

    def _undo(self) -> None:
        try:
            answer = self._recorder.undo(by=self._options.operator)
        except DeviceError as error:
            self._tell(f"undo: {error}")
            return
        self._kept = answer.kept
        self._tell(f"undone: {answer.episode}; {answer.kept} kept, {answer.discarded} discarded")

    # --- one attempt --------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        options = self._options
        goal = RecordEpisode.Goal(task=options.task, prompt=options.prompt, operator_name=options.operator)
        try:
            refusal = self._start(goal)
            key = None if refusal else self._demonstrate()
        finally:  # interrupted at any point: what had begun is finished
            self._keys.driving = False
            self._view.moment(Moment.JUDGING)
            result = self._recorder.stop()
        if refusal is not None or result is None:
            self._not_recorded(refusal)
            return
        self._release()
        self._view.judged(result)
        self._conclude(result, key)

    def _start(self, goal: RecordEpisode.Goal) -> DeviceError | None:
        """Why nothing is recorded; None when it is."""
        try:
            self._recorder.start(goal)
        except DeviceError as error:
            return error
        return None

    def _demonstrate(self) -> str | None:
        self._number += 1
        self._view.moment(Moment.RECORDING)
        self._cue(f"attempt {self._number}: recording")
        if self._options.start_device:
            try:
                self._cell.set_mode(SafetyStatus.ACTIVE, Source.TELEOP)
            except (DeviceError, ModeError) as error:  # held in this very moment
                self._tell(f"nobody moves the arm: {error}")
                return DISCARD
        self._keys.driving = True
        return self._wait_for_end()

    def _not_recorded(self, error: DeviceError | None) -> None:
        self._tell(f"not recorded: {error}")
        if not isinstance(error, AttemptOpenError):
            self._confirm("→ try again")
        elif self._confirm("→ end that attempt, nothing decided about it, and go on"):
            self._recorder.end_open()
            time.sleep(ENDING_S)

    def _wait_for_end(self) -> str | None:
        """keep, discard or stop; None when the attempt ended by itself."""
        while self._recorder.result is None:
            key = self._keys.next(POLL_S)
            if key in (KEEP, DISCARD, STOP):
                return key
            if key == UNDO:
                self._undo()
            status = self._cell.status
            if status is not None and status.latched:
                self._tell(f"the arm holds: {status.reason}")
                return DISCARD
            if self._recorder.lost:
                self._tell(f"not recorded any more: {self._recorder.lost}")
                self._cell.take_back()
                return DISCARD
        return None

    def _release(self) -> None:
        """The device gives the lease back; who still presses a dead-man loses it to the way home."""
        self._cell.wait_until(lambda: self._cell.status.mode != SafetyStatus.ACTIVE, RELEASE_S)

    def _conclude(self, result: RecordEpisode.Result, key: str | None) -> None:
        if not result.path:
            self._tell("it was not finished; `python -m vla_rft_episodes repair` recovers what was written")
            self._stopped = key == STOP
            return
        self._last = result
        outcome = self._outcome()
        if key is None:
            self._view.moment(Moment.DECIDING)
            self._tell(f"ended by itself ({result.termination_reason}): → keep, ← discard")
            while key not in (KEEP, DISCARD, STOP):
                key = self._keys.next(POLL_S)
        if key == STOP:
            self._stopped = True
            self._tell("nothing was decided about it")
        else:
            self._label(result, Label(key), outcome if key == KEEP or self._table else Outcome.UNKNOWN)
        self._report(Path(result.path).parent)

    def _outcome(self) -> Outcome:
        """Who keeps an attempt says that it succeeded; in simulation the simulator says so."""
        if self._table is None:
            return Outcome.SUCCESS
        return Outcome.SUCCESS if self._table.success() else Outcome.FAILURE

    def _label(self, result: RecordEpisode.Result, label: Label, outcome: Outcome) -> None:
        by = self._options.operator
        self._kept = self._recorder.label(result.episode, label, outcome=outcome, by=by).kept
        self._cue(f"{'kept' if label is Label.KEEP else 'discarded'} ({outcome}); u takes it back")

    def _report(self, path: Path) -> None:
        collection = Collection(path)
        progress = collection.progress(self._options.count)
        self._kept = progress.kept
        self._view.counted(collection, progress)

    def _tell(self, text: str) -> None:
        self._view.tell(text)

    def _cue(self, text: str) -> None:
        self._view.cue(text)
