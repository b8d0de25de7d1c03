"""The page of a fine-tuning: every curve of its log, how the policy's actions have spread, what was imagined."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from vla_rft_train.html_page import figure, save, table
from vla_rft_train.loop.progress import LOG
from vla_rft_train.rft.presets import RftRun

matplotlib.use("Agg")

CURVES: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward", "reward_best", "held_out_reward"),
    "reward's parts": ("reward_R1", "reward_R2", "reward_R3", "reward_outcome"),
    "spread of a group": ("reward_spread", "advantage_size", "groups_left_out"),
    "held-out error, normalised": ("held_out_error",),
    "held-out error of translations [mm]": ("held_out_mm",),
    "ratio": ("ratio_mean", "ratio_min", "ratio_max"),
    "clip fraction and KL": ("clip_fraction", "kl"),
    "sigma": ("sigma_mean", "sigma_min", "sigma_max"),
    "entropy [nats]": ("entropy",),
    "losses": ("loss", "policy_loss", "mse"),
    "gradient norms": ("grad_norm_head", "grad_norm_sigma"),
    "seconds": (
        "seconds_look",
        "seconds_play",
        "seconds_imagine",
        "seconds_decode",
        "seconds_go_on",
        "seconds_reward",
        "seconds_update",
    ),
}
"""Title -> figures of the log; what a run did not log is left out."""
COLUMNS = 3


def read_log(run: Path) -> list[dict[str, float]]:
    """Lines of a run's log, by step; of a step that was logged twice (after a crash and a resume) the later one."""
    lines = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    return [line for _, line in sorted({line["step"]: line for line in lines}.items())]


def curve(log: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """(steps, values) of a figure, where it was logged."""
    points = [(line["step"], line[name]) for line in log if name in line]
    return [step for step, _ in points], [value for _, value in points]


def write(run_folder: Path, run: RftRun) -> Path:
    """Write RUN/index.html and its curves from the log and the pictures that are there."""
    log = read_log(run_folder)
    _save_curves(log, run_folder / "curves.png")
    _, rewards = curve(log, "held_out_reward")
    _, errors = curve(log, "held_out_mm")
    parts = [
        "<h1>Fine-tuning in the world model</h1>",
        f"<p>{int(log[-1]['step'])} of {run.loop.steps} steps, {run.loop.batch} start states × {run.group} rollouts, "
        f"reward {run.reward.design.value}{' + outcome' if run.reward.outcome else ''}. Perceptual distance: "
        f"{run.perceptual.label if run.reward.compares_pictures else 'none'}. On held-out start states, without noise, "
        f"from the first to the last figure: reward {rewards[0]:.4f} to {rewards[-1]:.4f}, error {errors[0]:.2f} to "
        f"{errors[-1]:.2f} mm.</p>",
        figure("curves.png", "Every figure of the log, by step."),
    ]
    pictures = run_folder / "pictures"
    if (pictures / "actions.png").is_file():
        parts.append(figure("pictures/actions.png", CAPTION))
    for sheet in sorted(pictures.glob("rollouts-*.png"))[-1:]:
        rows = "recorded frames, those imagined for the demonstration's actions, best rollout, worst rollout"
        reward = sheet.with_suffix(".txt").read_text(encoding="utf-8").strip()
        parts.append(figure(f"pictures/{sheet.name}", f"A held-out start state. Rows: {rows}; {reward}."))
    settings = [(name, str(value)) for name, value in _flat(asdict(run)).items()]
    parts += ["<h2>Settings</h2>", table(("", "value"), settings)]
    return save(run_folder / "index.html", "Fine-tuning", parts)


CAPTION = (
    "How often the policy with its noise chooses each value of the chunk's first action, normalised, at four held-out "
    "start states (the paper's Figure 4): at the start and now; lines: what was demonstrated."
)


def save_distributions(before: Tensor, now: Tensor, demonstrated: Tensor, names: Sequence[str], path: Path) -> None:
    """before and now [S, n, T, A], demonstrated [S, T, A], normalised: histograms of the first action's numbers."""
    drawn = Figure(figsize=(2.1 * len(names), 1.7 * len(before)), layout="constrained")
    grid = drawn.subplots(len(before), len(names), squeeze=False)
    for s, row in enumerate(grid):
        for a, (axes, name) in enumerate(zip(row, names, strict=True)):
            values = (before[s, :, 0, a], now[s, :, 0, a])
            span = (float(min(v.min() for v in values)), float(max(v.max() for v in values)))
            for value, label in zip(values, ("start", "now"), strict=True):
                axes.hist(value.tolist(), bins=20, range=span, alpha=0.5, label=label)
            axes.axvline(float(demonstrated[s, 0, a]), color="black", linewidth=1)
            axes.set(yticks=[], title=name if s == 0 else "")
    grid[0][0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=90)


def _save_curves(log: Sequence[Mapping[str, float]], path: Path) -> None:
    known = {title: [n for n in names if curve(log, n)[0]] for title, names in CURVES.items()}
    shown = {title: names for title, names in known.items() if names}
    rows = -(-len(shown) // COLUMNS)
    drawn = Figure(figsize=(4.4 * COLUMNS, 2.6 * rows), layout="constrained")
    grid = drawn.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes, (title, names) in zip(grid, shown.items(), strict=False):
        for name in names:
            axes.plot(*curve(log, name), label=name, marker="." if name.startswith("held_out") else "")
        axes.set(title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for axes in grid[len(shown) :]:
        axes.axis("off")
    drawn.savefig(path, dpi=100)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat
