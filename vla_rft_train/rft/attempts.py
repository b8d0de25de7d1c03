"""`python -m vla_rft_train.rft.attempts POLICY --out DIR`: a policy's own attempts, for the world model to learn from.

It knows demonstrations and how they go wrong; a policy goes wrong in ways of its own. Every attempt in the simulated
cell, failure or not, becomes one long branch (`vla_rft_episodes.branches`) of kind "success" or of its failure; then

    python -m vla_rft_train.train_world_model sim --start WORLD_MODEL --data.attempts DIR --loop.steps 500 ...

goes on with the world model's training, before or between fine-tunings.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vla_rft_core.cell import from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_core.types import Observation
from vla_rft_episodes import branches as storage
from vla_rft_episodes.branches import Branch, branch_of
from vla_rft_train import released
from vla_rft_train.closed_loop import Actor, LoopSettings, TrialCell, TrialResult, run_trial
from vla_rft_train.evaluate.policy import CELL

SUCCESS = "success"


class Tape:
    """Everything an attempt saw, a control period apart."""

    def __init__(self, cell: TrialCell) -> None:
        self._cell = cell
        self._observations: list[Observation] = []
        self._truths: list[Any] = []

    def see(self) -> None:
        """One control period more."""
        self._observations.append(self._cell.observe())
        self._truths.append(self._cell.world.truth())

    def branch(self, result: TrialResult) -> Branch:
        """The whole attempt."""
        return branch_of(
            self._observations,
            self._truths,
            self._cell.spec,
            kind=result.failure or SUCCESS,
            parameters={"seed": float(result.seed)},
            episode=f"attempt-{result.seed}",
            tick=0,
            prompt=self._observations[0].prompt,
        )


def record(given: argparse.Namespace) -> Counter[str]:
    """Run the attempts that are not there yet, one shard each; how they ended."""
    model = released.load_policy(given.policy)
    settings = LoopSettings(noise_scale=given.noise_scale, num_steps=given.num_steps)
    plan = {"policy": model.digest, "cell": given.cell, **asdict(settings)}
    present = sorted(given.out.glob(f"{storage.PREFIX}*"))
    if present and (theirs := storage.read_shard_manifest(present[0])["plan"]) != plan:
        raise ValueError(f"{given.out}: holds attempts of {theirs}, not of {plan}; take another folder")
    seeds = range(given.first_seed, given.first_seed + given.trials)
    left = [seed for seed in seeds if not (given.out / f"{storage.PREFIX}{_name(seed)}").exists()]
    ended: Counter[str] = Counter()
    if not left:
        return ended
    cell: TrialCell = from_factory(given.cell)
    try:
        actor = Actor(model, num_steps=settings.num_steps, noise_scale=settings.noise_scale)
        for seed in tqdm(left, "attempts", file=sys.stderr):
            tape = Tape(cell)
            branch = tape.branch(run_trial(cell, actor, seed, settings, on_period=tape.see))
            storage.write_shard(given.out, _name(seed), [branch], spec=cell.spec, plan=plan)
            ended[branch.kind] += 1
    finally:
        cell.close()
    return ended


def _name(seed: int) -> str:
    return f"attempt-{seed:06d}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Record them; exit code 1 for a mistake, in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.rft.attempts", description=__doc__)
    parser.add_argument("policy", type=Path, help="its checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of attempts, or to go on with")
    parser.add_argument("--trials", type=int, default=50, help="attempts (default 50)")
    parser.add_argument("--first-seed", type=int, default=5000, help="of the placements (default 5000)")
    parser.add_argument("--cell", default=CELL, help=f"factory of the cell (default {CELL})")
    parser.add_argument("--num-steps", type=int, default=10, help="Euler steps (default 10)")
    parser.add_argument("--noise-scale", type=float, default=1.0, help="of the noise chunks start from (default 1)")
    try:
        ended = record(parser.parse_args(arguments))
    except (ValueError, VlaRftError) as error:
        print(f"attempts: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"{name:<16}{count:>6}" for name, count in sorted(ended.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
