"""How a hand differs from a machine: every fold a little elsewhere, faster or slower, and drifting smoothly on its way.

Drawn once per episode from a seed. Nothing is drawn per control period: noise that is independent from one command to
the next would put the corrections of future noise into every chunk of actions, and no policy can predict those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from vla_rft_core.geometry import Array
from vla_rft_core.types import SetPoint
from vla_rft_sim.expert import ExpertConfig, Plan


@dataclass(frozen=True, kw_only=True)
class VariationConfig:
    """How much folds differ. Lengths are standard deviations [m] unless stated; draws stay within two of them."""

    strength: float = 1.0
    """Scales everything below but the pauses; 0 is the plain expert."""
    along: float = 0.007
    """Of the grasp along the edge."""
    inset: float = 0.003
    """Of the grasp into the edge."""
    yaw: float = math.radians(4.0)
    """Of the fingers against the edge [rad]."""
    approach: float = 0.012
    """Of the point from which the fingers go down, along x and along y, and of its height."""
    sway: float = 0.015
    """Of the arc's top, sideways."""
    lift: float = 0.10
    """Of the arc's height, relative."""
    release: float = 0.005
    """Of the point where the edge is laid down, along and across it."""
    speed: float = 0.15
    """Relative."""
    pauses: int = 2
    """Up to so many control periods longer than the plain expert: before closing, while closing, while opening."""
    drift: float = 0.0045
    """Of the smooth drift around the plan, per axis."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must not be negative, got {value}")


_TRUNCATED_AT = 2.0


def vary(seed: int, config: VariationConfig | None = None, *, base: ExpertConfig | None = None) -> ExpertConfig:
    """The expert of one episode; the same seed and configs give the same."""
    config, base = config or VariationConfig(), base or ExpertConfig()
    random = np.random.default_rng([seed, 3])

    def off(deviation: float) -> float:
        drawn = float(np.clip(random.standard_normal(), -_TRUNCATED_AT, _TRUNCATED_AT))
        return config.strength * deviation * drawn

    def longer() -> int:
        return int(random.integers(0, config.pauses + 1)) if config.strength > 0.0 else 0

    return replace(
        base,
        approach_offset=(off(config.approach), off(config.approach)),
        approach_height=base.approach_height + abs(off(config.approach)),
        inset=base.inset + off(config.inset),
        along=base.along + off(config.along),
        yaw=base.yaw + off(config.yaw),
        lift=base.lift * (1.0 + off(config.lift)),
        overshoot=base.overshoot + off(config.release),
        release_along=base.release_along + off(config.release),
        sway=base.sway + off(config.sway),
        speed=base.speed * (1.0 + min(0.1, off(config.speed))),  # no step may reach the expert's longest
        settle=base.settle + longer(),
        close=base.close + longer(),
        open=base.open + longer(),
    )


_BAND_HZ = (0.12, 0.6)
"""Drifts are sums of waves within this band."""
_WAVES = 5
_CAREFUL_M = (0.02, 0.07)
"""Below the first height a hand is careful: it drifts less. Above the second it is not."""
_CAREFUL_SHARE = 0.3
_START_PERIODS = 8
"""The drift grows from nothing during so many periods, since the motion starts where the arm is."""


def drift(seed: int, config: VariationConfig | None = None, *, period_s: float = 0.1) -> Callable[[Plan], Plan]:
    """What moves a plan off by a slow, smooth wandering that keeps coming back, less near the table."""
    config = config or VariationConfig()
    random = np.random.default_rng([seed, 4])
    frequencies = random.uniform(*_BAND_HZ, (3, _WAVES))
    phases = random.uniform(0.0, 2.0 * math.pi, (3, _WAVES))
    amplitude = config.strength * config.drift * math.sqrt(2.0 / _WAVES)

    def wander(times: Array) -> Array:
        """Offsets (T, 3) [m] at times (T,) [s]."""
        angles = 2.0 * math.pi * frequencies * times[:, None, None] + phases
        return amplitude * np.sin(angles).sum(axis=2)

    def drifted(plan: Plan) -> Plan:
        heights = np.array([point.T_base_tcp.position[2] for point in plan])
        offsets = wander(period_s * np.arange(1, len(plan) + 1)) * _care(heights)[:, None]
        offsets[:, 2] = np.maximum(offsets[:, 2], -0.5 * np.maximum(heights - _CAREFUL_M[0], 0.0))
        return [
            SetPoint(point.T_base_tcp.moved(offset, (0.0, 0.0, 0.0)), point.width)
            for point, offset in zip(plan, offsets, strict=True)
        ]

    return drifted


def _care(heights: Array) -> Array:
    """Factors (T,) on the drift: small near the table, growing from nothing at the start, smooth in between."""
    low, high = _CAREFUL_M
    share = np.clip((heights - low) / (high - low), 0.0, 1.0)
    smooth = share * share * (3.0 - 2.0 * share)
    start = np.clip(np.arange(1, len(heights) + 1) / _START_PERIODS, 0.0, 1.0)
    return start * start * (3.0 - 2.0 * start) * (_CAREFUL_SHARE + (1.0 - _CAREFUL_SHARE) * smooth)
