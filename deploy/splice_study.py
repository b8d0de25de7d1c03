"""`python -m deploy.splice_study BUNDLE --out DIR`: does the arm jerk where chunks meet? Measured at four latencies.

A bundle acts in the simulated cell with its answers held back by a fixed time. Of the set-points that were sent, at the
servo rate, the jerk (third difference) near the first set-point of every chunk is compared with that inside of chunks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deploy import runtime
from deploy.runtime.policies import NoChunkError, RunningPolicy
from vla_rft_core.cell import from_factory
from vla_rft_core.clock import NS_PER_S, nanoseconds
from vla_rft_core.errors import VlaRftError
from vla_rft_core.splice import SpliceConfig, SpliceMode, Splicer
from vla_rft_core.types import Source

LATENCIES_MS = (0, 50, 150, 300)
CELL = "vla_rft_sim.cell:towel_cell"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Path3:
    """What was sent in one trial, tick by tick."""

    times: Array
    """(n,) [s]"""
    positions: Array
    """(n, 3) [m] in base."""
    wanted: Array
    """(n, 3) [m]: what the executor asked for, before the safety filter limited its acceleration."""
    starts: NDArray[np.bool_]
    """(n,): the first set-point of a chunk that followed another one."""

    def jerk(self, positions: Array) -> Array:
        """(n - 3,) norm of the third difference over the tick's third power [m/s^3]; of ticks 1 to n - 3."""
        tick_s = float(np.median(np.diff(self.times)))
        return np.asarray(np.linalg.norm(np.diff(positions, n=3, axis=0), axis=1) / tick_s**3)

    def near_starts(self, within: int) -> NDArray[np.bool_]:
        """(n - 3,): jerks that a chunk's beginning has part in: from the target before it to the target after."""
        near = np.zeros(len(self.times), bool)
        for tick in np.flatnonzero(self.starts):
            near[max(0, tick - 3) : tick + within] = True
        return near[1:-2]


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """Jerk of the sent set-points, over all trials of one setting [m/s^3]."""

    mode: str
    latency_ms: int
    boundaries: int
    """Chunks that followed another one."""
    peak_at_boundaries: float
    peak_inside: float
    ratio: float
    """Of the two peaks."""
    p99_ratio: float
    """The same of the 99th percentiles."""
    wanted_ratio: float
    """Of the two peaks in what the executor asked for: what the splice alone does, without the filter's limits."""
    no_chunk: int
    """Observations that the policy refused."""
    holds: int
    """Trials that a safety rule ended early."""


def drive(
    cell: Any, policy: RunningPolicy, seed: int, *, splicer: Splicer, latency_ns: int, steps: int, ticks: int
) -> tuple[Path3, int, bool]:
    """One trial of `ticks` decisions, `steps` control periods apart: (what was sent, refusals, held)."""
    period_ns = cell.spec.control_period_ns
    sent: list[tuple[float, Array, Array, bool]] = []
    last: list[int] = []

    def look(report: Any) -> None:
        if report.sent is None or report.played is None:
            return
        sequence = report.played.sequence
        fresh = bool(last) and sequence != last[-1]
        last.append(sequence)
        wanted = report.requested.T_base_tcp.position
        sent.append((report.stamp_ns / NS_PER_S, np.array(report.sent.T_base_tcp.position), np.array(wanted), fresh))

    cell.reset(seed)
    cell.activate(Source.POLICY)
    policy.begin(seed)
    splicer.restart()
    cell.on_step = look
    refused = 0
    for _ in range(ticks):
        observation = cell.observe()
        committed = splicer.committed(
            observation.stamp_ns, observation.commanded, latency_ns=latency_ns, spec=cell.spec
        )
        try:
            chunk = policy.decide(observation, committed=committed).chunk
        except NoChunkError:
            refused += 1
            cell.wait(steps * period_ns)
            continue
        cell.wait(latency_ns)
        cell.execute(splicer.splice(chunk, now_ns=observation.stamp_ns + latency_ns))
        cell.wait(steps * period_ns - latency_ns)
        if cell.holding:
            break
    cell.on_step = None
    times, positions, wanted, starts = zip(*sent, strict=True)
    path = Path3(np.array(times), np.array(positions), np.array(wanted), np.array(starts))
    return path, refused, bool(cell.holding)


def judge(
    paths: Sequence[Path3], *, mode: str, latency_ms: int, within: int, refused: int, held: int = 0
) -> Smoothness:
    """The figures of one setting. The start of a trial, from rest, is neither boundary nor inside."""
    near = np.concatenate([path.near_starts(within)[2 * within :] for path in paths])
    sent = np.concatenate([path.jerk(path.positions)[2 * within :] for path in paths])
    wanted = np.concatenate([path.jerk(path.wanted)[2 * within :] for path in paths])
    at, inside = sent[near], sent[~near]
    tiny = np.finfo(float).tiny
    return Smoothness(
        mode=mode,
        latency_ms=latency_ms,
        boundaries=int(sum(p.starts.sum() for p in paths)),
        peak_at_boundaries=float(at.max(initial=0.0)),
        peak_inside=float(inside.max(initial=0.0)),
        ratio=float(at.max(initial=0.0) / inside.max(initial=tiny)),
        p99_ratio=float(np.percentile(at, 99) / max(tiny, np.percentile(inside, 99))),
        wanted_ratio=float(wanted[near].max(initial=0.0) / wanted[~near].max(initial=tiny)),
        no_chunk=refused,
        holds=held,
    )


