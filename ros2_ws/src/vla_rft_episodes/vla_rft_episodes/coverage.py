"""Where towels were taken: a map from above of the first gripper closings, with the cells that nobody has tried yet.

Only what a real robot measures: tcp position and direction when the fingers first closed. It does not see the towel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vla_rft_core import config
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_episodes.collection import Collection, EpisodeRef
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.measure import motion_numbers, read_motion
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.verdict import VerdictLimits

_INK, _FAINT, _PAPER = "#1d2329", "#8a949e", "#ffffff"
_SHADES = ("#d6e6f4", "#abcfe6", "#6aaed6", "#3787c0", "#105ba4")
"""Cells with 1, 2, 3, 4 and more starts: one hue from light to dark, told apart in any colour vision."""
_NEWEST = "#d55e00"
_DPI = 100
_TICK_M = 0.016
"""Half the length of the mark that shows the direction of the fingers [m]."""


@dataclass(frozen=True)
class Start:
    """Where one attempt first closed its fingers, in base."""

    episode_id: str
    x: float
    """[m]"""
    y: float
    """[m]"""
    yaw: float
    """Direction of the tool's x axis [rad], in (-pi/2, pi/2]."""
    discarded: bool = False
    """It does not count."""


@dataclass(frozen=True)
class Region:
    """A rectangle on the table that is divided into square cells."""

    low: tuple[float, float]
    """x, y in base [m]"""
    high: tuple[float, float]
    """x, y in base [m]"""
    cell: float = 0.05
    """[m]"""

    def __post_init__(self) -> None:
        if self.cell <= 0.0 or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"region: low must be below high and cells positive, got {self.low}, {self.high}, {self.cell}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y; the last ones may reach beyond the rectangle."""
        along = [math.ceil((b - a) / self.cell - 1e-9) for a, b in zip(self.low, self.high, strict=True)]
        return along[0], along[1]

    def cell_of(self, x: float, y: float) -> tuple[int, int] | None:
        """Indices of the cell that holds a point; None when it lies outside."""
        i, j = math.floor((x - self.low[0]) / self.cell), math.floor((y - self.low[1]) / self.cell)
        return (i, j) if 0 <= i < self.shape[0] and 0 <= j < self.shape[1] else None


def starts(collection: Collection) -> tuple[Start, ...]:
    """Where the attempts of a collection first closed their fingers, oldest first; those that never did are left out.

    Taken from the verdict in the manifest; an episode that was never judged is read for it.
    """
    found = []
    for ref in collection.episodes():
        figures = ref.info.verdict.figures if ref.info.verdict is not None else _figures(ref)
        if "grasp_x_m" in figures:
            x, y, yaw = (figures[name] for name in ("grasp_x_m", "grasp_y_m", "grasp_yaw_rad"))
            found.append(Start(ref.id, x, y, yaw, discarded=ref.discarded))
    return tuple(found)


def workspace(ref: EpisodeRef, *, cell: float) -> Region:
    """Where the arm was allowed to be in an episode, from the safety profile it carries."""
    text = Episode.open(ref.path).attachments().get("safety.yaml")
    if text is None:
        raise EpisodeError(f"{ref.path}: carries no safety.yaml, so its workspace is not known; give the region")
    profile = config.from_mapping(SafetyProfile, yaml.safe_load(text), f"{ref.path}: safety.yaml")
    (x0, y0), (x1, y1) = profile.workspace_low[:2], profile.workspace_high[:2]
    return Region((x0, y0), (x1, y1), cell)


def _figures(ref: EpisodeRef) -> Mapping[str, float]:
    episode = Episode.open(ref.path)
    return motion_numbers(read_motion(episode), VerdictLimits.load(), period_s=episode.spec.control_period_s)


def count(starts: Sequence[Start], region: Region) -> Counter[tuple[int, int]]:
    """Starts per cell; discarded ones and those outside do not count."""
    cells = (region.cell_of(start.x, start.y) for start in starts if not start.discarded)
    return Counter(cell for cell in cells if cell is not None)


def as_data(starts: Sequence[Start], region: Region, seconds: Sequence[float]) -> dict[str, object]:
    """The map as plain data: the cells that have starts, and how long successes took [s]; trial protocols read it."""
    counts = {f"{i},{j}": number for (i, j), number in sorted(count(starts, region).items())}
    return {
        "low": list(region.low),
        "shape": list(region.shape),
        "cell": region.cell,
        "counts": counts,
        "seconds": [round(value, 3) for value in seconds],
    }


