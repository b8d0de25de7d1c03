"""`python -m deploy.verify BUNDLE`: does the bundle compute what PyTorch does, and does it fold as many towels?

First every backend that runs here against the golden observations, part by part. Then the closed-loop gate: paired
placements in a simulated cell, the same noise for both; the loss of success must be below 10 points with one-sided
95 % confidence. The gate's result goes into the bundle's manifest, and so changes its identity.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from tqdm import tqdm

from deploy.backends import BACKENDS, Backend, load_backend
from deploy.bundle import Bundle, BundleError, Gate, open_bundle, record_gate
from deploy.runtime import DEFAULT_BACKEND
from deploy.runtime.golden import compare, misses
from deploy.runtime.policies import NetworkPolicy, NoChunkError
from deploy.thresholds import GATE_CONFIDENCE, GATE_LOSS, GATE_PAIRS, Closeness
from deploy.torch_backend import TorchBackend
from vla_rft_core.cell import from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_core.splice import SpliceConfig, SpliceMode
from vla_rft_core.types import ActionChunk, Observation
from vla_rft_train import released
from vla_rft_train.closed_loop import Actor, LoopSettings, TrialCell, run_trial

CELL = "vla_rft_sim.cell:towel_cell"
FIRST_SEED = 100


class BundleActor(Actor):
    """The exported policy where closed-loop evaluation expects a trained one; it draws the same noise."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._exported = NetworkPolicy(bundle, backend)
        self.spec, self._network = bundle.spec, bundle.network
        self.restart(0)

    def restart(self, seed: int) -> None:
        """The same noise after the same seed, as `Actor.restart`."""
        self._generator = torch.Generator().manual_seed(seed)
        self._exported.begin(seed)

    def act(self, observation: Observation) -> ActionChunk:
        """The bundle's chunk."""
        shape = (1, self._network.horizon, self.spec.action_dim)
        noise = self._network.noise_scale * torch.randn(*shape, generator=self._generator)
        return self._exported.decide(observation, noise=noise[0].numpy()).chunk


def loss_bound(lost: int, pairs: int) -> float:
    """One-sided upper bound on the probability that a pair is lost (Clopper-Pearson).

    The loss of success is that probability less the one of winning a pair, so it is bounded, too.
    """
    interval = binomtest(lost, pairs, alternative="less").proportion_ci(GATE_CONFIDENCE, method="exact")
    return float(interval.high)


def run_gate(
    bundle: Bundle,
    backend: Backend,
    checkpoint: Path,
    cell: TrialCell,
    *,
    pairs: int,
    first_seed: int,
    latency: int,
    on_pair: Callable[[int, bool, bool], None] = lambda seed, reference, exported: None,
) -> Gate:
    """Each placement once by PyTorch (training's own code around it) and once by the bundle."""
    if pairs < GATE_PAIRS:
        raise ValueError(f"pairs: the gate needs at least {GATE_PAIRS}, got {pairs}")
    network, model = bundle.network, released.load_policy(checkpoint)
    if model.digest != network.checkpoint:
        raise BundleError(f"{checkpoint}: is not the checkpoint that {bundle.folder} was made of")
    reference = Actor(model, num_steps=network.num_steps, noise_scale=network.noise_scale, camera=network.camera)
    exported = BundleActor(bundle, backend)
    settings = LoopSettings(latency=latency, num_steps=network.num_steps)
    if network.splice is not SpliceMode.RTC:  # that needs the bundle's graph; then both are blended
        settings = replace(settings, splice=SpliceConfig(mode=network.splice))
    outcomes = []
    for seed in range(first_seed, first_seed + pairs):
        by_torch = run_trial(cell, reference, seed, settings).success
        try:
            by_bundle = run_trial(cell, exported, seed, settings).success
        except NoChunkError:
            by_bundle = False  # on the robot the arm would hold
        outcomes.append((by_torch, by_bundle))
        on_pair(seed, by_torch, by_bundle)
    lost = sum(a and not b for a, b in outcomes)
    bound = loss_bound(lost, pairs)
    return Gate(
        passed=bound <= GATE_LOSS,
        pairs=pairs,
        lost=lost,
        won=sum(b and not a for a, b in outcomes),
        successes=sum(b for _, b in outcomes),
        reference_successes=sum(a for a, _ in outcomes),
        bound=bound,
        latency=latency,
        first_seed=first_seed,
        parts=bundle.graph_hashes(),
    )


