"""`python -m vla_rft_nodes.evaluate STUDY --operator NAME`: the terminal of a person who supervises trials.

Cell, policies and evaluator run already (`evaluate.launch.yaml`). It shows what the evaluator does and takes words:
scene, success, failure MODE, void REASON, undo, stop. It knows code names only.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from vla_rft_core.config import did_you_mean
from vla_rft_core.errors import VlaRftError
from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.srv import JudgeTrial
from vla_rft_nodes.evaluator_client import EvaluatorClient
from vla_rft_nodes.operate import spinning
from vla_rft_trials.study import open_study

POLL_S = 0.1
STOP = "stop"
WORDS = (
    JudgeTrial.Request.SCENE,
    JudgeTrial.Request.SUCCESS,
    JudgeTrial.Request.FAILURE,
    JudgeTrial.Request.VOID,
    JudgeTrial.Request.UNDO,
    STOP,
)
HELP = "scene | success | failure MODE | void REASON | undo | stop (may be cut short: f no g)"


def understood(line: str, modes: Sequence[str]) -> tuple[str, str, str]:
    """(word, failure mode, note) of a typed line; ValueError in one sentence for anything else.

    Words and failure modes may be cut short as long as it is clear which is meant: "f no g" is failure, no grasp.
    """
    first, _, rest = line.strip().partition(" ")
    word = _completed(first, WORDS, "word")
    rest = rest.strip()
    if word == JudgeTrial.Request.FAILURE:
        return word, _completed(rest, modes, "failure mode"), ""
    if word == JudgeTrial.Request.VOID and not rest:
        raise ValueError("void needs a reason: void the camera was bumped")
    return word, "", rest


def _completed(text: str, known: Sequence[str], what: str) -> str:
    if not text:
        raise ValueError(f"a {what} is missing: {', '.join(known)}")
    found = [name for name in known if name == text] or [name for name in known if name.startswith(text)]
    if len(found) != 1:
        wrong = f"{what} {text!r} may be {' or '.join(found)}" if found else f"unknown {what} {text!r}"
        raise ValueError(wrong if found else wrong + did_you_mean(text, list(known)))
    return found[0]


class Terminal:
    """One goal of `RunTrials`, watched and talked to until it ends."""

    def __init__(self, node: Node, study: Path, *, operator: str, limit: int, source: TextIO) -> None:
        self._study, self._operator, self._limit, self._source = study, operator, limit, source
        self._modes = open_study(study).protocol.failure_modes
        self._evaluator = EvaluatorClient(node, on_feedback=self._show)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._console = Console(highlight=False, soft_wrap=True)
        self._shown = ("", "")

    def run(self) -> RunTrials.Result:
        """Until the goal has ended; DeviceError when the evaluator does not answer."""
        self._evaluator.start(self._study, operator=self._operator, limit=self._limit)
        threading.Thread(target=self._read, daemon=True).start()
        self._console.print(HELP)
        while self._evaluator.result is None:
            try:
                line = self._lines.get(timeout=POLL_S)
            except queue.Empty:
                continue
            self._say(line)
        return self._evaluator.result

    def pause(self) -> None:
        """End after the running trial."""
        self._console.print("stopping after this trial")
        self._evaluator.pause()

    def _say(self, line: str) -> None:
        if not line.strip():
            return
        try:
            word, mode, note = understood(line, self._modes)
        except ValueError as error:
            self._console.print(str(error))
            return
        if word == STOP:
            self.pause()
            return
        response = self._evaluator.judge(word, by=self._operator, failure_mode=mode, note=note)
        about = f"trial {response.trial}: {word}" if response.trial else word
        self._console.print(response.error_msg or about)

    def _show(self, feedback: RunTrials.Feedback) -> None:
        """A line per change of phase or trial; the running clock is not repeated."""
        text = "" if feedback.phase == RunTrials.Feedback.RUNNING else feedback.text
        shown = (f"trial {feedback.trial}, {feedback.code}, {feedback.placement}: {feedback.phase}", text)
        if shown != self._shown:
            self._shown = shown
            done = f"[{feedback.settled}/{feedback.planned}]"
            self._console.print(f"{done} {shown[0]} {text}", markup=False)

    def _read(self) -> None:
        for line in self._source:
            self._lines.put(line)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m vla_rft_nodes.evaluate", description=(__doc__ or "").split("\n\n")[0]
    )
    made.add_argument("study", type=Path, metavar="STUDY", help="folder that a protocol was locked into")
    made.add_argument("--operator", required=True, help="who supervises")
    made.add_argument("--limit", type=int, default=0, help="at most so many trials now (default: all that are left)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the study, the limit or the operator ends it; exit code 1 with one sentence when something is wrong."""
    options = parser().parse_args(argv)
    try:
        print("\n".join(open_study(options.study).plan.detectable))
        with spinning("evaluate", signals=SignalHandlerOptions.NO) as node:
            terminal = Terminal(node, options.study, operator=options.operator, limit=options.limit, source=sys.stdin)
            signal.signal(signal.SIGINT, lambda number, frame: terminal.pause())
            result = terminal.run()
    except (ValueError, VlaRftError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    state = "complete" if result.complete else "not complete yet"
    print(f"{result.trials} trials; {result.settled} of {result.planned} places settled, {state}")
    if result.error_code:
        print(f"evaluate: {result.error_msg}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
