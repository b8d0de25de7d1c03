"""Pictures of a policy's evaluation: success over latency, and what the camera saw in a trial, as a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib
from matplotlib.figure import Figure

from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import Image
from vla_rft_train.closed_loop import LoopSettings

matplotlib.use("Agg")


def save_success(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Success rates with their intervals, by latency."""
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.subplots()
    rows = sorted(table, key=lambda row: row["latency"])
    rates = [row["successes"] / row["trials"] for row in rows]
    errors = [
        [rate - row["low"] for rate, row in zip(rates, rows, strict=True)],
        [row["high"] - rate for rate, row in zip(rates, rows, strict=True)],
    ]
    axes.bar([str(row["latency"]) for row in rows], rates, yerr=errors, capsize=4, color="#4c78a8")
    axes.set(xlabel="latency [control periods]", ylabel="success (95 % interval)", ylim=(0.0, 1.0))
    figure.savefig(path, dpi=110)


def save_video(images: Sequence[Image], path: Path, settings: LoopSettings, spec: RobotSpec) -> None:
    """One picture per decision, in real time."""
    periods = max(settings.n_action_steps, settings.latency)
    rate = Fraction(1, periods) / Fraction(spec.control_period_s).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "26"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
