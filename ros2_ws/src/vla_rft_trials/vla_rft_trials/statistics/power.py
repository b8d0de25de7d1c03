"""What n trials per policy could detect at all: said before the first trial, so that nobody hopes for more.

Unpaired: the rejection region of Barnard's test itself. Paired: the exact McNemar test, with outcomes independent given
the placement, which is the worst case for it. Sizes for many trials are statsmodels' normal approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from vla_rft_trials.statistics.two_arms import Count, barnard

POWER = 0.8
BASE_RATES = (0.3, 0.5, 0.7, 0.9)
"""True success rates of the weaker policy for which the smallest detectable rate is shown."""
_STEP = 0.005


@dataclass(frozen=True)
class Detectable:
    """With so many trials per policy, a true `base` against which true `rate` is found with chance `power`?"""

    base: float
    rate: float | None
    """The smallest detectable rate of the better policy; None when not even 1 would be."""


def detectable(n: int, *, alpha: float = 0.05, power: float = POWER, paired: bool = False) -> tuple[Detectable, ...]:
    """One row per base rate."""
    found = power_paired if paired else power_unpaired
    rows = []
    for base in BASE_RATES:
        rates = np.arange(base + _STEP, 1.0 + _STEP / 2, _STEP)
        rate = next((float(r) for r in rates if found(n, base, min(1.0, float(r)), alpha=alpha) >= power), None)
        rows.append(Detectable(base, None if rate is None else min(1.0, round(rate, 3))))
    return tuple(rows)


def power_unpaired(n: int, base: float, rate: float, *, alpha: float = 0.05) -> float:
    """Chance that Barnard's test at `alpha` finds true rates `base` and `rate` different, n trials each."""
    k = np.arange(n + 1)
    return float(binom.pmf(k, n, rate) @ _region(n, alpha) @ binom.pmf(k, n, base))


def power_paired(n: int, base: float, rate: float, *, alpha: float = 0.05) -> float:
    """Chance that the exact McNemar test at `alpha` finds them different, n pairs."""
    wins, losses = rate * (1.0 - base), base * (1.0 - rate)
    if wins + losses == 0.0:
        return 0.0
    chance = 0.0
    for m, weight in enumerate(binom.pmf(np.arange(n + 1), n, wins + losses)):
        k = np.arange(m + 1)
        p_values = np.minimum(1.0, 2.0 * binom.cdf(np.minimum(k, m - k), m, 0.5)) if m else np.ones(1)
        chance += float(weight) * float(binom.pmf(k, m, wins / (wins + losses))[p_values <= alpha].sum())
    return chance


def trials_needed(base: float, rate: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Trials per policy for that power, two-sided, by the pooled normal approximation; round up to use it."""
    return float(samplesize_proportions_2indep_onetail(rate - base, base, power, alpha=alpha, alternative="two-sided"))


@cache
def _region(n: int, alpha: float) -> NDArray[np.bool_]:
    """[k_a, k_b]: where Barnard's test rejects. Along a row it rejects outside of an interval, found by bisection."""
    region = np.zeros((n + 1, n + 1), bool)
    for k in range(n + 1):
        low, high = -1, k  # the largest k_b < k_a that is rejected lies in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            if barnard(Count(k, n), Count(middle, n)) <= alpha:
                low = middle
            else:
                high = middle
        region[k, : low + 1] = True
    return region | region.T
