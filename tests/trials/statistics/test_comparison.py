"""Tests of two counts against scipy and against the published tables, digit by digit, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vla_rft_trials.statistics import bayes, paired, power, two_arms
from vla_rft_trials.statistics.comparison import compare, describe_comparison, describe_detectable
from vla_rft_trials.statistics.paired import Pairs
from vla_rft_trials.statistics.two_arms import Count

# k of 10 against k of 10: Fisher, Barnard, Boschloo as published, each to its printed digits.
PUBLISHED = {
    ((10, 10), (5, 10)): (".0325", ".0128", ".0128"),
    ((10, 10), (6, 10)): (".0867", ".0419", ".0422"),
    ((10, 10), (7, 10)): (".2105", ".0876", ".1158"),
    ((9, 10), (5, 10)): (".1409", ".0623", ".0623"),
    ((8, 10), (4, 10)): (".1698", ".0945", ".0894"),
    ((20, 20), (10, 20)): (".0004", ".0002", ".0002"),
    ((20, 20), (15, 20)): (".047", ".017", ".023"),
    ((20, 20), (16, 20)): (".106", ".039", ".061"),
}


@pytest.mark.parametrize("counts", PUBLISHED)
def test_the_published_table(counts: tuple[tuple[int, int], tuple[int, int]]) -> None:
    a, b = Count(*counts[0]), Count(*counts[1])
    for p, printed in zip(
        (two_arms.fisher(a, b), two_arms.barnard(a, b), two_arms.boschloo(a, b)), PUBLISHED[counts], strict=True
    ):
        digits = len(printed) - 1
        assert f"{p:.{digits}f}".lstrip("0") == printed


@pytest.mark.parametrize(
    ("a", "b"), [((3, 10), (9, 10)), ((0, 7), (5, 12)), ((17, 20), (14, 20)), ((50, 50), (41, 50))]
)
def test_p_values_equal_scipy(a: tuple[int, int], b: tuple[int, int]) -> None:
    table = [[a[0], b[0]], [a[1] - a[0], b[1] - b[0]]]
    first, second = Count(*a), Count(*b)
    assert two_arms.barnard(first, second) == pytest.approx(stats.barnard_exact(table, n=256).pvalue, abs=1e-6)
    assert two_arms.boschloo(first, second) == pytest.approx(stats.boschloo_exact(table, n=256).pvalue, abs=1e-6)
    assert two_arms.fisher(first, second) == pytest.approx(stats.fisher_exact(table).pvalue, abs=1e-6)


@pytest.mark.parametrize(("only_a", "only_b"), [(6, 0), (5, 0), (7, 2), (0, 0), (3, 3)])
def test_mcnemar_is_a_coin_on_the_discordant_pairs(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    expected = stats.binomtest(only_a, n).pvalue if n else 1.0
    assert paired.mcnemar(Pairs(4, only_a, only_b, 1)) == pytest.approx(expected, abs=1e-6)


def test_mcnemar_needs_six_to_nothing() -> None:
    assert round(paired.mcnemar(Pairs(0, 6, 0, 0)), 3) == 0.031
    assert round(paired.mcnemar(Pairs(0, 5, 0, 0)), 4) == 0.0625


def test_with_one_trial_per_placement_the_permutation_test_is_mcnemar() -> None:
    a, b = [1, 1, 1, 1, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    pairs = Pairs.of([(bool(x), bool(y)) for x, y in zip(a, b, strict=True)])
    assert paired.clustered(a, b) == pytest.approx(paired.mcnemar(pairs), abs=1e-6)


def test_trials_at_one_placement_are_not_independent() -> None:
    """Five training seeds that all follow the placement are worth hardly more than one."""
    a, b = [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]
    assert paired.clustered(a, b) == pytest.approx(2 / 16)
    assert two_arms.barnard(Count(20, 20), Count(0, 20)) < 1e-6


@pytest.mark.parametrize(
    ("a", "b", "better"),
    [((10, 10), (5, 10), ".994"), ((10, 10), (7, 10), ".955"), ((20, 20), (16, 20), ".976")],
)
def test_published_posteriors(a: tuple[int, int], b: tuple[int, int], better: str) -> None:
    assert f"{bayes.better(Count(*a), Count(*b)):.3f}".lstrip("0") == better


def test_the_posterior_of_the_difference() -> None:
    low, high = bayes.difference(Count(10, 10), Count(5, 10))
    assert (round(low, 2), round(high, 2)) == (0.10, 0.71)
    rng = np.random.default_rng(0)
    apart = rng.beta(9, 3, 400_000) - rng.beta(5, 7, 400_000)
    assert bayes.better(Count(8, 10), Count(4, 10)) == pytest.approx((apart > 0).mean(), abs=0.003)
    assert bayes.difference(Count(8, 10), Count(4, 10)) == pytest.approx(np.quantile(apart, [0.025, 0.975]), abs=0.005)


def test_posteriors_of_many_trials_are_found_too() -> None:
    assert bayes.better(Count(900, 1000), Count(850, 1000)) > 0.999
    assert bayes.better(Count(500, 1000), Count(500, 1000)) == pytest.approx(0.5, abs=1e-6)


def test_the_published_difference_of_17_and_14() -> None:
    low, high = two_arms.difference(Count(17, 20), Count(14, 20))
    assert (round(100 * low), round(100 * high)) == (-11, 39)


@pytest.mark.parametrize(
    ("base", "rate", "printed"),
    [(0.5, 0.8, 38), (0.5, 0.95, 14), (0.8, 0.95, 75), (0.9, 0.95, 434), (0.866, 0.911, 767), (0.97, 0.98, 3825)],
)
def test_published_sample_sizes(base: float, rate: float, printed: int) -> None:
    assert round(power.trials_needed(base, rate)) == printed


def test_the_rejection_region_is_barnard_s_everywhere() -> None:
    n = 6
    for i in range(n + 1):
        for j in range(n + 1):
            assert power._region(n, 0.05)[i, j] == (two_arms.barnard(Count(i, n), Count(j, n)) <= 0.05)


def test_power_is_what_a_simulation_of_the_test_finds() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.binomial(10, 0.95, 4000), rng.binomial(10, 0.5, 4000)
    p = {(i, j): two_arms.barnard(Count(i, 10), Count(j, 10)) for i, j in set(zip(a.tolist(), b.tolist(), strict=True))}
    found = np.mean([p[pair] <= 0.05 for pair in zip(a.tolist(), b.tolist(), strict=True)])
    assert power.power_unpaired(10, 0.5, 0.95) == pytest.approx(found, abs=0.03)
    first, second = rng.random((4000, 15)) < 0.95, rng.random((4000, 15)) < 0.4
    wins, losses = (first & ~second).sum(1), (~first & second).sum(1)
    found = np.mean(
        [stats.binomtest(w, w + m).pvalue <= 0.05 if w + m else False for w, m in zip(wins, losses, strict=True)]
    )
    assert power.power_paired(15, 0.4, 0.95) == pytest.approx(found, abs=0.03)


def test_ten_trials_detect_little() -> None:
    by_base = {row.base: row.rate for row in power.detectable(10)}
    assert by_base[0.7] is None and by_base[0.9] is None
    assert by_base[0.5] is not None and by_base[0.5] > 0.95
    assert power.power_unpaired(10, 0.5, by_base[0.5]) >= 0.8
    assert "not even 100 %" in "\n".join(describe_detectable(10))


def test_the_sentence_of_the_paper_s_table() -> None:
    sentence = describe_comparison(compare(Count(10, 10), Count(5, 10)))
    assert sentence.startswith("10/10 supports at least 69 %; it differs from 5/10, p = 0.013 (Barnard).")


def test_what_cannot_be_told_apart_is_not_called_equal() -> None:
    sentence = describe_comparison(compare(Count(8, 10), Count(6, 10)), names=("A", "B"))
    assert "A with 8/10 supports at least 44 %; it cannot be told apart from B with 6/10" in sentence
    assert "not evidence that the two are alike" in sentence


def test_the_better_one_comes_first_in_words() -> None:
    assert describe_comparison(compare(Count(3, 10), Count(9, 10)), names=("A", "B")).startswith("B with 9/10")


def test_paired_trials_are_judged_by_mcnemar() -> None:
    c = compare(Count(10, 10), Count(5, 10), pairs=Pairs(5, 5, 0, 0))
    assert (c.test, c.verdict.differs) == ("McNemar", False) and c.p == pytest.approx(0.0625)
    with pytest.raises(ValueError, match="more successes than"):
        compare(Count(1, 10), Count(5, 10), pairs=Pairs(2, 0, 0, 0))


@pytest.mark.parametrize("text", ["10", "11/10", "a/10", "-1/10", "1/2/3"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Count.parse(text)


def test_all_alike_differ_in_nothing() -> None:
    for k in (0, 10):
        assert two_arms.barnard(Count(k, 10), Count(k, 10)) == 1.0
    with pytest.raises(ValueError, match="need trials"):
        two_arms.barnard(Count(0, 0), Count(1, 1))


def test_the_interval_of_pairs_covers_what_it_says() -> None:
    rng = np.random.default_rng(7)
    counts = rng.multinomial(20, (0.4, 0.35, 0.1, 0.15), 4000)
    intervals = [paired.difference(Pairs(*map(int, row))) for row in counts]
    assert np.mean([low <= 0.25 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)
