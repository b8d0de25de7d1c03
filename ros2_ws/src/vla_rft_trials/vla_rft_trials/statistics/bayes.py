"""The Bayesian reading of two counts: how probable is it that one policy is better, and by how much?

Both success rates have the same flat Beta(1, 1) prior, independent of one another, so posteriors are Beta. Integrals
are scipy's quadrature, not samples: the same counts give the same digits.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

from vla_rft_trials.statistics.proportion import CONFIDENCE, Interval
from vla_rft_trials.statistics.two_arms import Count

PRIOR = (1.0, 1.0)
"""Of each success rate: a and b of a Beta distribution; (1, 1) is flat."""


def better(a: Count, b: Count) -> float:
    """P(p_a > p_b) given the trials."""
    return _exceeds(a, b, 0.0)


def difference(a: Count, b: Count, *, confidence: float = CONFIDENCE) -> Interval:
    """Equal-tailed credible interval of p_a - p_b."""
    tail = 0.5 * (1.0 - confidence)
    return Interval(_quantile(a, b, tail), _quantile(a, b, 1.0 - tail))


def _quantile(a: Count, b: Count, q: float) -> float:
    return float(brentq(lambda d: 1.0 - _exceeds(a, b, d) - q, -1.0, 1.0, xtol=1e-9))


def _posterior(count: Count):  # type: ignore[no-untyped-def]
    return stats.beta(count.successes + PRIOR[0], count.failures + PRIOR[1])


def _exceeds(a: Count, b: Count, by: float) -> float:
    """P(p_a > p_b + by)."""
    of_a, of_b = _posterior(a), _posterior(b)
    # The integrand is smooth but narrow for many trials: quad is told where it is.
    places = sorted({float(np.clip(x, 0.0, 1.0)) for x in (*of_b.ppf([0.001, 0.5, 0.999]), 1.0 - by, -by)})
    inner = [x for x in places if 0.0 < x < 1.0]
    value, _ = quad(lambda x: of_b.pdf(x) * of_a.sf(x + by), 0.0, 1.0, points=inner or None, epsabs=1e-11, limit=200)
    return float(np.clip(value, 0.0, 1.0))