def study(policy: RunningPolicy, cell: Any, given: argparse.Namespace) -> tuple[list[Smoothness], dict[int, Path3]]:
    """All settings; and of the first mode one path per latency, for the plot."""
    found, shown = [], {}
    settings = [(SpliceMode(mode), latency) for mode in given.modes for latency in LATENCIES_MS]
    within = round(cell.spec.control_period_s / 0.01)
    ticks = round(given.seconds / (given.n_action_steps * cell.spec.control_period_s))
    for mode, latency_ms in tqdm(settings, desc="splicing", unit="setting", file=sys.stderr):
        splicer = Splicer(SpliceConfig(mode=mode))
        driven = [
            drive(
                cell,
                policy,
                seed,
                splicer=splicer,
                latency_ns=nanoseconds(latency_ms / 1e3),
                steps=given.n_action_steps,
                ticks=ticks,
            )
            for seed in range(given.first_seed, given.first_seed + given.trials)
        ]
        paths, refusals, held = (list(part) for part in zip(*driven, strict=True))
        found.append(
            judge(paths, mode=str(mode), latency_ms=latency_ms, within=within, refused=sum(refusals), held=sum(held))
        )
        if str(mode) == given.modes[0]:
            shown[latency_ms] = paths[0]
    return found, shown


def save_plot(paths: dict[int, Path3], found: Sequence[Smoothness], mode: str, out: Path) -> None:
    """Speed and jerk over time, one row per latency, chunk boundaries marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(paths), 2, figsize=(13, 2.4 * len(paths)), sharex=True, squeeze=False)
    ratios = {s.latency_ms: s.ratio for s in found if s.mode == mode}
    for (latency_ms, path), (left, right) in zip(paths.items(), rows, strict=True):
        times = path.times - path.times[0]
        speed = np.linalg.norm(np.diff(path.positions, axis=0), axis=1) / np.median(np.diff(path.times))
        left.plot(times[1:], speed, color="black", linewidth=0.8)
        left.set_ylabel(f"{latency_ms} ms\nspeed [m/s]")
        right.plot(times[1:-2], path.jerk(path.positions), color="black", linewidth=0.6)
        right.set_ylabel("jerk [m/s³]")
        right.set_title(f"peak at boundaries / inside: {ratios[latency_ms]:.2f} (all trials)", fontsize=9)
        for axis in (left, right):
            for tick in np.flatnonzero(path.starts):
                axis.axvline(times[tick], color="tab:orange", linewidth=0.5, linestyle="--")
    rows[-1][0].set_xlabel("time [s]")
    rows[-1][1].set_xlabel("time [s]; dashed: a chunk begins")
    figure.suptitle(f"set-points sent with splice mode {mode}, answers held back by 0 to 300 ms")
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def as_text(found: Sequence[Smoothness]) -> str:
    """The table for a terminal."""
    heading = f"{'splice':<10}{'latency':>9}{'boundaries':>12}{'peak there':>12}{'peak inside':>13}"
    lines = [f"{heading}{'ratio':>7}{'of p99':>8}{'unfiltered':>12}{'holds':>7}"]
    for s in found:
        lines.append(
            f"{s.mode:<10}{f'{s.latency_ms} ms':>9}{s.boundaries:>12}{s.peak_at_boundaries:>12.1f}"
            f"{s.peak_inside:>13.1f}{s.ratio:>7.2f}{s.p99_ratio:>8.2f}{s.wanted_ratio:>12.2f}{s.holds:>7}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write OUT/splice.json and OUT/splice.png; exit code 1 with one sentence for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m deploy.splice_study", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of table and plot")
    parser.add_argument("--modes", nargs="+", default=[str(SpliceConfig().mode)], choices=list(SpliceMode))
    parser.add_argument("--trials", type=int, default=5, help="placements per setting (default 5)")
    parser.add_argument("--first-seed", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each trial (default 8)")
    parser.add_argument("--n-action-steps", type=int, default=4, help="control periods between decisions (default 4)")
    parser.add_argument("--cell", default=CELL, help=f"factory of the simulated cell (default {CELL})")
    given = parser.parse_args(argv)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        policy = runtime.load(given.bundle, allow_unverified=True)
        cell = from_factory(given.cell)
        try:
            found, shown = study(policy, cell, given)
        finally:
            cell.close()
    except (ValueError, VlaRftError) as error:
        print(f"splice_study: {error}", file=sys.stderr)
        return 1
    save_plot(shown, found, given.modes[0], given.out / "splice.png")
    facts = {"bundle": policy.bundle.digest, "settings": [asdict(s) for s in found]}
    (given.out / "splice.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
