"""What k successes in n trials say about the true success rate, and what they do not.

The intervals are statsmodels'; here is only their wording. Does not know where k and n come from.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
GOOD_RATE = 0.9
"""The rate that a perfect score is measured against in words."""
_DASH = "\N{EN DASH}"


class Interval(NamedTuple):
    """Bounds of a proportion, both within 0..1."""

    low: float
    high: float


def wilson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Wilson score interval, two-sided: close to its nominal coverage on average; the one to show."""
    return _interval(successes, trials, confidence, "wilson")


def clopper_pearson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Exact interval, two-sided: never covers less than it says; the one to claim from."""
    return _interval(successes, trials, confidence, "beta")


def _interval(successes: int, trials: int, confidence: float, method: str) -> Interval:
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials and trials >= 1, got {successes} of {trials}")
    low, high = proportion_confint(successes, trials, alpha=1 - confidence, method=method)
    return Interval(max(0.0, float(low)), min(1.0, float(high)))


@cache
def perfect_trials_for(rate: float) -> int:
    """How many trials, all successful, support a true rate of at least `rate` (0 < rate < 1, exact interval)."""
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}")
    trials = 1
    while clopper_pearson(trials, trials).low < rate:
        trials += 1
    return trials


def describe_score(successes: int, trials: int) -> str:
    """The score with its interval: "3/3 (95 % CI 44-100 %)", Wilson."""
    if trials == 0:
        return "0/0"
    low, high = wilson(successes, trials)
    return f"{successes}/{trials} ({100 * CONFIDENCE:.0f} % CI {100 * low:.0f}{_DASH}{100 * high:.0f} %)"


def describe(successes: int, trials: int) -> str:
    """The score with its interval, then in words what so many trials can and cannot show."""
    if trials == 0:
        return "0/0. No trial counts, so nothing can be said about the success rate."
    low, high = clopper_pearson(successes, trials)
    floor, ceiling = math.floor(100 * low), math.ceil(100 * high)
    counted = "1 trial" if trials == 1 else f"{trials} trials"
    if successes == trials:
        needed = perfect_trials_for(GOOD_RATE)
        claim = f"{counted} without a failure: this supports a true success rate of at least {floor} %, not more."
        if trials < needed:
            claim += f" At least {100 * GOOD_RATE:.0f} % would need {needed} of {needed}."
    elif successes == 0:
        claim = f"{counted} without a success: this rules out only true success rates above {ceiling} %."
    else:
        claim = f"{counted} cannot tell apart true success rates between {floor} % and {ceiling} %."
    return f"{describe_score(successes, trials)}. {claim}"
