"""Placements: where the object lies at the start of a trial. Drawn once, when the study is locked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rft_core.cell import from_factory
from vla_rft_core.config import from_mapping
from vla_rft_trials.protocol import PlacementRule, Region

_TRIES = 100_000
"""Draws before a rule is called impossible."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One start."""

    id: str
    """P01, P02, ..."""
    x: float
    """Of the object's middle in base [m]."""
    y: float
    yaw: float
    """Direction of its long side [rad]."""
    seed: int
    """Lays it out in simulation."""
    cell: str = ""
    """ "seen" or "unseen" by the demonstrations; empty where the protocol names no coverage."""
    hand: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Simulation: from home to where the hand starts, in base [m]."""

    def __str__(self) -> str:
        where = f"x {self.x:.3f} m, y {self.y:+.3f} m, yaw {math.degrees(self.yaw):.0f} deg"
        if any(self.hand):
            where += f", hand {' '.join(f'{1e3 * part:+.0f}' for part in self.hand)} mm"
        return f"{where}, {self.cell} cell" if self.cell else where


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many demonstrations began in each cell of the table."""

    low: tuple[float, float]
    """x, y of the first cell's corner in base [m]."""
    shape: tuple[int, int]
    """Cells along x and y."""
    cell: float
    """Side of a cell [m]."""
    counts: Mapping[str, int]
    """ "i,j" -> demonstrations; cells without one are left out."""
    seconds: tuple[float, ...] = ()
    """How long the successful demonstrations took [s]."""

    @classmethod
    def load(cls, path: Path) -> Coverage:
        """From `vla_rft_episodes coverage --json`; ValueError in one sentence otherwise."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a coverage file ({error})") from None
        return from_mapping(cls, content, str(path))

    def of(self, x: float, y: float) -> str:
        """ "seen" or "unseen"; empty outside of the map."""
        i, j = math.floor((x - self.low[0]) / self.cell), math.floor((y - self.low[1]) / self.cell)
        if not (0 <= i < self.shape[0] and 0 <= j < self.shape[1]):
            return ""
        return "seen" if self.counts.get(f"{i},{j}", 0) else "unseen"


def draw_placements(rule: PlacementRule, *, coverage: Coverage | None = None) -> tuple[Placement, ...]:
    """What the rule and its seed give; ValueError when so many cannot be found."""
    wanted = {"": rule.count} if coverage is None else {"unseen": rule.unseen, "seen": rule.count - rule.unseen}
    found: list[Placement] = []
    for x, y, yaw, seed, hand in _candidates(rule):
        if len(found) == rule.count:
            return tuple(found)
        cell = "" if coverage is None else coverage.of(*_taken_at(rule, x, y, yaw))
        inside = rule.region is None or _inside(rule.region, x, y, yaw)
        if inside and wanted.get(cell, 0) > 0:
            wanted[cell] -= 1
            number = f"P{len(found) + 1:02d}"
            found.append(Placement(id=number, x=x, y=y, yaw=yaw, seed=seed, cell=cell, hand=hand))
    missing = ", ".join(f"{n} {cell}".strip() for cell, n in wanted.items() if n)
    raise ValueError(f"placements: after {_TRIES} draws, {missing} could not be found; widen the region")


def _candidates(rule: PlacementRule) -> Iterator[tuple[float, float, float, int, tuple[float, float, float]]]:
    """x, y, yaw, seed, hand of one draw after the other."""
    home = (0.0, 0.0, 0.0)
    if rule.draw:
        for seed in range(rule.seed, rule.seed + _TRIES):
            drawn: Any = from_factory(rule.draw, seed)
            yield float(drawn.x), float(drawn.y), float(drawn.yaw), seed, getattr(drawn, "hand", home)
        return
    assert rule.region is not None
    rng = np.random.default_rng(rule.seed)
    uniform: Callable[[tuple[float, float]], float] = lambda span: float(rng.uniform(*span))  # noqa: E731
    for i in range(_TRIES):
        region = rule.region
        yield uniform(region.x), uniform(region.y), math.radians(uniform(region.yaw_deg)), rule.seed + i, home


def _inside(region: Region, x: float, y: float, yaw: float) -> bool:
    spans = ((region.x, x), (region.y, y), (region.yaw_deg, math.degrees(yaw)))
    return all(low - 1e-12 <= value <= high + 1e-12 for (low, high), value in spans)


def _taken_at(rule: PlacementRule, x: float, y: float, yaw: float) -> tuple[float, float]:
    """Where the object is taken: coverage maps show first grasps, not middles."""
    ahead = math.copysign(rule.grasp_offset_m, math.sin(yaw))
    return x + ahead * math.cos(yaw), y + ahead * math.sin(yaw)
