"""Thresholds: how close what a bundle computes must come to PyTorch, by precision. The only place that says so.

Errors of actions are in half ranges: the half of what `norm_stats` maps to [-1, 1] is 1 in every dimension. GR00T's and
FlashRT's published checks use the same cosines for bf16; the fp32 ones follow from float's own rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How close two arrays are, or have to be."""

    cosine: float
    """Of the whole arrays as one vector, 1 = the same direction."""
    max_error: float
    """Largest difference, relative to the largest value of the reference that is above 1."""

    def within(self, limit: Closeness) -> bool:
        """Whether this measurement meets the limit; NaN never does."""
        return self.cosine >= limit.cosine and self.max_error <= limit.max_error

    def __str__(self) -> str:
        return f"cosine {self.cosine:.7f}, largest error {self.max_error:.1e}"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What each part of a network must meet."""

    context: Closeness
    """What `encode` makes of an observation."""
    actions: Closeness
    """What `flow` makes of it, normalised."""


BY_PRECISION: Mapping[str, Thresholds] = {
    "fp32": Thresholds(
        context=Closeness(cosine=0.99999, max_error=1e-3), actions=Closeness(cosine=0.99999, max_error=1e-5)
    ),
    "fp16": Thresholds(context=Closeness(cosine=0.999, max_error=0.05), actions=Closeness(cosine=0.99, max_error=0.05)),
    "bf16": Thresholds(context=Closeness(cosine=0.999, max_error=0.2), actions=Closeness(cosine=0.99, max_error=0.1)),
}
"""Of the graph's arithmetic; inputs and outputs are fp32 always."""

GATE_PAIRS = 29
"""Fewest paired trials of the closed-loop gate: with none lost, 1 - 0.05 ** (1 / 29) is below 10 %."""
GATE_LOSS = 0.10
"""Largest loss of success that the gate must exclude."""
GATE_CONFIDENCE = 0.95
"""One-sided."""
STATE_MARGIN = 1.0
"""A state farther outside of [q01, q99] than this many of its ranges is not one that the policy knows."""


def closeness(found: Array, reference: Array) -> Closeness:
    """How close `found` is to `reference`, of any one shape."""
    a, b = found.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms > 0.0 else float(np.array_equal(a, b))
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    return Closeness(cosine=cosine, max_error=float(np.abs(a - b).max(initial=0.0)) / scale)
