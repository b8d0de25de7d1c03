"""Random pairs of faults, drawn from a seed (FAULT_PAIRS_SEED), the second some time after the first."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

SEED = int(os.environ.get("FAULT_PAIRS_SEED", "1"))
COUNT = 8
LONGEST_GAP_S = 1.0
SINGLE: dict[str, float] = {
    "robot_node killed": 0.8,
    "robot_node frozen": 0.8,
    "camera_node killed": 0.6,
    "camera_node frozen": 0.6,
    "watchdog_node killed": 0.5,
    "watchdog_node frozen": 0.5,
    "policy_switch_node killed": 0.6,
    "policy_switch_node frozen": 0.6,
    "evaluator_node killed": 1.1,
    "evaluator_node frozen": 1.1,
    "estop": 0.5,
    "minor_fault": 0.5,
    "reduced_state": 0.5,
    "connection_lost": 1.0,
    "gil_stall": 1.5,
    "camera_unplugged": 1.5,
    "camera_frozen": 1.5,
}
"""What ends in a hold by itself -> within what time the arm has to be held."""


@dataclass(frozen=True)
class Pair:
    """Two faults."""

    first: str
    second: str
    gap_s: float

    @property
    def name(self) -> str:
        """As its row is called."""
        return f"{self.first}, {self.gap_s:.1f} s later {self.second}"

    @property
    def limit_s(self) -> float:
        """From the first one: whichever of the two takes longer."""
        return round(max(SINGLE[self.first], self.gap_s + SINGLE[self.second]), 1)


def pairs() -> list[Pair]:
    """The pairs of this seed."""
    draw = random.Random(SEED)
    return [Pair(*draw.sample(sorted(SINGLE), 2), round(draw.uniform(0.0, LONGEST_GAP_S), 1)) for _ in range(COUNT)]
