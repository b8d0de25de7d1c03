"""How the gripper's opening follows its command: a ramp at the vendor's speed, without any physics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_rft_sim.layout import MAX_WIDTH_M

SPEED = 0.2
"""[m/s] of opening."""


@dataclass
class WidthRamp:
    """The commanded opening on its way to the wanted one [m]."""

    wanted: float = MAX_WIDTH_M
    width: float = MAX_WIDTH_M
    speed: float = SPEED
    """[m/s]"""

    def set(self, width: float, speed: float = SPEED) -> None:
        """Go to an opening [m], clipped to the stroke, at a speed [m/s]; ValueError when it is not finite."""
        if not math.isfinite(width):
            raise ValueError(f"gripper width must be finite, got {width}")
        self.speed = speed
        self.wanted = min(max(width, 0.0), MAX_WIDTH_M)

    def advance(self, dt: float) -> float:
        """Move for dt [s]; returns the opening now [m]."""
        step = self.speed * dt
        self.width += min(max(self.wanted - self.width, -step), step)
        return self.width

    @property
    def moving(self) -> bool:
        """It has not arrived."""
        return abs(self.wanted - self.width) > 1e-9