def parity(bundle: Bundle, checkpoint: Path, names: Sequence[str]) -> dict[str, dict[str, Closeness] | str]:
    """Backend -> how close it comes, or why it does not run here. PyTorch itself, run anew, is the first."""
    found: dict[str, dict[str, Closeness] | str] = {
        "torch-eager": compare(TorchBackend(bundle, checkpoint, precision="fp32"), bundle)
    }
    for name in names:
        try:
            found[name] = compare(load_backend(name, bundle), bundle)
        except BundleError as error:
            found[name] = str(error)
    return found


def verify(bundle: Bundle, given: argparse.Namespace) -> dict[str, Any]:
    """All figures as plain data; `problems` says in words what was not met."""
    checkpoint = given.checkpoint or Path(bundle.network.checkpoint_folder)
    found = parity(bundle, checkpoint, list(BACKENDS))
    precision, problems = bundle.network.precision, []
    for name, parts in found.items():
        if isinstance(parts, str):
            problems += [parts] if name == given.backend else []
        else:
            limits = "fp32" if name == "torch-eager" else precision
            problems += [f"{name}: {miss}" for miss in misses(parts, limits)]
    facts: dict[str, Any] = {
        "bundle": bundle.digest,
        "precision": precision,
        "parity": {
            name: parts if isinstance(parts, str) else {part: asdict(value) for part, value in parts.items()}
            for name, parts in found.items()
        },
        "problems": problems,
    }
    if not problems and not given.no_gate:
        with _cell(given.cell) as cell, tqdm(total=given.pairs, desc="gate", unit="pair", file=sys.stderr) as bar:
            backend = load_backend(given.backend, bundle)
            backend.warm_up()
            gate = run_gate(
                bundle,
                backend,
                checkpoint,
                cell,
                pairs=given.pairs,
                first_seed=given.first_seed,
                latency=given.latency,
                on_pair=lambda seed, reference, exported: bar.update(),
            )
        facts["gate"], facts["bundle"] = asdict(gate), record_gate(bundle, backend.describe().backend, gate).digest
        if not gate.passed:
            problems.append(
                f"gate: {gate.lost} of {gate.pairs} pairs lost, the loss may be up to {gate.bound:.1%} "
                f"(needed: {GATE_LOSS:.0%})"
            )
    return facts


@contextmanager
def _cell(factory: str) -> Iterator[TrialCell]:
    cell: TrialCell = from_factory(factory)
    try:
        yield cell
    finally:
        cell.close()


def as_text(facts: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [f"{'backend':<18}{'part':<10}{'cosine':>12}{'largest error':>16}"]
    for name, parts in facts["parity"].items():
        if isinstance(parts, str):
            lines.append(f"{name:<18}not run: {parts}")
            continue
        for part, value in parts.items():
            lines.append(f"{name:<18}{part:<10}{value['cosine']:>12.7f}{value['max_error']:>16.1e}")
    if "gate" in facts:
        gate = facts["gate"]
        lines += [
            "",
            f"closed loop, {gate['pairs']} pairs of trials, placements from seed {gate['first_seed']}, latency "
            f"{gate['latency']}: PyTorch {gate['reference_successes']}, bundle {gate['successes']} successes",
            f"lost {gate['lost']}, won {gate['won']}: a loss of at most {gate['bound']:.1%} (one-sided 95 %)",
            f"gate {'passed' if gate['passed'] else 'FAILED'}; the bundle is now {facts['bundle'][:12]}",
        ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 with one sentence per threshold that was missed, or for a bundle that cannot be verified."""
    parser = argparse.ArgumentParser(prog="python -m deploy.verify", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="what it was made of (default: where it was then)")
    parser.add_argument("--backend", default=DEFAULT_BACKEND, choices=list(BACKENDS), help="of the closed loop")
    parser.add_argument("--no-gate", action="store_true", help="parity only; the manifest stays as it is")
    parser.add_argument("--cell", default=CELL, help=f"factory of the simulated cell (default {CELL})")
    parser.add_argument("--pairs", type=int, default=GATE_PAIRS, help=f"placements (default {GATE_PAIRS})")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help=f"of them (default {FIRST_SEED})")
    parser.add_argument("--latency", type=int, default=1, help="control periods from observation to chunk (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        facts = verify(open_bundle(given.bundle), given)
    except (ValueError, VlaRftError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    print(json.dumps(facts) if given.json else as_text(facts))
    for problem in facts["problems"]:
        print(f"verify: {problem}", file=sys.stderr)
    return 1 if facts["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
