"""recorder_node: the `RecordEpisode` action: one attempt at a time, everything that arrives into one episode file.

It writes what was published, as serialised; only pictures are compressed. It judges attempts, labels them
(`LabelEpisode`), and raises an alarm when it can no longer write, so that the arm holds. It moves and deletes nothing.
"""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle

from vla_rft_core import config
from vla_rft_core.cell import find_cell
from vla_rft_core.software import versions
from vla_rft_episodes import channels, messages
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo, new_episode_id
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.verdict import Verdict, VerdictLimits, judge
from vla_rft_episodes.writer import EpisodeWriter
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.srv import LabelEpisode
from vla_rft_nodes import qos, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.recorder import OPERATOR_STOP, SIGNAL, Attempt, AttemptResult, RecorderLimits, Sample
from vla_rft_nodes.recorder_streams import RecordedStreams
from vla_rft_nodes.ros import ShellNode, run

FEEDBACK_HZ = 2.0
FINISH_S = 8.0
"""How long the end of the process waits for an open attempt to be finished [s]."""
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """Parameters of recorder_node."""

    cell: str
    """Cell folder: a path, or "package:folder"."""
    episodes: str = "runs/episodes"
    """Folder of the collection; made when it does not exist."""
    depth: bool = True
    """Record (and require) depth."""
    simulated: bool = False
    """Record the simulator's truth too, below /sim/."""
    robot_rate: float = 100.0
    """Of robot_state [Hz]."""
    silence: float = 1.0
    """A required stream silent for longer: no attempt is started [s]."""
    max_duration: float = 300.0
    """An attempt ends by itself after this [s], or earlier if its goal says so."""
    disk_needed: float = 2.0
    """Free space without which no attempt is started [GB]."""
    disk_reserve: float = 0.2
    """An attempt is finished when so little is left [GB]."""

    def __post_init__(self) -> None:
        for name in ("robot_rate", "silence", "max_duration", "disk_needed", "disk_reserve"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name):g}")


