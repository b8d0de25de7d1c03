"""RosStage: trials on a running cell: home, scene, preflight, policy, countdown, the trial itself, by ROS.

A `running.Stage`. In simulation the scene is laid out and the trial labelled by itself; at a real table a person does
both, in words that arrive through `say`. It knows code names only.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from calibration.errors import CalibrationError
from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import SystemClock
from vla_rft_core.errors import DeviceError, ModeError, VlaRftError
from vla_rft_interfaces.action import RecordEpisode, RunTrials
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_interfaces.srv import ResetScene, SelectPolicy
from vla_rft_nodes import convert, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.evaluator_senses import Senses
from vla_rft_nodes.recorder_client import AttemptOpenError, RecorderClient
from vla_rft_nodes.ros import ShellNode
from vla_rft_nodes.trial_video import TrialVideo
from vla_rft_trials.placements import Placement
from vla_rft_trials.records import Outcome, Termination, TrialStart
from vla_rft_trials.referee import LABEL, Referee
from vla_rft_trials.running import Ending, Scene, TrialRefusedError
from vla_rft_trials.scene_match import SceneMatch
from vla_rft_trials.schedule import Slot
from vla_rft_trials.study import Study

LOOK_S = 0.05
SETTLE_S = 0.5
"""After the scene was laid out, before it is looked at; and what a video shows after a trial's end [s]."""
RECOVERY_S = 10.0
"""How long the cause of a hold may last before an unattended study ends [s]."""
TRIES = 3
"""How often an unattended study tries to get a trial ready."""
PATIENCE_S = 10.0
"""How long the preflight may take to turn green [s]."""
SILENCE_S = 2.0
"""No state of the robot for longer ends a trial [s]."""
ENDING_S = 1.0
"""Given to an attempt that was left open to be written out before the next is started [s]."""
TRUTH_S = 2.0

Tell = Callable[[str, str], None]
"""(phase, text) -> whoever watches."""


