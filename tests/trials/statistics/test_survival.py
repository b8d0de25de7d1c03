"""The survival curve against scipy's, the restricted mean against plain means and a published formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf

from vla_rft_trials.statistics.survival import Time, kaplan_meier, mean_difference, restricted_mean

# Completion times of the towel table: 20k SFT (5/10) and RFT (10/10), limit 180 s.
SFT = [Time(s, True) for s in (60, 56, 55, 52, 51)] + [Time(180, False)] * 5
RFT = [Time(s, True) for s in (41, 54, 60, 54, 56, 50, 52, 50, 60, 62)]


def test_the_curve_equals_scipy_s_with_censoring() -> None:
    rng = np.random.default_rng(0)
    seconds, succeeded = rng.exponential(20.0, 40).round(1), rng.random(40) < 0.6
    times = [Time(float(s), bool(e)) for s, e in zip(seconds, succeeded, strict=True)]
    theirs = ecdf(CensoredData(uncensored=seconds[succeeded], right=seconds[~succeeded])).sf
    curve = kaplan_meier(times)
    np.testing.assert_allclose(
        [curve.share[np.searchsorted(curve.seconds, q, "right") - 1] for q in theirs.quantiles],
        theirs.probabilities,
        atol=1e-6,
    )


def test_without_censoring_before_the_limit_it_is_a_plain_mean() -> None:
    assert restricted_mean(RFT, 180.0).seconds == pytest.approx(np.mean([t.seconds for t in RFT]))
    assert restricted_mean(SFT, 180.0).seconds == pytest.approx(np.mean([t.seconds for t in SFT]))


def test_its_standard_error_is_the_mean_s_own() -> None:
    """Without censoring the variance is that of a mean, with n in place of n - 1."""
    seconds = np.array([t.seconds for t in RFT])
    assert restricted_mean(RFT, 180.0).standard_error == pytest.approx(seconds.std() / np.sqrt(len(seconds)), rel=1e-6)


def test_the_interval_stays_within_the_limit() -> None:
    mean = restricted_mean(SFT, 180.0)
    low, high = mean.interval()
    assert 54.0 < low < mean.seconds < high <= 180.0


def test_the_difference_of_two_means() -> None:
    apart, (low, high) = mean_difference(restricted_mean(SFT, 180.0), restricted_mean(RFT, 180.0))
    assert apart == pytest.approx(117.4 - 53.9)
    assert low < apart < high and low > 0.0


def test_nothing_but_failures() -> None:
    failed = [Time(30.0, False)] * 3
    assert kaplan_meier(failed).share.tolist() == [1.0]
    assert restricted_mean(failed, 30.0).seconds == 30.0
    assert restricted_mean(failed, 30.0).standard_error == 0.0


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="seconds must be >= 0"):
        Time(-1.0, True)
    with pytest.raises(ValueError, match="need trials"):
        restricted_mean([], 30.0)
