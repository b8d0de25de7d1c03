"""evaluator_node: the `RunTrials` action: the trials of a locked study, one by one, each with record and video.

`JudgeTrial` brings a person's word. Started unattended (in simulation), it locks the protocol that it is given, runs
all trials, leaves the report, and ends with 0 when the study is complete.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from vla_rft_core import config as plain
from vla_rft_core.cell import find_cell
from vla_rft_core.config import did_you_mean
from vla_rft_core.errors import VlaRftError
from vla_rft_core.manifest import FILE_NAME
from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.msg import TrialResult
from vla_rft_interfaces.srv import JudgeTrial
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.evaluator_stage import RosStage, StageOptions, StoppedError, Word
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run
from vla_rft_trials import table
from vla_rft_trials.progress import progress as progress_of
from vla_rft_trials.protocol import PolicyEntry, Protocol, Rule
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.running import Run, TrialRefusedError
from vla_rft_trials.study import LOCKED, Study, StudyError, lock_protocol, names_of, open_study, unlock
from vla_rft_trials.trial_log import RecordError, read_log

UNATTENDED = "simulator"
"""Who supervises when nobody does."""


@dataclass(frozen=True, kw_only=True)
class EvaluatorConfig:
    """Parameters of evaluator_node."""

    cell: str
    """Cell folder: a path, or "package:folder"."""
    camera: str
    """The camera that the videos show."""
    simulated: bool = False
    """sim/reset lays the scene out, and the truth says how a trial went."""
    unattended: bool = False
    """Run `study` at once and end; in simulation only."""
    study: str = ""
    """Folder of the study to run unattended; empty: runs/demo-<time> in the working directory."""
    protocol: str = ""
    """File that is locked into `study` first, when that is no study yet."""
    trials: int = 0
    """Replaces the protocol's trials per policy and placements, when locking; 0: as it says."""
    seed: int = -1
    """Replaces the protocol's seed of the placements, when locking; -1: as it says."""
    policy: str = ""
    """When locking, only this policy takes part: one of the protocol, or a bundle's folder; empty: all."""
    record: bool = False
    """Every trial is recorded as an episode, too (recorder_node must run)."""
    countdown: float = 3.0
    """Before the arm moves [s]."""
    connect_timeout: float = 30.0
    """How long the other processes may take to start [s]."""

    def __post_init__(self) -> None:
        if self.trials < 0 or self.seed < -1:
            raise ValueError(f"trials, seed: must not be negative, got {self.trials} and {self.seed}")
        if self.unattended and not self.simulated:
            raise ValueError("unattended: only in simulation; at a real arm somebody stands by")
        if not self.countdown >= 0.0:
            raise ValueError(f"countdown: must not be negative, got {self.countdown:g}")


