"""Desk: what a page may ask for, and what is then done. One word at a time moves the arm; HOLD waits for nobody.

Blocking: the server calls it from threads. Who may say which word is decided before (`access`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_interfaces.srv import JudgeTrial, Rearm
from vla_rft_nodes import qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.console.doctor_card import DoctorCard
from vla_rft_nodes.console.monitor import Monitor
from vla_rft_nodes.console.recording import Recording
from vla_rft_nodes.console.trials import Trials
from vla_rft_nodes.ros import ShellNode

HOLD_S = 1.5
"""Within this the arm must have confirmed a hold [s]."""
SAY_AGAIN_S = 0.05
JUDGEMENTS = (
    JudgeTrial.Request.SCENE,
    JudgeTrial.Request.SUCCESS,
    JudgeTrial.Request.FAILURE,
    JudgeTrial.Request.VOID,
    JudgeTrial.Request.UNDO,
)


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Who says a word."""

    name: str
    """Of the operator; "a viewer" without the lease."""
    loopback: bool
    """On the workstation's own page."""


class Desk:
    """Every word of `access.NEEDS` that concerns the cell; the lease's own are the server's."""

    def __init__(
        self,
        node: ShellNode,
        cell: CellClient,
        monitor: Monitor,
        recording: Recording,
        trials: Trials,
        doctor: DoctorCard,
    ) -> None:
        self._name, self._cell, self._monitor = node.get_name(), cell, monitor
        self._recording, self._trials, self._doctor = recording, trials, doctor
        self._alarms = node.create_publisher(DiagnosticStatus, topics.ALARM, qos.EVENT)
        self._moving = threading.Lock()
        self._words: Mapping[str, Callable[[Speaker, Mapping[str, Any]], str]] = {
            "hold": self._hold,
            "rearm": self._rearm,
            "ready": self._ready,
            "maintenance": self._maintenance,
            "home": self._home,
            "session": self._session,
            "key": self._key,
            "trials": self._run_trials,
            "pause": self._pause,
            "judge": self._judge,
            "doctor": self._ask_doctor,
        }

    def say(self, word: str, speaker: Speaker, more: Mapping[str, Any]) -> str:
        """What was done, in words; ValueError or VlaRftError when it was not."""
        return self._words[word](speaker, more)

    def operator_changed(self, name: str) -> None:
        """Another person operates: a session in somebody else's name ends, with nothing decided in it."""
        if self._recording.active and self._recording.operator != name:
            self._recording.end()

    # --- the arm ------------------------------------------------------------------------------------------------

    def _hold(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        """Over the watchdog, like any trouble: a latched hold at the measured pose."""
        if self._monitor.mode == SafetyStatus.MAINTENANCE:
            return "nothing can move: maintenance"
        began, words = time.monotonic(), f"HOLD pressed by {speaker.name}"
        while time.monotonic() - began < HOLD_S:
            self._alarms.publish(DiagnosticStatus(level=DiagnosticStatus.ERROR, name=self._name, message=words))
            if self._monitor.latched:
                return f"held after {time.monotonic() - began:.2f} s"
            time.sleep(SAY_AGAIN_S)
        raise DeviceError(f"the arm has not confirmed the hold within {HOLD_S:g} s: press the e-stop")

    def _rearm(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        self._cell.rearm(Rearm.Request.LOOPBACK)
        return "left the hold; motion waits for a source"

    def _ready(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        with self._alone():
            return "; ".join(self._cell.ready())

    def _maintenance(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        return "; ".join(self._cell.set_mode(SafetyStatus.MAINTENANCE))

    def _home(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        if self._recording.active or self._trials.view().running:
            raise ValueError("a session runs, and takes the arm home by itself")
        with self._alone():
            self._cell.go_home()
        return "at home"

    def _alone(self) -> _Alone:
        return _Alone(self._moving)

    # --- recording and trials -----------------------------------------------------------------------------------

    def _session(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        count = more.get("count")
        if not isinstance(count, int):
            raise ValueError(f"count: a whole number, got {count!r}")
        task, prompt = _text(more, "task"), _text(more, "prompt")
        self._recording.start(task=task, prompt=prompt, operator=speaker.name, count=count)
        return f"session of {speaker.name}"

    def _key(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        origin = Rearm.Request.LOOPBACK if speaker.loopback else "remote"
        self._recording.press(_text(more, "key"), origin=origin)
        return _text(more, "key")

    def _run_trials(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        limit = more.get("limit", 0)
        if not isinstance(limit, int):
            raise ValueError(f"limit: a whole number, got {limit!r}")
        self._trials.start(_text(more, "study"), operator=speaker.name, limit=limit)
        return "trials begin"

    def _pause(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        self._trials.pause()
        return "stopping after this trial"

    def _judge(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        verdict = _text(more, "verdict")
        if verdict not in JUDGEMENTS:
            raise ValueError(f"no verdict {verdict!r}; known: {', '.join(JUDGEMENTS)}")
        mode, note = _text(more, "mode"), _text(more, "note")
        if verdict == JudgeTrial.Request.FAILURE and not mode:
            raise ValueError("say how it failed")
        return self._trials.judge(verdict, by=speaker.name, failure_mode=mode, note=note)

    def _ask_doctor(self, speaker: Speaker, more: Mapping[str, Any]) -> str:
        self._doctor.ask()
        return "the doctor looks"


class _Alone:
    """One word moves the arm at a time; ValueError for a second one."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ValueError("the arm is being moved already")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _text(more: Mapping[str, Any], key: str) -> str:
    value = more.get(key, "")
    if not isinstance(value, str) or len(value) > 500:
        raise ValueError(f"{key}: text of at most 500 characters, got {type(value).__name__}")
    return value.strip()