def draw(starts: Sequence[Start], region: Region, *, title: str) -> bytes:
    """The map as PNG bytes; the last start that counts is highlighted. Seen from above, x up and y to the left."""
    width, height = region.high[1] - region.low[1], region.high[0] - region.low[0]
    figure = Figure(figsize=(9.0, 8.3 * height / width + 1.25), dpi=_DPI, facecolor=_PAPER, layout="constrained")
    axes = figure.add_subplot()
    counts = count(starts, region)
    _draw_cells(axes, region, counts)
    counted = [start for start in starts if not start.discarded]
    for start in starts:
        if start.discarded:
            axes.plot(start.y, start.x, marker="x", color=_FAINT, markersize=5, linewidth=0)
    for start in counted:
        _draw_start(axes, start, color=_INK, size=3.5, line=1.3)
    if counted:
        newest = counted[-1]
        _draw_start(axes, newest, color=_NEWEST, size=6.0, line=2.6)
        axes.plot(newest.y, newest.x, "o", markersize=17, markerfacecolor="none", markeredgecolor=_NEWEST, mew=2.2)
    _label(axes, region, title=title, below=_summary(counted, counts, region, discarded=len(starts) - len(counted)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


def _draw_cells(axes: Axes, region: Region, counts: Counter[tuple[int, int]]) -> None:
    for i in range(region.shape[0]):
        for j in range(region.shape[1]):
            corner = (region.low[1] + j * region.cell, region.low[0] + i * region.cell)
            number = counts[(i, j)]
            face = _SHADES[min(number, len(_SHADES)) - 1] if number else _PAPER
            hatch = None if number else "...."
            axes.add_patch(
                Rectangle(corner, region.cell, region.cell, facecolor=face, edgecolor="#dde1e5", hatch=hatch, lw=0.6)
            )
            if number:
                halo = [withStroke(linewidth=2.2, foreground=_PAPER)]
                place = (corner[0] + 0.94 * region.cell, corner[1] + 0.92 * region.cell)
                axes.text(*place, str(number), color=_INK, size=9, weight="bold", va="top", path_effects=halo, zorder=9)


def _draw_start(axes: Axes, start: Start, *, color: str, size: float, line: float) -> None:
    ahead = np.array([math.sin(start.yaw), math.cos(start.yaw)]) * _TICK_M
    ends = np.array([start.y, start.x]) + np.outer([-1.0, 1.0], ahead)
    axes.plot(ends[:, 0], ends[:, 1], color=_PAPER, lw=line + 1.6, solid_capstyle="round")
    axes.plot(ends[:, 0], ends[:, 1], color=color, lw=line, solid_capstyle="round")
    axes.plot(start.y, start.x, "o", color=color, markersize=size, markeredgecolor=_PAPER, markeredgewidth=0.6)


def _summary(counted: list[Start], counts: Counter[tuple[int, int]], region: Region, *, discarded: int) -> str:
    cells = region.shape[0] * region.shape[1]
    inside = sum(counts.values())
    text = f"{len(counted)} starts in {len(counts)} of {cells} cells of {100 * region.cell:g} cm; dotted = empty"
    if inside < len(counted):
        text += f"; {len(counted) - inside} outside of the map"
    if discarded:
        text += f"; × {discarded} discarded, not counted"
    return text + (f"\norange ring: the newest, {counted[-1].episode_id}" if counted else "")


def _label(axes: Axes, region: Region, *, title: str, below: str) -> None:
    axes.set_title(title, loc="left", color=_INK, size=13, weight="bold", parse_math=False)
    axes.set_xlabel(f"y in base [m], left of the arm is to the left\n{below}", color=_INK, size=9, parse_math=False)
    axes.set_ylabel("x in base [m], away from the arm is up", color=_INK, size=9)
    axes.set_aspect("equal")
    rows, columns = region.shape
    axes.set_xlim(region.low[1] + columns * region.cell, region.low[1])
    axes.set_ylim(region.low[0], region.low[0] + rows * region.cell)
    axes.tick_params(colors=_INK, labelsize=8)
    for side in axes.spines.values():
        side.set_edgecolor(_FAINT)
