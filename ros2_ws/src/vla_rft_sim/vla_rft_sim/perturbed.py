"""`python -m vla_rft_sim.perturbed DEMOS --starts 200 --out DIR`: what chunks lead to that are off by a little.

From every start state a demonstration's chunk is played as it was, and several times off by 2 to 40 mm or grasping or
letting go too soon or too late; then come the demonstration's own next deltas, watched as far as a rollout is imagined,
and then the demonstration from where it should have been by now, to its end. The study of rewards
(`vla_rft_train.rft.reward_truth`) compares what a reward thinks of a chunk with what it led to. What is written are
branches (`vla_rft_episodes.branches`): kind "expert" is the demonstration's chunk, "perturbed" are the others.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_core.geometry import Array
from vla_rft_episodes import branches as storage
from vla_rft_episodes.branches import EXPERT, FINISHED, VERTEX_DEVIATION, Branch
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_sim.attempt import Stage
from vla_rft_sim.collect import INTERRUPTED
from vla_rft_sim.continuation import Demonstration, begin, labelled, watch
from vla_rft_sim.deviations import CLOSED_M, Targets
from vla_rft_sim.shards import Shard, shards, simulate, workers

PERTURBED = "perturbed"
SMALLEST_M, LARGEST_M = 0.002, 0.04
"""How far off a chunk ends; sizes are drawn evenly over their logarithm."""
SHIFTS = (-4, -2, 0, 0, 2, 4)
"""By how many periods a chunk that grasps or lets go does so too late."""
BACK = 5
"""Periods in which the arm is led back to where the demonstration should be."""
REST = 12
"""Periods after the last target, for the towel to come to rest."""


@dataclass(frozen=True, kw_only=True)
class PerturbationPlan:
    """What is played; the same for all shards of a folder."""

    seed: int = 0
    starts: int = 200
    """Start states, over all demonstrations."""
    chunks: int = 8
    """Perturbed chunks per start state."""
    chunk: int = 8
    """Control periods that are off: a policy's chunk."""
    watched: int = 16
    """Control periods that are seen, the chunk's included: as far as is imagined."""

    def __post_init__(self) -> None:
        if self.seed < 0 or min(self.starts, self.chunks) < 1 or not 2 <= self.chunk <= self.watched:
            raise ValueError(
                f"seed at least 0, starts and chunks at least 1, chunk at least 2 and watched no shorter; got {self}"
            )


def to_the_end(demonstration: Demonstration, tick: int, watched: int) -> Targets:
    """All of a demonstration's targets from a tick on, and rest; at least so many as are watched."""
    return demonstration.targets(tick, max(len(demonstration.chunks) - tick, watched) + REST)


def perturb(targets: Targets, plan: PerturbationPlan, random: np.random.Generator) -> Targets:
    """Off by a draw within the chunk, off as much while watched, and led back to the demonstration after that."""
    size = float(np.exp(random.uniform(np.log(SMALLEST_M), np.log(LARGEST_M))))
    direction = random.normal(size=3)
    offset = size * direction / np.linalg.norm(direction)
    periods = np.arange(1, len(targets.widths) + 1)
    share = np.clip(periods / plan.chunk, 0.0, 1.0) * np.clip(1.0 - (periods - plan.watched) / BACK, 0.0, 1.0)
    shift = int(random.choice(SHIFTS))
    return replace(
        targets,
        positions=targets.positions + share[:, None] * offset,
        widths=shifted(targets.widths, plan.chunk, shift),
        parameters={"offset_m": size, "shift_periods": float(shift)},
    )


def shifted(widths: Array, chunk: int, periods: int) -> Array:
    """Widths (H,) whose change within the chunk comes so many periods later; what follows the chunk stays."""
    closed = widths[:chunk] < CLOSED_M
    events = np.flatnonzero(closed[1:] != closed[:-1]) + 1
    if not len(events) or not periods:
        return widths
    event, changed = int(events[0]), widths.copy()
    if periods > 0:
        changed[event : min(event + periods, chunk)] = widths[event - 1]
    else:
        changed[max(0, event + periods) : event] = widths[event]
    return changed


def make_shard(stage: Stage, shard: Shard, plan: PerturbationPlan, out: Path) -> Counter[str]:
    """Simulate and write the start states of one shard; counts start states."""
    demonstration = Demonstration.load(shard.episode)
    stage.randomizer.apply(demonstration.randomization)
    random = shard.random(plan.seed)
    places = demonstration.phases.open  # after the release nothing is left to go wrong
    made: list[Branch] = []
    for tick in sorted(int(t) for t in random.choice(places, size=shard.count, replace=shard.count > places)):
        made += from_one_start(stage, demonstration, tick, plan, random)
    storage.write_shard(out, shard.name, made, spec=stage.cell.spec, plan=asdict(plan))
    return Counter({"starts": shard.count})


def from_one_start(
    stage: Stage, demonstration: Demonstration, tick: int, plan: PerturbationPlan, random: np.random.Generator
) -> list[Branch]:
    """The demonstration's chunk, then the perturbed ones. EpisodeError when the safety filter refuses most of them."""
    as_it_was = to_the_end(demonstration, tick, plan.watched)
    expert, reference = _play(stage, demonstration, tick, as_it_was, plan, kind=EXPERT, reference=None)
    made, failures = [expert], 0
    while len(made) <= plan.chunks:
        try:
            targets = perturb(as_it_was, plan, random)
            made.append(_play(stage, demonstration, tick, targets, plan, kind=PERTURBED, reference=reference)[0])
        except DeviceError as error:
            failures += 1
            if failures > 4 * plan.chunks:
                raise EpisodeError(
                    f"{demonstration.episode}: from tick {tick} most chunks fail, the last because {error}"
                ) from None
    return made


def _play(
    stage: Stage,
    demonstration: Demonstration,
    tick: int,
    targets: Targets,
    plan: PerturbationPlan,
    *,
    kind: str,
    reference: Array | None,
) -> tuple[Branch, Array]:
    """The branch, and where the towel's vertices are when the watching ends."""
    cell, world = stage.cell, stage.world
    begin(stage, demonstration, tick, targets)
    observations, truths = watch(stage, plan.watched)
    vertices = world.vertices
    cell.wait((len(targets.widths) - plan.watched) * cell.spec.control_period_ns)
    away = 0.0 if reference is None else float(np.linalg.norm(vertices - reference, axis=-1).mean())
    parameters = {**targets.parameters, FINISHED: float(world.truth().success), VERTEX_DEVIATION: away}
    return labelled(stage, demonstration, observations, truths, labels=(kind, parameters, tick)), vertices


def main(argv: Sequence[str] | None = None) -> int:
    """Make them; exit code 1 for an error in one sentence, 130 after SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.perturbed", description=__doc__)
    parser.add_argument("demonstrations", type=Path, metavar="DEMOS", help="a collection of simulated demonstrations")
    parser.add_argument("--starts", type=int, default=200, help="start states (default 200)")
    parser.add_argument("--chunks", type=int, default=8, help="perturbed chunks of each (default 8)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of shards, new or to go on with")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other start states (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    given = parser.parse_args(argv)
    try:
        plan = PerturbationPlan(seed=given.seed, starts=given.starts, chunks=given.chunks)
        wanted = shards(Collection(given.demonstrations), plan.starts)
        with workers(given.workers, make_shard, plan, given.out) as crew:
            for _ in simulate(crew, wanted, plan, given.out, what="start states"):
                pass
    except (ValueError, VlaRftError) as error:
        print(f"perturbed: {error}", file=sys.stderr)
        return 1
    return INTERRUPTED if crew.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