class EvaluatorNode(ShellNode):
    """A worker thread runs the trials; callbacks keep what arrives and pass words on."""

    def __init__(self) -> None:
        super().__init__("evaluator_node")
        self._config = config = read_parameters(self, EvaluatorConfig)
        self._folder = find_cell(config.cell)
        self._folder.spec.camera(config.camera)
        self._cell = CellClient(self, self._folder.spec)
        options = StageOptions(
            camera=config.camera,
            simulated=config.simulated,
            unattended=config.unattended,
            record=config.record,
            countdown_s=config.countdown,
        )
        self._stage = RosStage(self, self._cell, self._folder, options)
        self._run: Run | None = None
        self._goal: ServerGoalHandle | None = None
        self._stop = threading.Event()
        self._phase, self._trial, self._state = "", 0, (0, 0)
        self._slot: Any = None
        self._began = 0.0
        self._show: Callable[[str], None] = lambda text: None
        self._results = self.create_publisher(TrialResult, topics.TRIAL_RESULT, qos.LATCHED)
        self.create_service(JudgeTrial, topics.JUDGE_TRIAL, self._judge)
        self._server = ActionServer(
            self,
            RunTrials,
            topics.RUN_TRIALS,
            execute_callback=lambda goal: RunTrials.Result(),
            # A goal is executed when its trials have ended: until then there is nothing for the executor to do.
            handle_accepted_callback=self._accept,
            cancel_callback=self._cancel,
        )
        if config.unattended:
            self.start_worker(self._run_unattended, "trials")

    def shut_down(self) -> None:
        """Between two trials at the latest."""
        self._stop.set()
        super().shut_down()

    # --- a study ------------------------------------------------------------------------------------------------

    def _run_study(self, study: Study, *, operator: str, limit: int) -> int:
        """How many trials were run. What cannot be put right here is raised."""
        if study.protocol.spec != self._folder.spec.name:
            raise StudyError(f"{study.folder}: is for spec {study.protocol.spec!r}, not {self._folder.spec.name!r}")
        self._cell.connect(self._config.connect_timeout)
        self._stage.begin(study, operator=operator, tell=self._tell, stopped=self._stop.is_set)
        done = 0
        with Run(study, clock=self._stage.clock, operator=operator) as open_run:
            self._run = open_run
            try:
                while not self._stop.is_set() and (not limit or done < limit):
                    slot = open_run.next()
                    if slot is None:
                        break
                    self._trial_of(open_run, slot)
                    done += 1
            except StoppedError:
                pass
            else:
                self._stage.park()
            finally:
                self._run = None
        return done

    def _trial_of(self, open_run: Run, slot: Any) -> None:
        state = open_run.progress()
        self._slot, self._trial, self._state = slot, open_run.next_index + 1, (state.settled, state.planned)
        scene = self._stage.prepare(slot, open_run.next_index)
        start = open_run.start(slot, scene)
        self._began = time.monotonic()
        record = open_run.end(start, self._stage.perform(start))
        self._results.publish(_to_message(record))
        after = open_run.progress()
        self._state = (after.settled, after.planned)
        self._tell(RunTrials.Feedback.ENDED, f"trial {record.index + 1}: {record.outcome}")

    def _tell(self, phase: str, text: str) -> None:
        """To whoever watches: the goal's client, and the terminal of an unattended study."""
        self._phase = phase
        settled, planned = self._state
        self._show(f"trial {settled + 1}/{planned}: {text}")
        goal, slot = self._goal, self._slot
        if goal is None or slot is None or not rclpy.ok():
            return
        goal.publish_feedback(
            RunTrials.Feedback(
                phase=phase,
                study=goal.request.study,
                trial=self._trial,
                settled=settled,
                planned=planned,
                code=slot.code,
                placement=slot.placement,
                seconds=time.monotonic() - self._began if phase == RunTrials.Feedback.RUNNING else 0.0,
                similarity=self._stage.senses.similarity,
                text=text,
            )
        )

    # --- as an action -------------------------------------------------------------------------------------------

    def _accept(self, goal: ServerGoalHandle) -> None:
        if self._goal is not None or self._config.unattended:
            busy = RunTrials.Result(error_code=RunTrials.Result.BUSY, error_msg="another study runs here")
            goal.execute(lambda handle: _aborted(handle, busy))
            return
        self._goal = goal
        self._stop.clear()
        self.start_worker(lambda: self._serve(goal), "trials")

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        self._stop.set()
        return CancelResponse.ACCEPT

    def _serve(self, goal: ServerGoalHandle) -> None:
        """One goal, to its result."""
        codes, request = RunTrials.Result, goal.request
        result, study = RunTrials.Result(), None
        try:
            study = open_study(Path(request.study))
            result.trials = self._run_study(study, operator=request.operator_name, limit=request.limit)
        except TrialRefusedError as error:
            result.error_code, result.error_msg = codes.NOT_STARTED, str(error)
        except RecordError as error:
            result.error_code, result.error_msg = codes.DISK, str(error)
        except (ValueError, VlaRftError) as error:
            result.error_code, result.error_msg = codes.REFUSED, str(error)
        if study is not None and study.records.exists():
            state = progress_of(study, read_log(study.records))
            result.settled, result.planned, result.complete = state.settled, state.planned, state.complete
        self._goal = None
        if rclpy.ok():
            goal.execute(lambda handle: _concluded(handle, result))

    # --- unattended ---------------------------------------------------------------------------------------------

    def _run_unattended(self) -> None:
        study = self._opened()
        console = Console()
        console.print(*study.plan.detectable, sep="\n", soft_wrap=True)
        failure: VlaRftError | None = None
        with _progress(console) as progress:
            bar = progress.add_task("", total=len(study.plan.schedule))
            self._show = lambda text: progress.update(bar, description=text, completed=self._state[0])
            try:
                self._run_study(study, operator=UNATTENDED, limit=0)
            except (TrialRefusedError, RecordError) as error:
                failure = error
        complete = self._conclude(study, console)
        if failure is not None:
            raise failure
        raise SystemExit(0 if complete else 1)

    def _opened(self) -> Study:
        """The study, locked now if it is not one yet."""
        settings = self._config
        folder = Path(settings.study or f"runs/demo-{datetime.now():%Y%m%d-%H%M%S}")
        if (folder / LOCKED).exists():
            return open_study(folder)
        if not settings.protocol:
            raise StudyError(f"{folder} is no study, and no protocol was given to lock")
        path = Path(settings.protocol)
        protocol = _adapted(Protocol.load(path), settings)
        text = yaml.safe_dump(plain.to_mapping(protocol), sort_keys=False, allow_unicode=True)
        return lock_protocol(protocol, text.encode(), folder, beside=path.parent)

    def _conclude(self, study: Study, console: Console) -> bool:
        """Unlock if all trials are done, report, and print the table; whether the study is complete."""
        from vla_rft_trials import report  # takes seconds to import: not while others start, nor during a trial

        records = read_log(study.records)
        complete = progress_of(study, records).complete
        if complete:
            unlock(study, complete=True)
        console.print(f"report: {report.render(study.folder)}", soft_wrap=True)
        names = names_of(study.unlocked(), study.plan)
        table.print_table(records.records, names={code: names[code] for code in study.codes()}, file=sys.stdout)
        sys.stdout.flush()
        return complete

    # --- a person's word ----------------------------------------------------------------------------------------

    def _judge(self, request: JudgeTrial.Request, response: JudgeTrial.Response) -> JudgeTrial.Response:
        codes = JudgeTrial.Response
        try:
            response.trial = self._heed(request)
        except ValueError as error:
            response.error_code, response.error_msg = codes.BAD_REQUEST, str(error)
        except StudyError as error:
            response.error_code, response.error_msg = codes.NOT_NOW, str(error)
        except RecordError as error:
            response.error_code, response.error_msg = codes.DISK, str(error)
        return response

    def _heed(self, request: JudgeTrial.Request) -> int:
        """The number of the trial that the word was about; StudyError, ValueError when it cannot be heeded."""
        verdicts = JudgeTrial.Request
        known = [verdicts.SCENE, verdicts.SUCCESS, verdicts.FAILURE, verdicts.VOID, verdicts.UNDO]
        if request.verdict not in known:
            raise ValueError(f"unknown verdict {request.verdict!r}{did_you_mean(request.verdict, known)}")
        open_run, phase = self._run, self._phase
        if open_run is None:
            raise StudyError("no study is run now")
        if request.verdict == verdicts.VOID and not request.note:
            raise ValueError("a trial is declared void for a reason; say which")
        if request.failure_mode:
            open_run.study.protocol.failure_mode(request.failure_mode)
        live = phase == RunTrials.Feedback.RUNNING
        if request.verdict == verdicts.UNDO:
            return open_run.undo(by=request.by) + 1
        if request.verdict == verdicts.VOID and not live:
            return open_run.declare_void(by=request.by, note=request.note).index + 1
        wanted = RunTrials.Feedback.SCENE if request.verdict == verdicts.SCENE else RunTrials.Feedback.RUNNING
        if phase != wanted:
            raise StudyError(f"{request.verdict} is for the phase {wanted}, now is {phase}")
        self._stage.words.put(
            Word(verdict=request.verdict, failure_mode=request.failure_mode, by=request.by, note=request.note)
        )
        return self._trial


