"""`python -m vla_rft_train.rft.sight PRESET --out DIR --policy P ...`: which of an action's numbers a reward sees.

From some start states the policy's chunk is tried out many times over, with the noise that it would be fine-tuned
with, but in every number. Of each number of the action by itself, and of all together: the share of the reward's
variance that a linear function of its mean over the chunk's first and second half foretells, each half of the rollouts
from the other. That is what a policy gradient can use. A number at 0 or below is not seen: leave it out of
`sigma.numbers`, nothing but noise would move it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from vla_rft_train import command
from vla_rft_train.html_page import as_columns
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.rft.__main__ import make_stage
from vla_rft_train.rft.presets import RftRun, rft_run
from vla_rft_train.rft.stage import RftStage

ALL = "all together"
NO_STEP = -1
"""Draws of its own, none of a training's."""
RIDGE = 1e-3
"""Of the features' variance."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of one number of the action, or of all."""

    number: str
    share: float
    """Of the reward's variance within a start state, foretold; mean over start states."""
    error: float
    """Standard error of the mean."""


def sight(run: RftRun, arguments: argparse.Namespace) -> int:
    """DIR/sight.json, DIR/sight.png and a table."""
    if arguments.states < 2:
        raise ValueError(f"--states: at least 2, got {arguments.states}")
    if arguments.rollouts < 32:
        raise ValueError(f"--rollouts: at least 32 of a start state, got {arguments.rollouts}")
    run = replace(run, group=arguments.rollouts, sigma=replace(run.sigma, numbers=()))
    stage = make_stage(run, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    count = len(stage.dataset)
    chosen = np.random.default_rng(run.loop.seed).choice(count, size=min(arguments.states, count), replace=False)
    tried = [try_out(stage, int(index)) for index in tqdm(chosen, "start states", unit="state", file=sys.stderr)]
    found = judged(tried, stage.model.names)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "sight.json").write_text(json.dumps([asdict(seen) for seen in found], indent=1) + "\n", encoding="utf-8")
    _draw(found, out / "sight.png")
    print(as_columns(("number", "share", "±"), [(s.number, f"{s.share:.2f}", f"{s.error:.2f}") for s in found]))
    return 0


def try_out(stage: RftStage, index: int) -> tuple[Tensor, Tensor]:
    """Chunks [N, T, A], normalised, and their rewards [N], from a start state of the dataset."""
    device = next(stage.model.parameters()).device
    batch = {name: value.to(device) for name, value in default_collate([stage.dataset[index]]).items()}
    seen, _ = stage.play(batch | {STEP: torch.tensor(NO_STEP)})
    return seen.chain.actions.cpu(), seen.rewards[0].cpu()


def judged(tried: Sequence[tuple[Tensor, Tensor]], names: Sequence[str]) -> list[Seen]:
    """Of every number and of all together; start states whose rewards are all equal say nothing."""
    spread = [(actions.double(), rewards.double()) for actions, rewards in tried if bool(rewards.std() > 0.0)]
    if not spread:
        raise ValueError("the reward is the same for all rollouts of every start state")
    choices = [(name, [i]) for i, name in enumerate(names)] + [(ALL, list(range(len(names))))]
    found = []
    for name, numbers in choices:
        shares = torch.tensor([foretold(actions[:, :, numbers], rewards) for actions, rewards in spread])
        error = float(shares.std() / len(shares) ** 0.5) if len(shares) > 1 else float("nan")
        found.append(Seen(number=name, share=float(shares.mean()), error=error))
    return found


def foretold(actions: Tensor, rewards: Tensor) -> float:
    """Share of the variance of rewards [N] that actions [N, T, A] foretell, half of the rollouts from the other."""
    half = actions.shape[1] // 2
    features = torch.cat([actions[:, :half].mean(1), actions[:, half:].mean(1)], dim=1)
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-9)
    wanted = rewards - rewards.mean()
    parts = torch.arange(len(rewards)).chunk(2)
    left = 0.0
    for known, asked in (parts, parts[::-1]):
        x, y = features[known], wanted[known]
        weights = torch.linalg.solve(x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
        left += float((wanted[asked] - features[asked] @ weights).square().sum())
    return 1.0 - left / float(wanted.square().sum())


def _draw(found: Sequence[Seen], path: Path) -> None:
    figure = Figure(figsize=(6.0, 0.35 * len(found) + 0.8), layout="constrained")
    axes = figure.add_subplot(xlabel="share of the reward's variance that can be learned from")
    names = [seen.number for seen in found]
    axes.barh(names, [seen.share for seen in found], xerr=[seen.error for seen in found], color="tab:blue")
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Beside the preset's fields."""
    parser.add_argument("--states", type=int, default=16, help="start states (default 16)")
    parser.add_argument("--rollouts", type=int, default=256, help="of each (default 256)")


if __name__ == "__main__":
    command.study(rft_run, sight, add_options, __doc__ or "")
