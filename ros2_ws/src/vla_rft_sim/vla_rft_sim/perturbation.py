"""Starts beyond those of the demonstrations (the paper's Table 3 for the towel): where it lies, and where the hand is.

Factories for a protocol's `placements.draw`. Each draw follows from its seed. Minor and major are the paper's sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_sim import towel
from vla_rft_sim.cell import SimCell
from vla_rft_sim.towel import Placement

MINOR_M, MAJOR_M = 0.025, 0.05
"""How far outside of the square in which the demonstrations' towels lie the towel's middle may be."""
MINOR_HAND_M, MAJOR_HAND_M = 0.02, 0.05
"""How far from home the hand starts: so much up or down, and so much to the left or right (towards the base joint 4
would meet its limit)."""
SPEED = 0.1
"""At which the hand is led there [m/s]."""
SETTLE_PERIODS = 5


@dataclass(frozen=True)
class Start(Placement):
    """A placement, and where the hand is when the trial begins."""

    hand: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From home, in base [m]."""


def minor_towel(seed: int) -> Start:
    """The towel up to 2.5 cm beyond the demonstrations'."""
    return _start(seed, beyond=MINOR_M)


def major_towel(seed: int) -> Start:
    """The towel up to 5 cm beyond the demonstrations'."""
    return _start(seed, beyond=MAJOR_M)


def minor_hand(seed: int) -> Start:
    """The hand 20 mm off."""
    return _start(seed, hand=MINOR_HAND_M)


def major_hand(seed: int) -> Start:
    """The hand 50 mm off."""
    return _start(seed, hand=MAJOR_HAND_M)


def minor_both(seed: int) -> Start:
    """Towel and hand, the minor sizes."""
    return _start(seed, beyond=MINOR_M, hand=MINOR_HAND_M)


def major_both(seed: int) -> Start:
    """Towel and hand, the major sizes."""
    return _start(seed, beyond=MAJOR_M, hand=MAJOR_HAND_M)


def _start(seed: int, *, beyond: float = 0.0, hand: float = 0.0) -> Start:
    placement = towel.draw(seed)
    random = np.random.default_rng([seed, 5])
    x, y = placement.x, placement.y
    reach = towel.SPREAD_M + beyond
    while beyond and max(abs(x - towel.MIDDLE_M[0]), abs(y - towel.MIDDLE_M[1])) <= towel.SPREAD_M:
        x, y = (middle + float(random.uniform(-reach, reach)) for middle in towel.MIDDLE_M)
    side, up = random.choice([-1.0, 1.0], 2)
    return Start(x, y, placement.yaw, seed, (0.0, hand * float(side), hand * float(up)))


def lead_ns(cell: SimCell, offset: tuple[float, float, float]) -> int:
    """How long `lead_hand` will take [ns]."""
    steps = _steps(cell, offset)
    return (steps + SETTLE_PERIODS) * cell.spec.control_period_ns if steps else 0


def lead_hand(cell: SimCell, offset: tuple[float, float, float]) -> None:
    """From home to `offset` beside it [m], straight, through executor and filter; the lease is free again afterwards.

    ValueError when the safety filter stops it on its way.
    """
    steps = _steps(cell, offset)
    if not steps:
        return
    spec, home = cell.spec, cell.spec.home
    way = [home.T_base_tcp.moved([part * (i + 1) / steps for part in offset], (0.0, 0.0, 0.0)) for i in range(steps)]
    cell.activate(Source.HOME)
    cell.execute(
        ActionChunk.from_set_points(
            [SetPoint(pose, home.width) for pose in way],
            stamp_ns=cell.clock.realtime_ns(),
            period_ns=spec.control_period_ns,
            sequence=0,
            source=Source.HOME,
        )
    )
    cell.wait(lead_ns(cell, offset))
    if cell.holding:
        raise ValueError(f"the hand cannot start {tuple(round(1e3 * part) for part in offset)} mm off: {cell.holding}")
    cell.loop.release()


def _steps(cell: SimCell, offset: tuple[float, float, float]) -> int:
    return math.ceil(math.hypot(*offset) / (SPEED * cell.spec.control_period_s))
