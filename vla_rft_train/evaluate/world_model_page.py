"""The page of a world model's evaluation: tables, curves, predicted frames beside true ones, imagined failures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vla_rft_train.html_page import as_columns, figure, save, table
from vla_rft_train.pictures import save_rows

matplotlib.use("Agg")

PAPER = "paper, Table 1 (LIBERO, 256×256): MSE 0.0039, PSNR 25.23 dB, SSIM 0.906, LPIPS 0.059"
ROWS_SHOWN = 6
CASES_SHOWN = 8


def write(
    out: Path,
    facts: Mapping[str, Any],
    frames: Tensor,
    made: Mapping[str, Tensor],
    moving: Tensor,
    failures: Mapping[str, Tensor] | None,
) -> Path:
    """Write OUT/index.html with its pictures. frames [N, 1 + T, 3, H, W], made [N, T, 3, H, W] by name."""
    out.mkdir(parents=True, exist_ok=True)
    _curves(facts, out / "psnr.png")
    _side_by_side(frames, made, moving, out / "rollouts.png")
    parts = [
        "<h1>World model</h1>",
        f"<p>{facts['windows']} windows of {facts['episodes']} held-out episodes, {facts['resolution']}×"
        f"{facts['resolution']} pixels, a frame every {facts['frame_period_s']:.1f} s. {PAPER}.</p>",
        table(QUALITY_HEAD, quality_rows(facts)),
        f"<p>Action gap at the last frame (true − shuffled actions): <b>{facts['action_gap_db']:.1f} dB</b>.</p>",
        figure("psnr.png", "PSNR over the predicted frames, all pixels and moving pixels."),
        figure("rollouts.png", "Each pair of rows: what happened, and below it what the world model imagined."),
    ]
    if failures is not None:
        _failures(failures, out / "failures.png")
        parts += [
            "<h2>Failing actions</h2>",
            f"<p>{failing_text(facts)}</p>",
            table(("", "closer to the failure", "cases"), failing_rows(facts)),
            figure("failures.png", "Columns: start, the failure that happened, the imagined end, the success beside."),
        ]
    parts.append(f"<p>world model {facts['world_model']}<br>tokenizer {facts['tokenizer']}<br>seed {facts['seed']}</p>")
    return save(out / "index.html", "World model", parts)


QUALITY_HEAD = ("", "MSE", "PSNR", "SSIM", "perceptual", "PSNR, last frame", "moving", "moving, last frame")


def quality_rows(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per way of predicting."""
    return [
        (
            name,
            f"{q['mse']:.4f}",
            f"{q['psnr']:.2f}",
            f"{q['ssim']:.3f}",
            f"{q['perceptual']:.3f}",
            f"{q['psnr_by_frame'][-1]:.2f}",
            f"{q['psnr_moving']:.2f}",
            f"{q['psnr_moving_by_frame'][-1]:.2f}",
        )
        for name, q in facts["quality"].items()
    ]


def failing_rows(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per kind of failure."""
    return [(kind, str(closer), str(cases)) for kind, (closer, cases) in facts["failing"]["by_kind"].items()]


def failing_text(facts: Mapping[str, Any]) -> str:
    """The test in a sentence."""
    f = facts["failing"]
    return (
        f"The imagined last frame is closer to the failure than to the success in {f['closer_to_failure']} of "
        f"{f['cases']} cases (the tokenizer alone: {f['tokenizer_closer']}); median place between failure (0) and "
        f"success (1): {f['position']:.2f}"
    )


def as_text(facts: Mapping[str, Any]) -> str:
    """What the terminal shows."""
    lines = [as_columns(QUALITY_HEAD, quality_rows(facts))]
    lines.append(f"perceptual: {facts['perceptual']}; action gap at the last frame {facts['action_gap_db']:.1f} dB")
    if facts["failing"] is not None:
        lines.append(failing_text(facts))
    return "\n".join(lines)


def _curves(facts: Mapping[str, Any], path: Path) -> None:
    drawn = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, key, title in zip(
        drawn.subplots(1, 2, sharey=True),
        ("psnr_by_frame", "psnr_moving_by_frame"),
        ("all pixels", "moving pixels"),
        strict=True,
    ):
        for name, q in facts["quality"].items():
            axes.plot(range(1, 1 + len(q[key])), q[key], marker="o", markersize=3, label=name)
        axes.set(title=title, xlabel="predicted frame", ylabel="PSNR [dB]")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    drawn.savefig(path, dpi=120)


def _side_by_side(frames: Tensor, made: Mapping[str, Tensor], moving: Tensor, path: Path) -> None:
    """Windows in which much moves: true frames above imagined ones."""
    order = moving.flatten(1).float().mean(1).argsort(descending=True)
    shown = order[: len(order) // 2][:: max(1, len(order) // 2 // ROWS_SHOWN)][:ROWS_SHOWN]
    ours = next(iter(made.values()))
    rows = []
    for i in shown.tolist():
        rows += [frames[i], torch.cat([frames[i][:1], ours[i]])]
    save_rows(rows, path)


def _failures(pictures: Mapping[str, Tensor], path: Path) -> None:
    columns = [pictures[name] for name in ("start", "failure", "imagined", "success")]
    count = len(columns[0])
    chosen = [i * count // CASES_SHOWN for i in range(min(CASES_SHOWN, count))]
    save_rows([torch.stack([column[i] for column in columns]) for i in chosen], path)
