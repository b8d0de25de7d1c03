"""Two counts compared in every way that there is here, and told in words that claim no more than they carry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_rft_trials.statistics import bayes, paired, power, two_arms
from vla_rft_trials.statistics.paired import Pairs
from vla_rft_trials.statistics.proportion import CONFIDENCE, Interval, clopper_pearson, wilson
from vla_rft_trials.statistics.two_arms import Count

ALPHA = 0.05
_DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Verdict:
    """Whether two policies differ, and what says so."""

    differs: bool
    by: str
    """ "p = 0.013 (Barnard)" """

    @classmethod
    def of(cls, p: float, test: str, alpha: float) -> Verdict:
        """From a p value."""
        return cls(p <= alpha, f"{'p < 0.001' if p < 0.001 else f'p = {p:.2g}'} ({test})")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Policy a against policy b."""

    a: Count
    b: Count
    barnard: float
    boschloo: float
    fisher: float
    """p values, two-sided, as if the trials were unpaired."""
    mcnemar: float | None
    """p of the paired test; None when the trials are not paired."""
    pairs: Pairs | None
    difference: Interval
    """Of p_a - p_b: Bonett and Price where trials are paired, else Newcombe."""
    better: float
    """P(p_a > p_b), flat priors."""
    credible: Interval
    """Of p_a - p_b: Bayesian."""
    alpha: float = ALPHA

    @property
    def p(self) -> float:
        """The one that decides: McNemar where trials are paired, else Barnard."""
        return self.barnard if self.mcnemar is None else self.mcnemar

    @property
    def test(self) -> str:
        """Its name."""
        return "Barnard" if self.mcnemar is None else "McNemar"

    @property
    def verdict(self) -> Verdict:
        """Of that test at alpha, for this comparison alone and a number of trials fixed beforehand."""
        return Verdict.of(self.p, self.test, self.alpha)


def compare(a: Count, b: Count, *, pairs: Pairs | None = None, alpha: float = ALPHA) -> Comparison:
    """Everything about two counts; ValueError when one has no trial, or when the pairs are not theirs."""
    if pairs is not None and (pairs.both + pairs.only_a > a.successes or pairs.both + pairs.only_b > b.successes):
        raise ValueError(f"pairs {pairs} have more successes than {a} and {b}")
    return Comparison(
        a=a,
        b=b,
        barnard=two_arms.barnard(a, b),
        boschloo=two_arms.boschloo(a, b),
        fisher=two_arms.fisher(a, b),
        mcnemar=None if pairs is None else paired.mcnemar(pairs),
        pairs=pairs,
        difference=two_arms.difference(a, b) if pairs is None else paired.difference(pairs),
        better=bayes.better(a, b),
        credible=bayes.difference(a, b),
        alpha=alpha,
    )


def floor_percent(count: Count) -> int:
    """The true success rate that the exact interval supports at least [%]."""
    return math.floor(100 * clopper_pearson(count.successes, count.trials).low)


def describe_comparison(c: Comparison, *, names: tuple[str, str] = ("", ""), verdict: Verdict | None = None) -> str:
    """ "10/10 supports at least 69 %; it differs from 5/10, p = 0.013 (Barnard)", and what that does not say.

    `verdict` replaces the comparison's own where several comparisons, repeats or early stops call for another test.
    """
    verdict = verdict or c.verdict
    better, other = (c.a, c.b) if c.a.successes * c.b.trials >= c.b.successes * c.a.trials else (c.b, c.a)
    first, second = names if better is c.a else names[::-1]
    claim = f"{_named(first, better)} supports at least {floor_percent(better)} %"
    if verdict.differs:
        low, high = sorted(abs(bound) for bound in c.difference)
        size = f"The difference is between {100 * low:.0f} and {100 * high:.0f} percentage points."
        if c.difference.low <= 0.0 <= c.difference.high:
            size = "How large the difference is, so few trials leave open."
        return f"{claim}; it differs from {_named(second, other)}, {verdict.by}. {size}"
    low, high = c.difference if better is c.a else (-c.difference.high, -c.difference.low)
    span = f"{100 * low:+.0f} to {100 * high:+.0f} percentage points"
    alike = f"{claim}; it cannot be told apart from {_named(second, other)}, {verdict.by}"
    if low > 0.0:
        return f"{alike}. The data lean its way ({span}), but so few trials do not carry the claim."
    return f"{alike}: the data fit a difference of {span}. That is not evidence that the two are alike."


def describe_detectable(n: int, *, alpha: float = ALPHA, paired: bool = False) -> list[str]:
    """What so many trials per policy could find, one sentence per base rate; for before the first trial."""
    test = "McNemar, paired" if paired else "Barnard"
    lines = [f"With {n} trials per policy, alpha {alpha:g} ({test}), the smallest difference found 4 times in 5:"]
    for row in power.detectable(n, alpha=alpha, paired=paired):
        found = "not even 100 %"
        if row.rate is not None:
            found = f"{100 * row.rate:.1f} %, which is +{100 * (row.rate - row.base):.1f} points"
        lines.append(f"  against a policy that truly succeeds {100 * row.base:.0f} % of the time: {found}")
    return lines


def describe_counts(a: Count, b: Count, *, pairs: Pairs | None = None, alpha: float = ALPHA) -> str:
    """The whole comparison as plain lines for a terminal."""
    c = compare(a, b, pairs=pairs, alpha=alpha)
    lines = [f"{'':<12}{'k/n':>7}  {'Clopper' + _DASH + 'Pearson':<18}{'Wilson':<18}"]
    for name, count in (("first", a), ("second", b)):
        lines.append(f"{name:<12}{count!s:>7}  {_exact(count):<18}{_wilson(count):<18}")
    rows = [("Barnard", c.barnard), ("Boschloo", c.boschloo), ("Fisher", c.fisher)]
    rows += [] if c.mcnemar is None else [("McNemar, paired", c.mcnemar)]
    lines += ["", *(f"{name + ' p':<30}{p:.4f}" for name, p in rows)]
    lines.append(f"{'difference, ' + ('Newcombe' if pairs is None else 'Bonett and Price'):<30}{_points(c.difference)}")
    lines.append(f"{'P(first better), flat prior':<30}{c.better:.3f}, difference {_points(c.credible)}")
    sentences = [describe_comparison(c)]
    if a.trials == b.trials:
        sentences += ["", *describe_detectable(a.trials, alpha=alpha, paired=pairs is not None)]
    return "\n".join([*lines, "", *sentences])


def percent(interval: Interval) -> str:
    """ "69-100 %" of a proportion."""
    return f"{100 * interval.low:.0f}{_DASH}{100 * interval.high:.0f} %"


def _exact(count: Count) -> str:
    low, high = clopper_pearson(count.successes, count.trials)
    return f"{100 * low:.1f}{_DASH}{100 * high:.1f} %"


def _wilson(count: Count) -> str:
    low, high = wilson(count.successes, count.trials)
    return f"{100 * low:.1f}{_DASH}{100 * high:.1f} %"


def _points(interval: Interval) -> str:
    return f"{100 * interval.low:+.0f} to {100 * interval.high:+.0f} points ({100 * CONFIDENCE:.0f} %)"


def _named(name: str, count: Count) -> str:
    return f"{name} with {count}" if name else str(count)