def _adapted(protocol: Protocol, settings: EvaluatorConfig) -> Protocol:
    """The protocol with what the launch arguments replace; ValueError for a policy that it does not have."""
    rule, policies, blinded = protocol.placements, protocol.policies, protocol.blinded
    if (Path(settings.policy) / FILE_NAME).is_file():
        # What stopped the expert was a loaded computer. What stops a policy may be the policy.
        exclusions = replace(protocol.exclusions, safety_hold=Rule.FAILURE)
        policies = (PolicyEntry(name=Path(settings.policy).resolve().name, bundle=settings.policy),)
        blinded, protocol = False, replace(protocol, exclusions=exclusions, title=f"Trials of {settings.policy}")
    elif settings.policy:
        policies = tuple(policy for policy in policies if policy.name == settings.policy)
        if not policies:
            names = [policy.name for policy in protocol.policies]
            hint = did_you_mean(settings.policy, names)
            raise ValueError(f"policy {settings.policy!r}: neither in the protocol nor the folder of a bundle{hint}")
        blinded = False
    count = settings.trials or rule.count
    rule = replace(rule, count=count, seed=rule.seed if settings.seed < 0 else settings.seed)
    trials = settings.trials or protocol.trials_per_policy
    return replace(protocol, placements=rule, policies=policies, trials_per_policy=trials, blinded=blinded)


def _aborted(goal: ServerGoalHandle, result: RunTrials.Result) -> RunTrials.Result:
    goal.abort()
    return result


def _concluded(goal: ServerGoalHandle, result: RunTrials.Result) -> RunTrials.Result:
    if result.error_code:
        goal.abort()
    elif goal.is_cancel_requested:
        goal.canceled()
    else:
        goal.succeed()
    return result


def _progress(console: Console) -> Progress:
    columns = (BarColumn(20), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _to_message(record: TrialRecord) -> TrialResult:
    void = record.outcome is Outcome.VOID
    return TrialResult(
        header=convert.to_header(record.ended_ns or 0),
        trial=record.index + 1,
        seed=record.seed,
        placement=record.placement,
        policy=record.policy,
        outcome=str(record.outcome),
        failure_mode=record.failure_mode,
        termination_reason=str(record.termination_reason),
        seconds=record.seconds or 0.0,
        edge_gap=record.edge_gap if record.edge_gap is not None else float("nan"),
        video=record.video,
        error_code=TrialResult.HELD if void else TrialResult.NONE,
        error_msg=record.note,
    )


def main() -> None:
    """Entry point of the executable."""
    run(EvaluatorNode)


if __name__ == "__main__":
    main()
