"""`python -m vla_rft_sim.branch DEMOS --count 2000 --out DIR`: continuations of demonstrations that mostly go wrong.

Every branch restores a demonstration's world at one of its ticks and plays the next targets changed in one way
(`deviations`), through executor and safety filter. Seed, horizon and count decide everything; an interrupted run goes
on where it stopped. What is written is read by `vla_rft_episodes.branches`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_episodes import branches as storage
from vla_rft_episodes.branches import EXPERT, Branch
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_sim.attempt import Stage
from vla_rft_sim.collect import INTERRUPTED
from vla_rft_sim.continuation import Demonstration, branch_off, twin_of
from vla_rft_sim.shards import Shard, shards, simulate, workers


@dataclass(frozen=True, kw_only=True)
class BranchPlan:
    """How branches come about; the same for all shards of a folder."""

    seed: int = 0
    horizon: int = 16
    """Control periods per branch."""
    count: int = 2000
    twins: bool = False
    """Beside every branch that does something differently, the expert's from the same tick: to compare with."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.horizon < 4 or self.count < 1:
            raise ValueError(f"seed must be at least 0, horizon 4, count 1; got {self}")


def make_shard(stage: Stage, shard: Shard, plan: BranchPlan, out: Path) -> Counter[str]:
    """Simulate and write one shard; how many branches there are of each kind."""
    demonstration = _load(shard.episode)
    stage.randomizer.apply(demonstration.randomization)
    random = shard.random(plan.seed)
    made: list[Branch] = []
    twins: list[Branch] = []
    failures = 0
    while len(made) < shard.count:
        try:
            branch = branch_off(stage, demonstration, horizon=plan.horizon, random=random)
            if plan.twins and branch.kind != EXPERT:
                twins.append(twin_of(stage, demonstration, branch))
            made.append(branch)
        except DeviceError as error:
            failures += 1
            if failures > shard.count:
                raise EpisodeError(f"{shard.episode}: most branches fail, the last because {error}") from None
    storage.write_shard(out, shard.name, made + twins, spec=stage.cell.spec, plan=asdict(plan))
    return Counter(branch.kind for branch in made)


_load = lru_cache(maxsize=1)(Demonstration.load)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.branch", description=__doc__)
    parser.add_argument("demonstrations", type=Path, metavar="DEMOS", help="a collection of simulated demonstrations")
    parser.add_argument("--count", type=int, default=2000, help="branches wanted (default 2000)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of shards, new or to go on with")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other branches (default 0)")
    parser.add_argument("--horizon", type=int, default=16, help="control periods per branch (default 16)")
    parser.add_argument("--twins", action="store_true", help="beside each, the expert's branch from the same tick")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make branches; exit code 1 for an error in one sentence, 130 after SIGINT."""
    arguments = _parser().parse_args(argv)
    out, began = arguments.out, time.monotonic()
    kinds: Counter[str] = Counter()
    try:
        plan = BranchPlan(seed=arguments.seed, horizon=arguments.horizon, count=arguments.count, twins=arguments.twins)
        wanted = shards(Collection(arguments.demonstrations), plan.count)
        with workers(arguments.workers, make_shard, plan, out) as crew:
            for made in simulate(crew, wanted, plan, out, what="branches"):
                kinds += made
    except (ValueError, VlaRftError) as error:
        print(f"branch: {error}", file=sys.stderr)
        return 1
    print(_table(kinds, out, minutes=(time.monotonic() - began) / 60.0))
    return INTERRUPTED if crew.interrupted else 0


def _table(kinds: Counter[str], out: Path, *, minutes: float) -> str:
    megabytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    rows = [(name, f"{count}") for name, count in sorted(kinds.items())]
    rows += [("minutes", f"{minutes:.1f}"), ("MB", f"{megabytes:.0f}")]
    if kinds.total():
        rows.append(("seconds/branch", f"{60.0 * minutes / kinds.total():.2f}"))
    return "\n".join(f"{name:<16}{value:>8}" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())