class RecorderNode(ShellNode):
    """Callbacks hand what arrives to the open attempt, if there is one; its own threads do the work."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._config = read_parameters(self, RecorderConfig)
        self._cell = find_cell(self._config.cell)
        own_limits = self._cell.path / "verdict.yaml"
        self._verdict_limits = VerdictLimits.load(own_limits if own_limits.exists() else None)
        self._folder = Path(self._config.episodes)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._labels = Labels(self._folder)
        self._software = versions()
        self._attempt: Attempt | None = None
        self._goal: ServerGoalHandle | None = None
        self._handing_over = threading.Lock()  # an attempt may end before it is known to have begun
        self._alarms = self.create_publisher(DiagnosticStatus, topics.ALARM, qos.EVENT)
        self._streams = RecordedStreams(
            self,
            self._cell.spec,
            depth=self._config.depth,
            simulated=self._config.simulated,
            robot_rate=self._config.robot_rate,
            on_sample=self._on_sample,
            on_lost=self._on_lost,
        )
        self.create_service(LabelEpisode, topics.LABEL_EPISODE, self._label)
        self._server = ActionServer(
            self,
            RecordEpisode,
            topics.RECORD_EPISODE,
            execute_callback=lambda goal: RecordEpisode.Result(),
            # A goal is executed when its attempt has ended: until then there is nothing for the executor to do.
            handle_accepted_callback=self._start,
            cancel_callback=self._cancel,
        )
        self.create_timer(1.0 / FEEDBACK_HZ, self._give_feedback)

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """What is being recorded, and the disk."""
        free_gb = shutil.disk_usage(self._folder).free / GB
        attempt = self._attempt
        values: dict[str, object] = {"recording": attempt is not None, "disk_free_gb": f"{free_gb:.1f}"}
        if attempt is not None:
            progress = attempt.progress()
            values |= {"duration_s": f"{progress.duration_s:.1f}", "bytes": progress.bytes}
            values |= {f"dropped {topic}": count for topic, count in progress.dropped.items()}
        return self._disk_problem(), values

    def close(self) -> None:
        """Finish the open attempt."""
        attempt = self._attempt
        if attempt is not None:
            attempt.stop(SIGNAL)
            attempt.join(FINISH_S)

    def _on_sample(self, sample: Sample) -> None:
        attempt = self._attempt  # the writer thread may take it away
        if attempt is not None:
            attempt.offer(sample)

    def _on_lost(self, channel: Channel, count: int) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.lost(channel, count)

    # --- an attempt ---------------------------------------------------------------------------------------------

    def _start(self, goal: ServerGoalHandle) -> None:
        attempt, codes = self._attempt, RecordEpisode.Result
        busy = f"{attempt.episode} is being recorded; only one attempt at a time" if attempt is not None else ""
        problem = busy or self._refusal(goal.request)
        if problem:
            goal.execute(partial(_refuse, problem, codes.BUSY if busy else codes.REFUSED))
            return
        with self._handing_over:
            attempt = self._begin(goal.request)
            self._goal, self._attempt = goal, attempt
        self._give_feedback()
        self.get_logger().info(f"recording {attempt.episode}")

    def _refusal(self, request: RecordEpisode.Goal) -> str:
        """Why no attempt can be started now; empty when one can."""
        if not (0.0 <= request.max_duration <= self._config.max_duration):
            longest = self._config.max_duration
            return f"max_duration must be between 0 (the longest) and {longest:g} s, got {request.max_duration:g}"
        if not request.task or not request.prompt:
            return f"an attempt needs a task and a prompt, got {request.task!r} and {request.prompt!r}"
        return self._disk_problem() or self._streams.silent(self._config.silence)

    def _disk_problem(self) -> str:
        free_gb = shutil.disk_usage(self._folder).free / GB
        needed = self._config.disk_needed
        return f"the disk is nearly full: {free_gb:.1f} GB free, {needed:g} GB needed" if free_gb < needed else ""

    def _begin(self, request: RecordEpisode.Goal) -> Attempt:
        info = self._info(request)
        return Attempt(
            info,
            partial(EpisodeWriter.create, self._folder, info, cell=self._cell),
            latched=self._streams.latched(),
            limits=RecorderLimits(
                max_duration_s=request.max_duration or self._config.max_duration,
                disk_reserve_bytes=round(self._config.disk_reserve * GB),
            ),
            judge=self._judge,
            on_failure=self._raise_alarm,
            on_end=self._ended,
        )

    def _info(self, request: RecordEpisode.Goal) -> EpisodeInfo:
        now_ns, cell, truth = time.time_ns(), self._cell, self._sim_truth()
        return EpisodeInfo(
            id=new_episode_id(now_ns),
            task=request.task,
            prompt=request.prompt,
            operator=request.operator_name,
            source="policy" if request.policy_id else "teleop",
            policy_id=request.policy_id,
            spec_name=cell.spec.name,
            spec=config.to_mapping(cell.spec),
            calibration_id=cell.calibration.id,
            safety_profile=cell.safety.name,
            simulated=self._config.simulated,
            seed=None if truth is None else int(truth.seed),
            started_ns=now_ns,
            software=self._software,
            expected_hz={channel.topic: rate for channel, rate in self._streams.required.items()},
        )

    def _judge(self, path: Path) -> Verdict:
        """In the writer thread: pictures and states go on arriving meanwhile."""
        truth, outcome = self._sim_truth(), None
        if truth is not None:
            outcome = Outcome.SUCCESS if truth.success else Outcome.FAILURE
        return judge(Episode.open(path), limits=self._verdict_limits, outcome=outcome)

    def _sim_truth(self) -> Any:
        """The newest SimTruth; None outside of simulation."""
        sample = self._streams.latest(channels.SIM_TRUTH)
        return None if sample is None else messages.deserialize(channels.SIM_TRUTH.type, sample.data)

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        attempt = self._attempt
        if attempt is None or goal is not self._goal:
            return CancelResponse.REJECT
        attempt.stop(OPERATOR_STOP)
        return CancelResponse.ACCEPT

    def _give_feedback(self) -> None:
        attempt, goal = self._attempt, self._goal
        if attempt is None or goal is None:
            return
        progress = attempt.progress()
        names = sorted(progress.messages | progress.dropped)
        goal.publish_feedback(
            RecordEpisode.Feedback(
                duration=progress.duration_s,
                bytes=progress.bytes,
                topics=names,
                messages=[progress.messages.get(name, 0) for name in names],
                dropped=[progress.dropped.get(name, 0) for name in names],
                disk_minutes=progress.disk_minutes,
            )
        )

    def _raise_alarm(self, reason: str) -> None:
        """From the writer thread: nothing can be recorded any more, so the arm must not go on."""
        self.get_logger().error(reason)
        if rclpy.ok():
            level = DiagnosticStatus.ERROR
            self._alarms.publish(DiagnosticStatus(level=level, name=self.get_name(), message=reason))

    def _ended(self, result: AttemptResult) -> None:
        """From the writer thread, when all is written."""
        quality = result.verdict.quality if result.verdict else "not judged"
        self.get_logger().info(f"{result.episode}: {result.termination_reason}, {quality}")
        with self._handing_over:
            goal, self._goal, self._attempt = self._goal, None, None
        if goal is not None and rclpy.ok() and not self.stopping:
            goal.execute(partial(_conclude, result))
        gc.collect()  # an attempt leaves cycles behind: freed now, and not by a pause in the middle of the next one

    # --- labels -------------------------------------------------------------------------------------------------

    def _label(self, request: LabelEpisode.Request, response: LabelEpisode.Response) -> LabelEpisode.Response:
        codes = LabelEpisode.Response
        try:
            if request.label == LabelEpisode.Request.UNDO:
                undone = self._labels.undo(request.by)
                response.episode = undone.episode if undone else ""
                if undone is None:
                    response.error_code, response.error_msg = codes.BAD_REQUEST, "there is no decision to take back"
            elif not (self._folder / request.episode / "manifest.json").is_file() or not request.episode:
                response.error_code = codes.UNKNOWN_EPISODE
                response.error_msg = f"no finished attempt {request.episode!r} in {self._folder}"
            else:
                label, outcome = Label(request.label), Outcome(request.outcome or Outcome.UNKNOWN)
                self._labels.append(request.episode, label, outcome, request.by)
                response.episode = request.episode
        except ValueError as error:
            response.error_code, response.error_msg = codes.BAD_REQUEST, str(error)
        except (EpisodeError, OSError) as error:
            response.error_code, response.error_msg = codes.DISK, str(error)
        entries = [entry.label for entry in self._labels.state().values()]
        response.kept, response.discarded = entries.count(Label.KEEP), entries.count(Label.DISCARD)
        return response


def _refuse(reason: str, code: int, goal: ServerGoalHandle) -> RecordEpisode.Result:
    goal.abort()
    return RecordEpisode.Result(error_code=code, error_msg=reason)


def _conclude(result: AttemptResult, goal: ServerGoalHandle) -> RecordEpisode.Result:
    codes = RecordEpisode.Result
    if result.disk_full or result.error:
        goal.abort()
    elif goal.is_cancel_requested:
        goal.canceled()
    else:
        goal.succeed()
    lost = codes.LOST if result.error else codes.NONE
    return RecordEpisode.Result(
        episode=result.episode,
        path=str(result.path) if result.path else "",
        termination_reason=result.termination_reason,
        quality=result.verdict.quality if result.verdict else "",
        reasons=list(result.verdict.reasons) if result.verdict else [],
        duration=result.duration_s,
        frames=result.frames,
        dropped=result.dropped,
        error_code=codes.DISK_FULL if result.disk_full else lost,
        error_msg=result.error or (result.termination_reason if result.disk_full else ""),
    )


def main() -> None:
    """Entry point of the executable."""
    run(RecorderNode)


if __name__ == "__main__":
    main()
