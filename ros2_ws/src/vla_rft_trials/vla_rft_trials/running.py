"""Running a study: which trial is next, what is written when, what becomes of trials that something broke off.

Knows no robot and no simulator: a `Stage` sets a scene and performs a trial. The same code runs a study through ROS and
in-process, so that order, records and rules are the same.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol as Interface

from vla_rft_core.clock import MAX_CLOCK_STEP_NS, NS_PER_S, Clock
from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import append_line
from vla_rft_core.software import versions
from vla_rft_trials.progress import (
    Progress,
    check_log,
    file_sha256,
    progress,
    records_by_slot,
    ruled,
    settled,
    video_name,
)
from vla_rft_trials.records import Amendment, Outcome, Termination, TrialRecord, TrialStart
from vla_rft_trials.schedule import Slot
from vla_rft_trials.statistics.sequential import Decision
from vla_rft_trials.study import SESSIONS, Study, StudyError, open_study
from vla_rft_trials.trial_log import RecordError, RecordLog, read_log

DISK_NEEDED_BYTES = 200_000_000
"""Free space without which no trial is started."""


class TrialRefusedError(VlaRftError):
    """A trial could not be started: the scene, the preflight or the policy is not as it has to be. Nothing moved."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What was found just before a trial."""

    policy_stamp: str
    """From `Mapped.checked`: the policy is what was locked."""
    similarity: float | None = None
    preflight: Mapping[str, str] = field(default_factory=dict)
    calibration_id: str = ""
    """Of the cell."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a trial ended, as the stage saw it. The protocol's rules decide what becomes of a void one."""

    outcome: Outcome
    termination: Termination
    seconds: float
    """On the trial's own clock [s]."""
    failure_mode: str = ""
    note: str = ""
    labelled_by: str = ""
    edge_gap: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    frames_dropped: int = 0
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    episode: str = ""


class Stage(Interface):
    """Where trials take place."""

    clock: Clock

    def prepare(self, slot: Slot, index: int) -> Scene:
        """Home, scene, preflight, policy for the trial of that index. TrialRefusedError when it must not start."""

    def perform(self, start: TrialStart) -> Ending:
        """The trial, from the moment the policy may move; writes the video named in `start`."""


