"""`python -m vla_rft_sim.study --protocol FILE --out DIR`: a study without ROS, in simulated time, faster than real.

The same lock, order, records and report as on the robot. An interrupted study goes on where it stopped.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vla_rft_core.cell import from_factory
from vla_rft_core.clock import SystemClock, nanoseconds, seconds
from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_core.types import Source
from vla_rft_sim.bundle_driver import BundleDriver
from vla_rft_sim.cell import SimCell, towel_cell
from vla_rft_sim.demonstrate import next_chunk
from vla_rft_sim.perturbation import lead_hand, lead_ns
from vla_rft_sim.towel import Placement, TowelTruth
from vla_rft_sim.workers import Workers
from vla_rft_trials.overlay import Caption, with_caption
from vla_rft_trials.progress import Progress, progress
from vla_rft_trials.records import Outcome, Termination, TrialRecord, TrialStart
from vla_rft_trials.referee import LABEL, Look, Referee
from vla_rft_trials.running import Ending, Run, Scene
from vla_rft_trials.seal import Mapped
from vla_rft_trials.study import LOCKED, Study, lock, open_study, unlock
from vla_rft_trials.trial_log import LogContents, read_log
from vla_rft_trials.video import VideoWriter

OPERATOR = "simulator"
LAID_OUT = {"scene": "laid out by the simulator exactly as required, so not looked at"}
UNVERIFIED = {"gate": "bundles may not have passed their closed-loop gate"}
"""In the records of a study that was run with --allow-unverified."""
INTERRUPTED = 130
"""Exit code after SIGINT."""


class SimStage:
    """One cell with every policy of a study; one per process."""

    def __init__(self, study: Study, mapping: Mapped, *, allow_unverified: bool = False) -> None:
        self._study, self._mapping, self._allow_unverified = study, mapping, allow_unverified
        self._policies: dict[str, Any] = {}
        self.cell: SimCell = towel_cell()
        self.cell.prompt = study.protocol.prompt
        if study.protocol.spec != self.cell.spec.name:
            raise ValueError(f"the protocol is for spec {study.protocol.spec!r}, the cell's is {self.cell.spec.name!r}")
        self._period_ns = nanoseconds(self.cell.spec.control_period_s)

    def perform(self, start: TrialStart) -> Ending:
        """One trial, with its video, in simulated time."""
        cell, policy = self.cell, self._policy(start.policy)
        if hasattr(policy, "begin_trial"):
            policy.begin_trial(start.index)
        place = self._study.plan.placement(start.placement_id)
        cell.reset(start.seed, placement=Placement(place.x, place.y, place.yaw, place.seed))
        # The clock is set once, before anything moves, so that the hand is where it has to be when the trial starts.
        cell.clock.realtime_offset_ns = start.started_ns - lead_ns(cell, place.hand) - cell.clock.monotonic_ns()
        lead_hand(cell, place.hand)
        if isinstance(policy, BundleDriver):
            cell.activate(Source.POLICY)
        else:
            cell.activate(Source.TELEOP)
            policy.start()
            policy.observe_corners(cell.world.truth().corners)
        with VideoWriter(self._study.folder / start.video, queue_frames=10_000) as video:
            try:
                ending = self._watch(policy, start, video)
            except DeviceError as error:
                ending = _fault(error, seconds(cell.clock.realtime_ns() - start.started_ns))
        return ending

    def _watch(self, policy: Any, start: TrialStart, video: VideoWriter) -> Ending:
        cell, referee, ticks = self.cell, Referee(self._study.protocol), 0
        camera, title = cell.spec.cameras[0].name, f"trial {start.index + 1}"
        while True:
            now_ns = cell.clock.realtime_ns()
            elapsed_s = seconds(now_ns - start.started_ns)
            truth, drives = cell.world.truth(), isinstance(policy, BundleDriver)
            chunk = policy.next_chunk(cell, ticks) if drives else next_chunk(cell, policy, sequence=ticks)
            picture = cell.observe().images[camera]
            video.write(with_caption(picture, Caption(title, elapsed_s, str(cell.status().mode))), now_ns)
            look = Look(
                seconds=elapsed_s,
                success=truth.success,
                grasped=truth.grasped_vertices > 0,
                wanted_width=cell.state().reference.width,
                idle=chunk is None and not drives,
                hold=cell.holding,
            )
            ending = referee.look(look)
            if ending is not None:
                return _measured(ending, truth)
            if chunk is not None:
                cell.execute(chunk)
            cell.wait(self._period_ns)
            ticks += 1

    def _policy(self, code: str) -> Any:
        if code not in self._policies:
            entry, _ = self._mapping.checked(code, self._study.protocol.policies)
            self._policies[code] = (
                BundleDriver(Path(entry.bundle), allow_unverified=self._allow_unverified)
                if entry.bundle
                else from_factory(entry.factory, clock=self.cell.clock, **entry.options)
            )
        return self._policies[code]


def _measured(ending: Ending, truth: TowelTruth) -> Ending:
    names = ("edge_gap", "mirrored_gap", "area_ratio", "max_height")
    return replace(ending, edge_gap=truth.edge_gap, metrics={name: float(getattr(truth, name)) for name in names})


def _fault(error: DeviceError, elapsed_s: float) -> Ending:
    return Ending(
        outcome=Outcome.VOID,
        termination=Termination.DEVICE_FAULT,
        seconds=elapsed_s,
        note=str(error),
        labelled_by=LABEL,
    )


_stage: SimStage | None = None


def _prepare(folder: Path, allow_unverified: bool) -> None:
    global _stage
    study = open_study(folder)
    _stage = SimStage(study, study.mapping(), allow_unverified=allow_unverified)


def _perform(start: TrialStart) -> tuple[TrialStart, Ending]:
    assert _stage is not None
    return start, _stage.perform(start)


def run_study(
    study: Study, *, workers: int = 2, limit: int | None = None, allow_unverified: bool = False, bar: Any = None
) -> list[TrialRecord]:
    """Run what is left of a study, at most `limit` trials; the records added. SIGINT lets running trials finish."""
    mapping, added, started = study.mapping(), [], 0
    checked = LAID_OUT | (UNVERIFIED if allow_unverified else {})

    with Run(study, clock=SystemClock(), operator=OPERATOR) as run:

        def next_start(running: int) -> TrialStart | None:
            nonlocal started
            slot = run.next() if limit is None or started < limit else None
            if slot is None:
                return None
            started += 1
            _, stamp = mapping.checked(slot.code, study.protocol.policies)
            return run.start(slot, Scene(policy_stamp=stamp, preflight=checked))

        with Workers(workers, _prepare, study.folder, allow_unverified) as crew:
            for start, ending in crew.results(_perform, next_start):
                added.append(run.end(start, ending))
                if bar is not None:
                    bar.update()
    return added


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.study", description=__doc__)
    parser.add_argument("--protocol", type=Path, metavar="FILE", help="locked into DIR first, unless DIR is a study")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the study: a new folder, or one to go on"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--limit", type=int, help="at most so many trials now")
    parser.add_argument(
        "--allow-unverified", action="store_true", help="run bundles without a passed gate; every record says so"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Lock if need be, run, and once complete unlock and report; exit code 2 with one sentence, 130 after SIGINT."""
    options = _parser().parse_args(argv)
    try:
        study = _opened(options.protocol, options.out)
        print("\n".join(study.plan.detectable), flush=True)
        began_s, began_cpu_s = time.monotonic(), _cpu_s()
        done = _progress(study).settled
        with tqdm(total=len(study.plan.schedule), initial=done, desc="trials", unit="", file=sys.stderr) as bar:
            added = run_study(
                study,
                workers=options.workers,
                limit=options.limit,
                allow_unverified=options.allow_unverified,
                bar=bar,
            )
        wall_s, cpu_s = time.monotonic() - began_s, _cpu_s() - began_cpu_s
        print(f"{len(added)} trials in {wall_s:.0f} s, {cpu_s:.0f} s of processor time")
        if not _progress(study).complete:
            print(f"not complete yet; the same command goes on: --out {options.out}")
            return INTERRUPTED if options.limit is None else 0
        unlock(study, complete=True)
        from vla_rft_trials.report import render  # matplotlib is slow to import

        print(render(study.folder))
    except (ValueError, VlaRftError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


def _opened(protocol: Path | None, folder: Path) -> Study:
    if (folder / LOCKED).exists():
        return open_study(folder)
    if protocol is None:
        raise ValueError(f"{folder} is no study yet; --protocol FILE locks one")
    return lock(protocol, folder)


def _progress(study: Study) -> Progress:
    return progress(study, read_log(study.records) if study.records.exists() else LogContents(()))


def _cpu_s() -> float:
    """Processor time of this process and of its workers that have ended [s]."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    sys.exit(main())