class StoppedError(VlaRftError):
    """Told to stop before the trial began."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a person said: one of `JudgeTrial`'s verdicts."""

    verdict: str
    failure_mode: str = ""
    by: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How trials are run on this cell."""

    camera: str
    simulated: bool
    """sim/reset lays the scene out, the truth labels."""
    unattended: bool
    """Nobody is there: holds are re-armed by the program, in simulation only."""
    record: bool
    """Every trial is recorded as an episode, too."""
    countdown_s: float


def require_laid_out(said: str, wanted: Placement) -> None:
    """TrialRefusedError unless what sim_node says it has laid out is what the study wants."""
    words = str(replace(wanted, cell=""))
    if said != words:
        raise TrialRefusedError(
            f"sim_node lays a towel out by its seed alone ({said}), and the protocol wants {words}; run such a study "
            "in-process: python -m vla_rft_sim.study"
        )


class RosStage:
    """Methods block: call them from a worker thread of the node."""

    def __init__(self, node: ShellNode, cell: CellClient, folder: CellFolder, options: StageOptions) -> None:
        self.clock = SystemClock()
        self._node, self._cell, self._folder, self._options = node, cell, folder, options
        self._study: Study | None = None
        self._operator = ""
        self._calibration = ""
        """What the comparison with the calibration's reference picture said; empty before it was made in this study."""
        self._tell: Tell = lambda phase, text: None
        self._stopped: Callable[[], bool] = lambda: False
        self.words: SimpleQueue[Word] = SimpleQueue()
        self.senses = Senses(node, folder, camera=options.camera, simulated=options.simulated)
        self._source = ""
        self._reset = node.create_client(ResetScene, topics.SIM_RESET)
        self._select = node.create_client(SelectPolicy, topics.SELECT_POLICY)
        self._recorder = RecorderClient(node) if options.record else None

    def begin(self, study: Study, *, operator: str, tell: Tell, stopped: Callable[[], bool]) -> None:
        """Trials of `study` follow, until `stopped` says so: then what is being prepared is left (StoppedError)."""
        self._study, self._operator, self._tell, self._stopped = study, operator, tell, stopped
        self._calibration = ""

    # --- before a trial -----------------------------------------------------------------------------------------

    def prepare(self, slot: Slot, index: int) -> Scene:
        """Home, scene, checks, policy, countdown; TrialRefusedError when that does not come right."""
        self.senses.similarity = math.nan
        for attempt in itertools.count(1):
            try:
                return self._prepare(slot, index)
            except (DeviceError, ModeError) as error:
                # A person puts right what took the arm out of READY, or says stop, however long it takes.
                again = attempt < TRIES if self._options.unattended else not self._is_ready()
                if not again:
                    raise TrialRefusedError(str(error)) from error
                self._tell(RunTrials.Feedback.SCENE, f"{error}; once more")
                self._pause(SETTLE_S)
        raise AssertionError("unreachable")

    def _prepare(self, slot: Slot, index: int) -> Scene:
        self._leave_hold()
        self._tell(RunTrials.Feedback.SCENE, "going home")
        self._cell.go_home()
        self._require_calibrated()
        found = self._lay_out(slot)
        self._tell(RunTrials.Feedback.PREFLIGHT, "checks")
        checks = self._preflight() | {"calibration": self._calibration}
        stamp = self._put_in_charge(slot, index)
        self._count_down()
        return Scene(
            policy_stamp=stamp,
            similarity=None if found is None else found.overlap,
            preflight=checks,
            calibration_id=self._folder.calibration.id,
        )

    def _require_calibrated(self) -> None:
        """TrialRefusedError when the camera no longer stands where it was calibrated: a policy would fail quietly."""
        made, camera = self._folder.calibration, self._options.camera
        if self._calibration:
            return
        if made.result(f"reference-{camera}") is None:
            self._calibration = f"not checked: no reference picture of camera {camera!r}"
            return
        from calibration.reference import gate  # takes a second to import: not while others start

        self._pause(SETTLE_S)
        picture, T_base_tcp = convert.from_color_image(self.senses.picture), self._cell.state().arm.T_base_tcp
        try:
            self._calibration = gate(self._folder, camera, picture, T_base_tcp)
        except CalibrationError as error:
            raise TrialRefusedError(f"no trials with this calibration: {error}") from error

    def _leave_hold(self) -> None:
        """READY: by the program where nobody is there, else once a person has re-armed."""
        if self._is_ready():
            return
        if self._options.unattended:
            self._cell.recover("terminal", timeout_s=RECOVERY_S)
            return
        while self._held():
            reason = self._cell.status.reason if self._cell.status is not None else ""
            self._tell(RunTrials.Feedback.SCENE, f"hold: {reason}; put it right and re-arm")
            self._pause(SETTLE_S)
        self._cell.ready()

    def _is_ready(self) -> bool:
        status = self._cell.status
        return status is not None and status.mode == SafetyStatus.READY

    def _held(self) -> bool:
        status = self._cell.status
        return status is not None and bool(status.latched)

    def _lay_out(self, slot: Slot) -> SceneMatch | None:
        """The scene as required, or TrialRefusedError; the match where it is checked."""
        study = self._require()
        placement, rule = study.plan.placement(slot.placement), study.protocol.scene
        if self._options.simulated:
            self._reset_scene(placement)
            found = self._compare(placement) if rule.min_similarity else None
            if found is not None and found.overlap < rule.min_similarity:
                raise TrialRefusedError(f"the scene is not as required: {found} (needed {rule.min_similarity:g})")
            return found
        _forget(self.words)
        while True:
            found = self._compare(placement)
            self._tell(RunTrials.Feedback.SCENE, f"lay the object out at {placement}: {found}; then say scene")
            self._heed_stop()
            if self._said_scene() and found.overlap >= rule.min_similarity:
                return found

    def _compare(self, placement: Placement) -> SceneMatch:
        return self.senses.compare(placement, self._require().protocol.scene.size_m)

    def _said_scene(self) -> bool:
        word = self._next_word(SETTLE_S)
        return word is not None and word.verdict == "scene"

    def _reset_scene(self, placement: Placement) -> None:
        resets = self.senses.resets
        response = self._cell.call(self._reset, ResetScene.Request(seed=placement.seed))
        if response.error_code:
            raise DeviceError(f"the scene cannot be reset: {response.error_msg}")
        require_laid_out(response.placement, placement)
        if not self._cell.wait_until(lambda: self.senses.resets > resets, TRUTH_S):
            raise DeviceError("sim_node published no truth after the reset")
        self._pause(SETTLE_S)

    def _preflight(self) -> dict[str, str]:
        """What was found, by name; DeviceError names what has not turned green within a while."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found, problems = self.senses.checked(self._cell.status)
            if not problems:
                return found
            words = f"preflight: {'; '.join(problems)}"
            if time.monotonic() > deadline or self._held():
                raise DeviceError(words)
            self._tell(RunTrials.Feedback.PREFLIGHT, words)
            self._pause(SETTLE_S)

    def _put_in_charge(self, slot: Slot, index: int) -> str:
        study = self._require()
        request = SelectPolicy.Request(study=str(study.folder.resolve()), code=slot.code, trial=index)
        response = self._cell.call(self._select, request)
        if response.error_code:
            raise TrialRefusedError(response.error_msg)
        self._source = response.source
        return str(response.stamp)

    def _count_down(self) -> None:
        left = self._options.countdown_s
        while left > 0.0:
            self._tell(RunTrials.Feedback.COUNTDOWN, f"{left:.0f}")
            self._pause(min(1.0, left))
            left -= 1.0

    # --- the trial ----------------------------------------------------------------------------------------------

    def perform(self, start: TrialStart) -> Ending:
        """From the lease to the end; device faults void the trial."""
        study = self._require()
        _forget(self.words)
        began = time.monotonic()
        episode = ""
        title = f"trial {start.index + 1}"
        with TrialVideo(study.folder / start.video, title, start.started_ns) as video:
            self.senses.video = video
            try:
                self._start_recording(start)
                began = time.monotonic()
                self._cell.set_mode(SafetyStatus.ACTIVE, self._source)
                ending = self._watch(began, video)
                self._take_back()
            except (DeviceError, ModeError) as error:
                ending = _fault(str(error), time.monotonic() - began)
            # A second rater shall not read the first one's verdict off the picture.
            video.state = "ended" if study.protocol.blinded else str(ending.outcome)
            time.sleep(SETTLE_S)
            self.senses.video = None
        try:
            episode = self._stop_recording()
        except DeviceError as error:
            ending = replace(ending, note="; ".join(part for part in (ending.note, str(error)) if part))
        metrics = self.senses.metrics()
        return replace(
            ending,
            episode=episode,
            frames_dropped=video.dropped,
            latencies_ms=self.senses.latencies_ms,
            metrics=metrics,
            edge_gap=metrics.get("edge_gap", ending.edge_gap),
        )

    def _take_back(self) -> None:
        """The lease, unless nobody is there to ask."""
        if self._cell.silent_s <= SILENCE_S:
            self._cell.take_back()

    def _watch(self, began: float, video: TrialVideo) -> Ending:
        """Until the referee (in simulation), a person, the limit or a hold ends it."""
        study = self._require()
        referee = Referee(study.protocol)
        while True:
            word = self._next_word(LOOK_S)
            now, status = time.monotonic() - began, self._cell.status
            assert status is not None
            video.state = status.mode
            look = self.senses.progress(now, status, wanted=self._cell.state().reference.width)
            ending = _said(word, now) or self._broken(now, status) or referee.look(look)
            if ending is not None:
                return ending
            self._tell(RunTrials.Feedback.RUNNING, self.senses.described(now))

    def _broken(self, now: float, status: SafetyStatus) -> Ending | None:
        """A trial that robot_node or the recorder has left says nothing."""
        lost = self._recorder.lost if self._recorder is not None else ""
        if self._cell.silent_s > SILENCE_S:
            lost = f"robot_node has been silent for {self._cell.silent_s:.1f} s"
        elif status.mode == SafetyStatus.MAINTENANCE:
            lost = "the arm is in MAINTENANCE"
        return _fault(lost, now) if lost else None

    def park(self) -> None:
        """After the last trial: home, if nothing holds the arm."""
        status = self._cell.status
        if status is not None and not status.latched:
            self._cell.go_home()

    def _start_recording(self, start: TrialStart) -> None:
        if self._recorder is None:
            return
        protocol = self._require().protocol
        goal = RecordEpisode.Goal(
            task=protocol.task, prompt=protocol.prompt, operator_name=self._operator, policy_id=start.policy
        )
        try:
            self._recorder.start(goal)
        except AttemptOpenError:  # of an evaluator that was killed
            self._recorder.end_open()
            time.sleep(ENDING_S)
            self._recorder.start(goal)

    def _stop_recording(self) -> str:
        result = self._recorder.stop() if self._recorder is not None else None
        return "" if result is None else str(result.episode)

    # --- what arrives -------------------------------------------------------------------------------------------

    def _next_word(self, timeout_s: float) -> Word | None:
        try:
            return self.words.get(timeout=timeout_s)
        except Empty:
            return None

    def _pause(self, duration_s: float) -> None:
        """Between two looks before a trial."""
        self._heed_stop()
        time.sleep(duration_s)

    def _heed_stop(self) -> None:
        if self._stopped() or self._node.stopping:
            raise StoppedError("told to stop before the trial began")

    def _require(self) -> Study:
        assert self._study is not None
        return self._study


def _said(word: Word | None, now: float) -> Ending | None:
    """What a person's word makes of a running trial."""
    if word is None or word.verdict not in ("success", "failure", "void"):
        return None
    void = word.verdict == "void"
    return Ending(
        outcome=Outcome(word.verdict),
        termination=Termination.OPERATOR_VOID if void else Termination.OPERATOR_STOP,
        seconds=now,
        failure_mode=word.failure_mode,
        note=word.note,
        labelled_by=word.by,
    )


def _fault(reason: str, seconds: float) -> Ending:
    return Ending(
        outcome=Outcome.VOID, termination=Termination.DEVICE_FAULT, seconds=seconds, note=reason, labelled_by=LABEL
    )


def _forget(words: SimpleQueue[Word]) -> None:
    while not words.empty():
        words.get_nowait()