class Run:
    """The one process that adds trials to a study. A context: inside, the log is locked for it alone.

    Opening it closes what a killed evaluator left open, by the protocol's rule for interrupted trials.
    """

    def __init__(self, study: Study, *, clock: Clock, operator: str) -> None:
        """StudyError for a study that is unlocked or has lost records; RecordError when another process runs it."""
        if study.unlocked() is not None:
            raise StudyError(f"{study.folder}: is unlocked; trials of a study that is not blind any more are not run")
        self.study, self._clock, self._operator = study, clock, operator
        self._log = RecordLog(study.records)
        self._writing = threading.Lock()
        """A person's later word may come from another thread than the trials."""
        try:
            check_log(study, read_log(study.records))
            self._running: set[int] = set()
            self._offsets: dict[int, int] = {}
            self._close_interrupted()
            append_line(study.folder / SESSIONS, json.dumps(_session(self._operator, clock)))
        except OSError as error:
            self._log.close()
            raise RecordError(f"cannot write into {study.folder}: {error.strerror}") from None
        except BaseException:
            self._log.close()
            raise

    @property
    def next_index(self) -> int:
        """Of the next trial, 0-based."""
        return self._log.next_index

    def progress(self) -> Progress:
        """From what is on disk."""
        return progress(self.study, read_log(self.study.records))

    def next(self) -> Slot | None:
        """The place to fill next, not one that is being filled; None when there is none now."""
        contents = read_log(self.study.records)
        if progress(self.study, contents).decision is not Decision.GO_ON:
            return None
        by_slot = records_by_slot(contents)
        protocol, schedule = self.study.protocol, self.study.plan.schedule
        busy = {slot.block for slot in schedule if slot.number in self._running}
        for slot in schedule:
            if slot.number in self._running or settled(by_slot.get(slot.number, []), protocol.exclusions):
                continue
            waits = protocol.stopping.rule == "sequential" and any(block < slot.block for block in busy)
            return None if waits else slot  # a stopping rule looks at whole pairs, one after the other
        return None

    def start(self, slot: Slot, scene: Scene) -> TrialStart:
        """Write that the trial begins. TrialRefusedError when the disk is nearly full."""
        if open_study(self.study.folder).digest != self.study.digest:
            raise StudyError(f"{self.study.folder}: was locked anew while it was run")
        free = shutil.disk_usage(self.study.folder).free
        if free < DISK_NEEDED_BYTES:
            raise TrialRefusedError(
                f"the disk is nearly full: {free / 1e6:.0f} MB free, {DISK_NEEDED_BYTES / 1e6:.0f} MB needed"
            )
        index = self._log.next_index
        placement = self.study.plan.placement(slot.placement)
        earlier = records_by_slot(read_log(self.study.records)).get(slot.number, [])
        start = TrialStart(
            index=index,
            slot=slot.number,
            study=self.study.digest,
            seed=placement.seed,
            placement_id=placement.id,
            placement=str(placement),
            policy=slot.code,
            policy_stamp=scene.policy_stamp,
            started_ns=self._clock.realtime_ns(),
            video=video_name(index),
            repeats=earlier[-1].index if earlier else None,
            similarity=scene.similarity,
            preflight=scene.preflight,
            calibration_id=scene.calibration_id,
        )
        with self._writing:
            self._log.start(start)
        self._running.add(slot.number)
        self._offsets[index] = clock_offset(self._clock)
        return start

    def end(self, start: TrialStart, ending: Ending) -> TrialRecord:
        """Write how it ended, after the protocol's rules."""
        jump_s = (clock_offset(self._clock) - self._offsets.pop(start.index)) / NS_PER_S
        outcome, termination, note = ending.outcome, ending.termination, ending.note
        if abs(jump_s) > MAX_CLOCK_STEP_NS / NS_PER_S:
            outcome, termination = Outcome.VOID, Termination.CLOCK_JUMP
            note = "; ".join(part for part in (f"the clock jumped by {jump_s:+.3f} s", note) if part)
        outcome, mode = ruled(outcome, termination, ending.failure_mode, self.study.protocol.exclusions)
        record = TrialRecord.of(
            start,
            outcome=outcome,
            termination_reason=termination,
            ended_ns=self._clock.realtime_ns(),
            seconds=ending.seconds,
            failure_mode=mode,
            edge_gap=ending.edge_gap,
            metrics=ending.metrics,
            frames_dropped=ending.frames_dropped,
            latencies_ms=ending.latencies_ms,
            video_sha256=file_sha256(self.study.folder / start.video),
            episode=ending.episode,
            labelled_by=ending.labelled_by,
            note=note,
        )
        with self._writing:
            self._log.end(record)
        self._running.discard(start.slot)
        return record

    def declare_void(self, *, by: str, note: str) -> TrialRecord:
        """The last trial that ended says nothing after all; ValueError without a reason, StudyError without a trial."""
        if not note:
            raise ValueError("a trial is declared void for a reason; say which")
        ended = [r for r in read_log(self.study.records).records if r.index not in self._offsets]
        if not ended:
            raise StudyError("no trial has ended yet, so none can be declared void")
        last = ended[-1]
        stamp_ns = self._clock.realtime_ns()
        with self._writing:
            self._log.amend(Amendment(index=last.index, outcome=Outcome.VOID, by=by, note=note, stamp_ns=stamp_ns))
        return last

    def undo(self, *, by: str) -> int:
        """Take back the last later word; the index of its trial. RecordError when there is none."""
        with self._writing:
            return self._log.undo(by=by, stamp_ns=self._clock.realtime_ns()).index

    def close(self) -> None:
        """Let another process run the study."""
        self._log.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _close_interrupted(self) -> None:
        for start in self._log.open:
            outcome, mode = ruled(Outcome.VOID, Termination.INTERRUPTED, "", self.study.protocol.exclusions)
            sha = file_sha256(self.study.folder / start.video)
            note = "the evaluator was killed"
            self._log.end(
                TrialRecord.interrupted(start, outcome=outcome, failure_mode=mode, video_sha256=sha, note=note)
            )


def run_serially(
    run: Run, stage: Stage, *, limit: int | None = None, on_trial: Callable[[TrialRecord, Progress], None] | None = None
) -> Progress:
    """Trial after trial until the study is complete or `limit` trials were run; what the stage raises ends it."""
    done = 0
    while (slot := run.next()) is not None and (limit is None or done < limit):
        scene = stage.prepare(slot, run.next_index)
        start = run.start(slot, scene)
        record = run.end(start, stage.perform(start))
        done += 1
        if on_trial is not None:
            on_trial(record, run.progress())
    return run.progress()


def clock_offset(clock: Clock) -> int:
    """Stamps against monotonic time [ns]: constant while nobody sets the clock."""
    return clock.realtime_ns() - clock.monotonic_ns()


def _session(operator: str, clock: Clock) -> dict[str, object]:
    return {
        "operator": operator,
        "started_ns": clock.realtime_ns(),
        "software": versions(),
        "host": {"system": platform.platform(), "python": platform.python_version(), "cpus": str(os.cpu_count())},
    }
