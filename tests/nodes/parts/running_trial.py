"""The whole graph of a recorded trial, and what such a trial leaves on disk.

evaluate.launch.yaml with recorder and console: the expert folds as a study's policy, the evaluator watches, every trial
is an episode, too.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rclpy.action import ActionClient
from running_graph import Graph, clean_shared_memory, with_parameters

from vla_rft_core import manifest
from vla_rft_core.errors import ModeError
from vla_rft_episodes.attempt import State, examine
from vla_rft_episodes.fsck import fsck
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import repair_attempt
from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.srv import JudgeTrial
from vla_rft_nodes import topics
from vla_rft_nodes.bringup import Plan, load
from vla_rft_nodes.recorder_client import RecorderClient
from vla_rft_trials.records import TrialRecord
from vla_rft_trials.study import Study, lock
from vla_rft_trials.trial_log import read_log

PROTOCOL = Path(__file__).parents[3] / "launch" / "protocols" / "demo.yaml"
BUSY = RunTrials.Result.BUSY
TRIES = 3
PATIENCE_S = 60.0
ANSWER_S = 10.0


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(frozen=True)
class Trial:
    """One that was started: its study, and the future of its goal's result."""

    study: Study
    result: Any


class TrialGraph(Graph):
    """Trials one at a time, each of a study of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        episodes: Path | None = None,
        recorder: Mapping[str, object] | None = None,
        changed: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        """`recorder`: parameters of recorder_node. The console is there to be started."""
        self.folder, self.port = folder, free_port()
        self.episodes = episodes or folder / "episodes"
        arguments = {"record": "true", "console": "true", "console_port": str(self.port)}
        arguments |= {"episodes": str(self.episodes), "studies": str(folder)}
        plan = with_parameters(load("evaluate", arguments), "evaluator_node", countdown=0.0)
        plan = with_parameters(plan, "recorder_node", **(recorder or {"disk_needed": 0.1, "disk_reserve": 0.05}))
        plan = changed(plan)
        names = [process.name for process in plan.processes if process.name != "console_node"]
        self.log_dir = folder / "log"
        super().__init__(self.log_dir, plan=plan, processes=names)
        self._numbers = itertools.count(1)
        self._last: Trial | None = None
        self._action = ActionClient(self.node, RunTrials, topics.RUN_TRIALS)
        self._judge = self.node.create_client(JudgeTrial, topics.JUDGE_TRIAL)
        self.recorder = RecorderClient(self.node)

    def close(self) -> None:
        """The same, whatever a test froze."""
        self.thaw()
        super().close()

    def thaw(self) -> None:
        """Let every process go on."""
        for name in self.supervisor.running():
            self.supervisor.send_signal(name, signal.SIGCONT)

    def begin_trial(self, seed: int = 0) -> Trial:
        """A trial, once its arm is moving fast. What a busy computer has held before is tried again."""
        for _ in range(TRIES):
            self._clear()
            trial = self.ask_for_trial(seed)
            self.until(lambda t=trial: self._moves_fast() or t.result.done(), PATIENCE_S, "no trial moves the arm")
            if not trial.result.done():
                return trial
        raise AssertionError(f"{TRIES} trials ended before: {trial.result.result().result}")

    def _clear(self) -> None:
        """Nothing is left of the row before, whatever became of it."""
        self.thaw()
        last = self._last
        lost = last is not None and (not last.result.done() or last.result.result().result.error_code == BUSY)
        if lost and self.runs("evaluator_node"):
            self.supervisor.send_signal("evaluator_node", signal.SIGKILL)
            self.until(lambda: not self.runs("evaluator_node"), ANSWER_S, "it cannot be killed")
        clean_shared_memory()
        self.make_ready_here()

    def ask_for_trial(self, seed: int = 0) -> Trial:
        """Of a study of its own."""
        study = self._lock(seed)
        self._last = trial = Trial(study, self._ask_for(study))
        return trial

    def ended(self, trial: Trial) -> RunTrials.Result:
        """The result of its goal."""
        self.until(trial.result.done, PATIENCE_S, "the evaluator does not end the trial")
        result: RunTrials.Result = trial.result.result().result
        return result

    def runs(self, name: str) -> bool:
        """The process has not ended."""
        return name in self.supervisor.running()

    def say(self, verdict: str) -> None:
        """A person's word, which ends the trial."""
        answered = self.cell.call(self._judge, JudgeTrial.Request(verdict=verdict, by="test"))
        assert not answered.error_code, answered.error_msg

    def recording(self) -> bool:
        """An attempt is open."""
        return any(examine(path).state is State.RECORDING for path in self.episodes.glob(".open-*"))

    def last_record(self, trial: Trial) -> TrialRecord:
        """What the study says about it."""
        return read_log(trial.study.records).records[-1]

    def _moves_fast(self) -> bool:
        """The policy does; not the way home. A hold of a busy computer on the way there is left, as a person would."""
        if self.status.latched:
            with contextlib.suppress(ModeError):
                self.cell.rearm("terminal")
        in_trial = self.status.mode == "ACTIVE" and self.status.source == "teleop"
        return in_trial and self.world.status().speed > 0.12

    def _lock(self, seed: int) -> Study:
        content = yaml.safe_load(PROTOCOL.read_text())
        content["placements"] |= {"count": 1, "seed": seed}
        content["trials_per_policy"] = 1
        folder = self.folder / f"trial-{next(self._numbers)}"
        folder.mkdir()
        (folder / "protocol.yaml").write_text(yaml.safe_dump(content))
        return lock(folder / "protocol.yaml", folder / "study")

    def _ask_for(self, study: Study) -> Any:
        """Sent again where a killed evaluator, still listed, has swallowed the goal."""
        goal = RunTrials.Goal(study=str(study.folder), operator_name="test", limit=1)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self._action.wait_for_server(PATIENCE_S)
            answered = threading.Event()
            sent = self._action.send_goal_async(goal)
            sent.add_done_callback(lambda _, answered=answered: answered.set())
            if answered.wait(ANSWER_S):
                handle = sent.result()
                assert handle.accepted
                return handle.get_result_async()
        raise AssertionError("evaluator_node does not answer")


def said_in(log_dir: Path, name: str, word: str, *, since: int = 0) -> str:
    """The newest line with that word in a process's log, of its bytes from `since` on; empty when there is none."""
    lines = (log_dir / f"{name}.log").read_bytes()[since:].decode(errors="replace").splitlines()
    found = [line for line in lines if word in line]
    return found[-1].rpartition("]: ")[2] if found else ""


def finished(collection: Path) -> set[str]:
    """The episodes with nothing wrong."""
    return set(fsck(collection).intact) if collection.exists() else set()


def kept_on_disk(trial: Trial, collection: Path, before: set[str]) -> str:
    """What the trial left, in words. Fails when a record cannot be read or an episode from before is not whole."""
    contents = read_log(trial.study.records)
    (record,) = contents.records or contents.open
    words = f"trial {record.outcome} ({record.termination_reason})" if contents.records else "trial open"
    report = fsck(collection)
    assert before <= set(report.intact), report.findings
    whole, cut = set(report.intact) - before, []
    for identity in whole:
        manifest.verify(collection / identity, kind="episode")
        assert Episode.open(collection / identity).info.messages["/robot_state"] > 0
    for path in collection.glob(".open-*"):
        repaired = repair_attempt(path).path
        if repaired is not None:  # else it was, by an earlier row
            assert Episode.open(repaired).info.messages["/robot_state"] > 0
            cut.append(repaired)
    words += ", episode whole" if whole else ""
    words += ", episode cut short, repaired" if cut else ""
    return words
