"""`python -m vla_rft_train.evaluate actions BASE TUNED`: how a fine-tuning has spread a policy's actions (Figure 4).

Both policies answer the same recorded observations with the same noise; shown are the translations along x and z of
all actions of their chunks, in millimetres per control period, beside those that were demonstrated. And what is wrong
with where a chunk leads, apart: what it owes to its noise, and what the policy makes of the observation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from vla_rft_core.errors import VlaRftError
from vla_rft_train import released
from vla_rft_train.data.policy_windows import PolicyWindows
from vla_rft_train.data.prepare_policy import prepare_policy
from vla_rft_train.evaluate.policy import answers
from vla_rft_train.models.policy import Policy
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.released import Released

matplotlib.use("Agg")

AXES = ("delta.x", "delta.z")
"""The paper's."""
DEMONSTRATED = "demonstrated"
TRANSLATIONS = ("delta.x", "delta.y", "delta.z")
PICTURE, FIGURES = "actions.png", "figures.json"
BINS = 40


@torch.inference_mode()
def answered(
    model: Released[Policy, PolicyRun],
    windows: PolicyWindows,
    *,
    num_steps: int,
    noise_scale: float,
    draws: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """What the policy wants [draws, windows, horizon, TRANSLATIONS] for so many draws of the noise, and what was
    demonstrated [windows, horizon, TRANSLATIONS], in millimetres per control period."""
    stats = model.stats["action"]
    columns = [stats.names.index(name) for name in TRANSLATIONS]
    drawn = []
    for draw in range(draws):
        chunks = answers(model.model, windows, num_steps=num_steps, noise_scale=noise_scale, seed=seed + draw)
        pairs = zip(*chunks, strict=True)
        wanted, demonstrated = (1000.0 * stats.unnormalize(torch.cat(parts))[..., columns] for parts in pairs)
        drawn.append(wanted)
    return torch.stack(drawn), demonstrated


def on_axes(actions: Tensor) -> Tensor:
    """[actions, AXES] of [..., TRANSLATIONS]."""
    return actions.flatten(0, -2)[:, [TRANSLATIONS.index(name) for name in AXES]]


def apart(errors: Tensor) -> dict[str, dict[str, float]]:
    """Of the errors of chunks' ends [draws, windows, TRANSLATIONS] per axis [mm]: the deviation over draws, the root
    mean square over windows of what is the same for all draws, and the mean."""
    of_noise = errors.std(dim=0).mean(dim=0)
    same = errors.mean(dim=0)
    return {
        name: {
            "of_noise_mm": float(of_noise[i]),
            "of_observation_mm": float(same[:, i].square().mean().sqrt()),
            "mean_mm": float(same[:, i].mean()),
        }
        for i, name in enumerate(TRANSLATIONS)
    }


def spread(actions: Tensor) -> dict[str, dict[str, float]]:
    """Per axis: deviation, and the span that holds 98 % [mm]."""
    low, high = torch.quantile(actions, torch.tensor([0.01, 0.99]), dim=0)
    deviation = actions.std(dim=0)
    return {
        name: {"deviation_mm": float(deviation[i]), "span_mm": float(high[i] - low[i])} for i, name in enumerate(AXES)
    }


def draw(shown: Mapping[str, Tensor], path: Path) -> None:
    """One histogram over x and z per policy, all on the same axes."""
    every = torch.cat(list(shown.values()))
    limits = [(float(every[:, i].min()), float(every[:, i].max())) for i in range(len(AXES))]
    figure = Figure(figsize=(4.0 * len(shown), 3.6), layout="constrained")
    grid = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, actions) in zip(grid, shown.items(), strict=True):
        axes.hist2d(actions[:, 0].numpy(), actions[:, 1].numpy(), bins=BINS, range=limits, norm=LogNorm())
        axes.set(title=name, xlabel="x [mm per period]", ylabel="z [mm per period]" if axes is grid[0] else "")
    figure.savefig(path, dpi=110)


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """All figures as plain data; the picture goes to `given.out`."""
    shown: dict[str, Tensor] = {}
    digests, errors = {}, {}
    for name, folder in (("base", given.base), ("fine-tuned", given.tuned)):
        model = released.load_policy(folder)
        run = model.config
        data = replace(run.data, dataset=str(given.dataset), keypoints="", held_out=0.0, keep_frames=False)
        windows = prepare_policy(replace(run, data=data), stats=model.stats).train
        wanted, demonstrated = answered(
            model,
            windows,
            num_steps=given.num_steps,
            noise_scale=given.noise_scale,
            draws=given.draws,
            seed=given.seed,
        )
        shown |= {name: on_axes(wanted[0]), DEMONSTRATED: on_axes(demonstrated)}
        errors[name] = apart((wanted - demonstrated).sum(dim=2))
        digests[name] = model.digest
    draw({name: shown[name] for name in ("base", "fine-tuned", DEMONSTRATED)}, given.out / PICTURE)
    return {
        "policies": digests,
        "dataset": str(given.dataset),
        "num_steps": given.num_steps,
        "noise_scale": given.noise_scale,
        "actions": len(shown[DEMONSTRATED]),
        "spread": {name: spread(actions) for name, actions in shown.items()},
        "draws": given.draws,
        "errors": errors,
    }


def main(arguments: Sequence[str]) -> int:
    """Draw OUT/actions.png, write OUT/figures.json; exit code 1 for a mistake, in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.evaluate actions", description=__doc__)
    parser.add_argument("base", type=Path, help="checkpoint of the policy that the fine-tuning began with")
    parser.add_argument("tuned", type=Path, help="checkpoint of the fine-tuned policy")
    parser.add_argument("--dataset", type=Path, required=True, help="a LeRobot v3 dataset, best of held-out episodes")
    parser.add_argument("--out", type=Path, required=True, help="folder of picture and figures")
    parser.add_argument("--num-steps", type=int, default=10, help="Euler steps (default 10)")
    parser.add_argument("--noise-scale", type=float, default=1.0, help="of the noise chunks start from (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--draws", type=int, default=3, help="of the noise, for what a chunk owes to it (default 3)")
    given = parser.parse_args(arguments)
    try:
        if given.draws < 2:
            raise ValueError(f"--draws: at least 2, got {given.draws}")
        given.out.mkdir(parents=True, exist_ok=True)
        facts = evaluate(given)
    except (ValueError, VlaRftError) as error:
        print(f"evaluate actions: {error}", file=sys.stderr)
        return 1
    (given.out / FIGURES).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for name, axes in facts["spread"].items():
        print(f"{name:<14}" + "  ".join(f"{axis} ± {row['deviation_mm']:.2f} mm" for axis, row in axes.items()))
    for name, axes in facts["errors"].items():
        for kind, what in (("of_noise_mm", "owed to the noise"), ("of_observation_mm", "owed to the observation")):
            print(f"{name:<14}{what:<26}" + "  ".join(f"{axis} {row[kind]:.1f} mm" for axis, row in axes.items()))
    return 0
