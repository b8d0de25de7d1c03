"""Two policies, unpaired: is the difference of two success rates more than chance? Tests are scipy's.

Barnard's unconditional test is the one to report; Boschloo's and Fisher's stand beside it. Two-sided throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from vla_rft_trials.statistics.proportion import CONFIDENCE, Interval

_NUISANCE_POINTS = 256
"""How finely scipy searches the unknown common success rate."""


@dataclass(frozen=True)
class Count:
    """k successes in n trials that count."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if self.trials < 0 or not 0 <= self.successes <= self.trials:
            raise ValueError(f"need 0 <= successes <= trials, got {self.successes} of {self.trials}")

    def __str__(self) -> str:
        return f"{self.successes}/{self.trials}"

    @property
    def failures(self) -> int:
        """Trials that count and did not succeed."""
        return self.trials - self.successes

    @classmethod
    def parse(cls, text: str) -> Count:
        """From "10/10"; ValueError otherwise."""
        successes, slash, trials = text.partition("/")
        if not slash or not successes.strip().isdecimal() or not trials.strip().isdecimal():
            raise ValueError(f"expected successes/trials like 7/10, got {text!r}")
        return cls(int(successes), int(trials))


def barnard(a: Count, b: Count) -> float:
    """p of Barnard's exact test with the pooled score statistic."""
    return _p(stats.barnard_exact, a, b, n=_NUISANCE_POINTS)


def boschloo(a: Count, b: Count) -> float:
    """p of Boschloo's exact test, uniformly better than Fisher's."""
    return _p(stats.boschloo_exact, a, b, n=_NUISANCE_POINTS)


def fisher(a: Count, b: Count) -> float:
    """p of Fisher's exact test: what most papers print, and conservative for so few trials."""
    return _p(stats.fisher_exact, a, b)


def _p(test, a: Count, b: Count, **options: int) -> float:  # type: ignore[no-untyped-def]
    if not a.trials or not b.trials:
        raise ValueError(f"both policies need trials that count, got {a} and {b}")
    if a.successes + b.successes in (0, a.trials + b.trials):
        return 1.0  # all alike: scipy answers nan, with a warning
    result = test([[a.successes, b.successes], [a.failures, b.failures]], **options)
    return min(1.0, float(result.pvalue))


def difference(a: Count, b: Count, *, confidence: float = CONFIDENCE) -> Interval:
    """Newcombe's hybrid score interval of p_a - p_b, within -1..1."""
    if not a.trials or not b.trials:
        raise ValueError(f"both policies need trials that count, got {a} and {b}")
    low, high = confint_proportions_2indep(
        a.successes, a.trials, b.successes, b.trials, method="newcomb", compare="diff", alpha=1 - confidence
    )
    return Interval(float(low), float(high))
