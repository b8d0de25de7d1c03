"""Intervals against published values, and sentences that claim no more than the data."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from vla_rft_trials.statistics import proportion

# k of 10: Clopper-Pearson and Wilson bounds in percent, as published with one decimal.
PUBLISHED = {
    5: ((18.7, 81.3), (23.7, 76.3)),
    6: ((26.2, 87.8), (31.3, 83.2)),
    7: ((34.8, 93.3), (39.7, 89.2)),
    8: ((44.4, 97.5), (49.0, 94.3)),
    9: ((55.5, 99.7), (59.6, 98.2)),
    10: ((69.2, 100.0), (72.2, 100.0)),
}


@pytest.mark.parametrize("successes", PUBLISHED)
def test_intervals_equal_the_published_table(successes: int) -> None:
    exact, score = PUBLISHED[successes]
    assert tuple(round(100 * v, 1) for v in proportion.clopper_pearson(successes, 10)) == exact
    assert tuple(round(100 * v, 1) for v in proportion.wilson(successes, 10)) == score


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 3), (3, 3), (17, 20), (50, 50), (1, 200)])
def test_intervals_equal_scipy(successes: int, trials: int) -> None:
    test = binomtest(successes, trials)
    for ours, method in ((proportion.wilson, "wilson"), (proportion.clopper_pearson, "exact")):
        theirs = test.proportion_ci(0.95, method=method)
        assert ours(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_what_three_of_three_says() -> None:
    sentence = proportion.describe(3, 3)
    assert sentence.startswith("3/3 (95 % CI 44\N{EN DASH}100 %). ")
    assert "at least 29 %, not more" in sentence
    assert "At least 90 % would need 36 of 36." in sentence


@pytest.mark.parametrize(
    ("successes", "trials", "part"),
    [
        (10, 10, "at least 69 %"),
        (0, 3, "rules out only true success rates above 71 %"),
        (8, 10, "cannot tell apart true success rates between 44 % and 98 %"),
        (1, 1, "1 trial without a failure"),
        (0, 0, "nothing can be said"),
    ],
)
def test_sentences(successes: int, trials: int, part: str) -> None:
    assert part in proportion.describe(successes, trials)


def test_enough_perfect_trials_are_not_asked_for_more() -> None:
    assert "would need" not in proportion.describe(36, 36)
    assert "would need" in proportion.describe(35, 35)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        proportion.wilson(successes, trials)
