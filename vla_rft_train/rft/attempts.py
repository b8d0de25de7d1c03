"""`python -m vla_rft_train.rft.attempts POLICY --out DIR`: a policy's own attempts, for the world model to learn from.

It knows demonstrations and how they go wrong; a policy goes wrong in ways of its own. Every attempt in the simulated
cell, failure or not, becomes one long branch (`vla_rft_episodes.branches`) of kind "success" or of its failure; then

    python -m vla_rft_train.train_world_model sim --start WORLD_MODEL --data.attempts DIR --loop.steps 500 ...

goes on with the world model's training, before or between fine-tunings.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_rft_core.action import action_between
from vla_rft_core.cell import from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_core.image import policy_image
from vla_rft_core.types import Observation
from vla_rft_episodes import branches as storage
from vla_rft_episodes.branches import TRUTHS, Branch, compress
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
        seen, spec = self._observations, self._cell.spec
        commanded = [observation.commanded for observation in seen]
        return Branch(
            kind=result.failure or SUCCESS,
            parameters={"seed": float(result.seed)},
            episode=f"attempt-{result.seed}",
            tick=0,
            prompt=seen[0].prompt,
            commanded=np.array([[*s.T_base_tcp.position, *s.T_base_tcp.quaternion, s.width] for s in commanded]),
            actions=np.array([action_between(a, b, spec) for a, b in itertools.pairwise(commanded)]),
            states=np.array([observation.state for observation in seen]),
            truth={name: np.array([_fact(truth, name) for truth in self._truths]) for name in TRUTHS},
            jpegs={
                camera.name: [compress(policy_image(o.images[camera.name], camera.policy_size)) for o in seen]
                for camera in spec.cameras
            },
        )


def _fact(truth: Any, name: str) -> float:
    return float(truth.grasped_vertices if name == "held" else getattr(truth, name))


def record(given: argparse.Namespace) -> Counter[str]:
    """Run the attempts that are not there yet, one shard each; how they ended."""
    model = released.load_policy(given.policy)
    settings = LoopSettings(noise_scale=given.noise_scale, num_steps=given.num_steps)
    plan = {"policy": model.digest, "cell": given.cell, **asdict(settings)}
    present = sorted(given.out.glob(f"{storage.PREFIX}*"))
    if present and (theirs := storage.read_shard_manifest(present[0])["plan"]) != plan:
        raise ValueError(f"{given.out}: holds attempts of {theirs}, not of {plan}; take another folder")
    ended: Counter[str] = Counter()
    cell: TrialCell = from_factory(given.cell)
    try:
        actor = Actor(model, num_steps=settings.num_steps, noise_scale=settings.noise_scale)
        for seed in tqdm(range(given.first_seed, given.first_seed + given.trials), "attempts", file=sys.stderr):
            name = f"attempt-{seed:06d}"
            if (given.out / f"{storage.PREFIX}{name}").exists():
                continue
            tape = Tape(cell)
            branch = tape.branch(run_trial(cell, actor, seed, settings, on_period=tape.see))
            storage.write_shard(given.out, name, [branch], spec=cell.spec, plan=plan)
            ended[branch.kind] += 1
    finally:
        cell.close()
    return ended


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
