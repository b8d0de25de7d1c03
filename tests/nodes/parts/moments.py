"""When in a trial a fault comes: drawn from a seed (FAULT_SEED), the same for the same fault."""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("FAULT_SEED", "1"))
LATEST_S = 4.0
"""After the arm began to move; a trial takes some ten seconds."""


def moment_s(fault: str) -> float:
    """How long after the arm began to move [s]."""
    return random.Random(f"{SEED} {fault}").uniform(0.0, LATEST_S)
