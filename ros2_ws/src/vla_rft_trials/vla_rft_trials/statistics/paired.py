"""Two policies on the same placements: what the placements have in common no longer hides the difference.

`mcnemar` for one trial per policy and placement; `clustered` for several (repeats, or several training seeds of one
method). Trials at one placement are not independent, so it is whole placements that are exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar

from vla_rft_trials.statistics.proportion import CONFIDENCE, Interval

_RESAMPLES = 2**16
"""Up to 16 placements every exchange is tried; beyond, so many random ones."""


@dataclass(frozen=True)
class Pairs:
    """Outcomes of one trial each of policies a and b per placement."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[bool, bool]]) -> Pairs:
        """From (a succeeded, b succeeded) per placement."""
        outcomes = list(pairs)
        return cls(*(outcomes.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def total(self) -> int:
        """Placements with both trials."""
        return self.both + self.only_a + self.only_b + self.neither


def mcnemar(pairs: Pairs) -> float:
    """p of the exact McNemar test, two-sided: only placements where the two differ say anything."""
    table = [[pairs.both, pairs.only_a], [pairs.only_b, pairs.neither]]
    return 1.0 if pairs.only_a + pairs.only_b == 0 else float(_mcnemar(table, exact=True).pvalue)


def difference(pairs: Pairs, *, confidence: float = CONFIDENCE) -> Interval:
    """Interval of p_a - p_b from pairs: adjusted Wald of Bonett & Price (J. Educ. Behav. Stat. 37, 2012)."""
    n = pairs.total + 2
    wins, losses = (pairs.only_a + 1) / n, (pairs.only_b + 1) / n
    apart = wins - losses
    half = float(norm.ppf(0.5 + 0.5 * confidence)) * float(np.sqrt((wins + losses - apart**2) / n))
    return Interval(max(-1.0, apart - half), min(1.0, apart + half))


def clustered(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> float:
    """p of a permutation test of mean(a) - mean(b), two-sided; a, b: mean success per placement, in the same order.

    Under the hypothesis that the policies are alike, exchanging all of a placement's trials between them changes
    nothing. Several training seeds of a method are averaged within each placement first, so the seeds trained are taken
    as they are: it says nothing of seeds that were not trained.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"need the same placements for both, got {len(a)} and {len(b)}")
    if len(a) == 1:
        return 1.0
    result = permutation_test(
        (np.asarray(a, float), np.asarray(b, float)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(result.pvalue))
