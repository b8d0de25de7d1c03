"""`python -m vla_rft_train.evaluate policy`: what a policy is worth, on recorded actions and in a cell.

Open loop: error per dimension of the action, in its unit. Closed loop: success over paired placements at every latency,
with Wilson intervals and failure modes, time per decision, and videos of the median and the worst trial.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from vla_rft_core.cell import from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_core.splice import SpliceConfig, SpliceMode
from vla_rft_train import released
from vla_rft_train.closed_loop import FAILURES, Actor, LoopSettings, TrialCell, TrialResult, run_trial, run_trials
from vla_rft_train.data.policy_windows import PolicyWindows
from vla_rft_train.data.prepare_policy import prepare_policy
from vla_rft_train.evaluate import policy_pictures
from vla_rft_train.models.policy import Policy
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.released import Released
from vla_rft_train.stages import as_float

CELL = "vla_rft_sim.cell:towel_cell"
BATCH = 64
TIMED = 50
"""Decisions whose duration is measured."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """Trials at one latency."""

    latency: int
    """Control periods."""
    successes: int
    trials: int
    low: float
    high: float
    """95 % Wilson interval of the rate."""
    failures: Mapping[str, int]
    """Mode -> trials."""
    rejected: int
    """Chunks that the safety filter dropped, over all trials."""
    seconds: float
    """Median duration of a success, NaN without one."""


# --- open loop ------------------------------------------------------------------------------------------------


def answers(
    policy: Policy, windows: PolicyWindows, *, num_steps: int, noise_scale: float, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks that the policy samples from all windows and those that were demonstrated, normalised, batch by batch."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(windows), BATCH):
        indices = range(start, min(start + BATCH, len(windows)))
        batch = torch.utils.data.default_collate([windows[i] for i in indices])
        sampled = policy.sample(
            as_float(batch["images"][:, 0]),
            batch["prompt_tokens"],
            batch["states"][:, 0],
            noise_scale * policy.noise(len(indices), generator),
            num_steps=num_steps,
        )
        yield sampled, batch["actions"]


@torch.inference_mode()
def open_loop(policy: Policy, windows: PolicyWindows, stats: Any, *, num_steps: int, seed: int) -> dict[str, float]:
    """Mean absolute error per dimension of the action, over all windows, in the dimension's unit."""
    total = torch.zeros(len(stats.names))
    for sampled, demonstrated in answers(policy, windows, num_steps=num_steps, noise_scale=1.0, seed=seed):
        error = (stats.unnormalize(sampled) - stats.unnormalize(demonstrated)).abs()
        total += error.mean(dim=1).sum(dim=0)
    return dict(zip(stats.names, (total / len(windows)).tolist(), strict=True))


# --- closed loop ----------------------------------------------------------------------------------------------


def summarize(latency: int, results: Sequence[TrialResult]) -> Success:
    """Success and failures of one latency's trials."""
    successes = sum(result.success for result in results)
    interval = binomtest(successes, len(results)).proportion_ci(confidence_level=0.95, method="wilson")
    modes = Counter(result.failure for result in results if result.failure)
    durations = [result.duration_s for result in results if result.success]
    return Success(
        latency=latency,
        successes=successes,
        trials=len(results),
        low=float(interval.low),
        high=float(interval.high),
        failures={mode: modes[mode] for mode in FAILURES},
        rejected=sum(result.rejected for result in results),
        seconds=float(np.median(durations)) if durations else float("nan"),
    )


def ranked(results: Sequence[TrialResult]) -> list[TrialResult]:
    """From the quickest success to the failure whose towel is farthest from folded."""
    return sorted(results, key=lambda r: (not r.success, r.duration_s if r.success else r.edge_gap_m))


@torch.inference_mode()
def decision_ms(model: Released[Policy, PolicyRun], *, num_steps: int) -> dict[str, float]:
    """Processor time of one sampled chunk [ms], median and 99th percentile; at as many threads as torch has."""
    policy, size = model.model, model.config.policy.image_size
    images, state = torch.rand(1, 3, size, size), torch.zeros(1, policy.shapes.state_dim)
    tokens = torch.zeros(1, model.config.policy.prompt_length, dtype=torch.int64)
    times = []
    for _ in range(TIMED):
        start = time.process_time()
        policy.sample(images, tokens, state, policy.noise(1), num_steps=num_steps)
        times.append(1000.0 * (time.process_time() - start))
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


