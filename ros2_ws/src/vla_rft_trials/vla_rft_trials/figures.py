"""Figures of a report as SVG text: how many have not succeeded yet, over time. Drawn to be read without colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vla_rft_trials.statistics.survival import Time, kaplan_meier

_INK, _FAINT = "#1d2329", "#8a949e"
_LINES = (("#25566b", "-"), ("#b3391f", "--"), ("#1b7a55", "-."), ("#7a4fa3", ":"))
"""Colour and dash: told apart in black and white, too."""


@dataclass(frozen=True)
class Named:
    """One policy's times under the name to print."""

    name: str
    times: tuple[Time, ...]


def success_curves(policies: Sequence[Named], limit_s: float) -> str:
    """Share of trials that have succeeded by each time, 1 - Kaplan-Meier, as an <svg> element."""
    figure = Figure(figsize=(8.6, 3.1), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    for i, policy in enumerate(policies):
        colour, dash = _LINES[i % len(_LINES)]
        curve = kaplan_meier(policy.times)
        seconds = [*curve.seconds.tolist(), limit_s]
        share = [100.0 * (1.0 - value) for value in curve.share.tolist()]
        axes.step(seconds, [*share, share[-1]], where="post", color=colour, linestyle=dash, lw=2.2, label=policy.name)
    axes.set_xlim(0.0, limit_s)
    axes.set_ylim(-2.0, 103.0)
    axes.set_xlabel("time since the trial began [s]", color=_INK)
    axes.set_ylabel("succeeded so far [%]", color=_INK)
    axes.grid(axis="y", color=_FAINT, alpha=0.3, lw=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """Without a date and with fixed ids, so that the same data give the same bytes."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vla-rft"}):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
