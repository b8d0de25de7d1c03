"""The order of trials: blocks of one placement each, in which every policy has its turn, in random order.

Interleaved, so that a lamp that warms up or a towel that wears favours nobody; paired, so that every policy meets every
placement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ORDER = 1
"""Keeps the order's random stream apart from the placements'."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place in the order. A place may see several trials, when one is void and repeated; one of them counts."""

    number: int
    """0-based."""
    block: int
    """0-based; trials of a block form a pair."""
    placement: str
    """Its id."""
    code: str
    """Code name of the policy."""


def draw_schedule(placements: Sequence[str], codes: Sequence[str], *, repeats: int, seed: int) -> tuple[Slot, ...]:
    """Every code at every placement `repeats` times; equal arguments give equal orders."""
    rng = np.random.default_rng([seed, _ORDER])
    slots: list[Slot] = []
    for repeat in range(repeats):
        for position, which in enumerate(rng.permutation(len(placements))):
            block = repeat * len(placements) + position
            for code in rng.permutation(len(codes)):
                slots.append(Slot(number=len(slots), block=block, placement=placements[which], code=codes[code]))
    return tuple(slots)