# --- the command ----------------------------------------------------------------------------------------------


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures as plain data; pictures and videos go to `arguments.out`."""
    model = released.load_policy(arguments.policy)
    settings = LoopSettings(
        n_action_steps=arguments.n_action_steps,
        num_steps=arguments.num_steps,
        noise_scale=arguments.noise_scale,
        splice=SpliceConfig(mode=SpliceMode(arguments.splice)),
    )
    facts: dict[str, Any] = {
        "policy": model.digest,
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "settings": asdict(settings),
        "cell": arguments.cell,
        "decision_ms": decision_ms(model, num_steps=settings.num_steps),
        "threads": torch.get_num_threads(),
    }
    if arguments.dataset is not None:
        facts["open_loop"] = _open_loop(model, arguments)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.trials)
    cell: TrialCell = from_factory(arguments.cell)
    try:
        facts |= _closed_loop(model, cell, seeds, settings, arguments)
    finally:
        cell.close()
    return facts


def _open_loop(model: Released[Policy, PolicyRun], arguments: argparse.Namespace) -> dict[str, Any]:
    run = model.config
    data = replace(run.data, dataset=str(arguments.dataset), keypoints="", keep_frames=False)
    prepared = prepare_policy(replace(run, data=data), stats=model.stats)
    parts = {"trained on": prepared.train, "held out": prepared.held_out}
    stats, steps = model.stats["action"], arguments.num_steps
    return {
        name: open_loop(model.model, windows, stats, num_steps=steps, seed=arguments.seed)
        for name, windows in parts.items()
    }


def _closed_loop(
    model: Released[Policy, PolicyRun],
    cell: TrialCell,
    seeds: range,
    settings: LoopSettings,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    actor = Actor(model, num_steps=settings.num_steps, noise_scale=settings.noise_scale)
    table, trials = [], {}
    for latency in arguments.latencies:
        at = replace(settings, latency=latency)
        with tqdm(total=len(seeds), desc=f"latency {latency}", unit="trial", file=sys.stderr) as bar:
            results = run_trials(cell, actor, seeds, at, progress=bar.update)
        table.append(asdict(summarize(latency, results)))
        trials[latency] = [asdict(result) for result in results]
        if latency == arguments.latencies[0]:
            order = ranked(results)
            for name, chosen in (("median", order[len(order) // 2]), ("worst", order[-1])):
                images: list[Any] = []
                run_trial(cell, actor, chosen.seed, at, on_image=images.append)
                policy_pictures.save_video(images, arguments.out / f"{name}.mp4", settings, cell.spec)
    policy_pictures.save_success(table, arguments.out / "success.png")
    return {"first_seed": seeds.start, "success": table, "trials": trials}


def as_text(facts: Mapping[str, Any]) -> str:
    """The tables for a terminal."""
    lines = [
        f"policy {facts['policy'][:12]}, {facts['parameters'] / 1e6:.2f} M parameters, "
        f"{facts['decision_ms']['p50']:.1f} ms of processor time per decision (p99 {facts['decision_ms']['p99']:.1f})"
    ]
    if "open_loop" in facts:
        parts = facts["open_loop"]
        lines += ["", f"{'mean absolute error':<22}" + "".join(f"{name:>14}" for name in parts)]
        for name in next(iter(parts.values())):
            lines.append(f"{name:<22}" + "".join(f"{_in_milli(name, part[name]):>14}" for part in parts.values()))
    lines += ["", f"{'latency':<10}{'success':>10}{'95 %':>14}{'seconds':>9}  failures"]
    for row in facts["success"]:
        modes = ", ".join(f"{count} {mode}" for mode, count in row["failures"].items() if count)
        score, interval = f"{row['successes']}/{row['trials']}", f"{row['low']:.0%} to {row['high']:.0%}"
        lines.append(f"{row['latency']:<10}{score:>10}{interval:>14}{row['seconds']:>9.1f}  {modes}")
    return "\n".join(lines)


def _in_milli(name: str, value: float) -> str:
    return f"{1000.0 * value:.2f} {'mrad' if '.r' in name else 'mm'}"


def main(arguments: list[str]) -> int:
    """Print the tables and write OUT/figures.json; exit code 1 for a mistake, in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.evaluate policy", description=__doc__)
    parser.add_argument("policy", type=Path, help="its checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of figures, pictures and videos")
    parser.add_argument("--dataset", type=Path, help="the LeRobot v3 dataset it was trained on: adds the open loop")
    parser.add_argument("--cell", default=CELL, help=f"factory of the cell (default {CELL})")
    parser.add_argument("--trials", type=int, default=50, help="placements per latency (default 50)")
    parser.add_argument("--first-seed", type=int, default=0, help="of the placements (default 0)")
    parser.add_argument(
        "--latencies", type=int, nargs="+", default=[1, 0, 2, 3], help="control periods; videos of the first"
    )
    parser.add_argument("--n-action-steps", type=int, default=LoopSettings().n_action_steps, help="between decisions")
    parser.add_argument(
        "--splice",
        default=LoopSettings().splice.mode,
        choices=list(SpliceMode),
        help="how chunks are joined (default blend; rtc needs a bundle)",
    )
    parser.add_argument("--num-steps", type=int, default=LoopSettings().num_steps, help="Euler steps (default 10)")
    parser.add_argument("--noise-scale", type=float, default=1.0, help="of the noise chunks start from (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the open loop's noise")
    given = parser.parse_args(arguments)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        facts = evaluate(given)
    except (ValueError, VlaRftError) as error:
        print(f"evaluate policy: {error}", file=sys.stderr)
        return 1
    (given.out / "figures.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(as_text(facts))
    return 0
