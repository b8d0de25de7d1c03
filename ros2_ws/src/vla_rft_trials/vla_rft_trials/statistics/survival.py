"""How long until success, when not every trial succeeds: Kaplan-Meier curve and restricted mean time.

A failed trial would not have succeeded had one waited, so it counts as "not yet" up to the time limit, however early it
ended; so does everything else of which only is known that it had not succeeded by then (censoring). The curve is
statsmodels'; the restricted mean is the area under it up to the limit, its variance as in Klein & Moeschberger,
Survival Analysis (2003), section 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from statsmodels.duration.survfunc import SurvfuncRight

from vla_rft_trials.statistics.proportion import CONFIDENCE, Interval


@dataclass(frozen=True)
class Time:
    """One trial on the clock."""

    seconds: float
    """[s] to success, or as long as it was known not to have succeeded."""
    succeeded: bool

    def __post_init__(self) -> None:
        if not self.seconds >= 0.0:
            raise ValueError(f"seconds must be >= 0, got {self.seconds}")


@dataclass(frozen=True, eq=False)
class Curve:
    """Share of trials not yet successful, as steps: `share[i]` from `seconds[i]` on; starts at (0, 1)."""

    seconds: NDArray[np.float64]
    share: NDArray[np.float64]


@dataclass(frozen=True)
class MeanTime:
    """Restricted mean: mean of min(time to success, limit) [s]."""

    seconds: float
    standard_error: float
    limit_s: float

    def interval(self, *, confidence: float = CONFIDENCE) -> Interval:
        """Normal approximation, within 0 and the limit [s]."""
        half = float(norm.ppf(0.5 + 0.5 * confidence)) * self.standard_error
        return Interval(max(0.0, self.seconds - half), min(self.limit_s, self.seconds + half))


def kaplan_meier(times: Sequence[Time]) -> Curve:
    """The product-limit estimate."""
    fitted = _fit(times)
    if fitted is None:
        return Curve(np.array([0.0]), np.array([1.0]))
    return Curve(np.concatenate([[0.0], fitted.surv_times]), np.concatenate([[1.0], fitted.surv_prob]))


def restricted_mean(times: Sequence[Time], limit_s: float) -> MeanTime:
    """Area under the curve up to `limit_s`; ValueError without trials."""
    if not times or not limit_s > 0.0:
        raise ValueError(f"need trials and a positive limit, got {len(times)} trials and {limit_s}")
    curve = kaplan_meier(times)
    inside = curve.seconds < limit_s
    starts, share = curve.seconds[inside], curve.share[inside]
    widths = np.diff(np.append(starts, limit_s))
    areas = widths * share
    fitted = _fit(times)
    variance = 0.0
    for i, start in enumerate(starts):
        if i == 0 or fitted is None:
            continue
        events, at_risk = fitted.n_events[i - 1], fitted.n_risk[i - 1]
        rest = float(areas[i:].sum())
        if events and at_risk > events:
            variance += rest**2 * events / (at_risk * (at_risk - events))
        assert start == fitted.surv_times[i - 1]
    return MeanTime(float(areas.sum()), float(np.sqrt(variance)), limit_s)


def mean_difference(a: MeanTime, b: MeanTime, *, confidence: float = CONFIDENCE) -> tuple[float, Interval]:
    """(a - b, its interval) [s]; normal approximation, the two independent."""
    half = float(norm.ppf(0.5 + 0.5 * confidence)) * float(np.hypot(a.standard_error, b.standard_error))
    apart = a.seconds - b.seconds
    return apart, Interval(apart - half, apart + half)


def _fit(times: Sequence[Time]) -> SurvfuncRight | None:
    """None when nothing ever succeeded: there is no step."""
    if not any(time.succeeded for time in times):
        return None
    return SurvfuncRight([time.seconds for time in times], [time.succeeded for time in times])
