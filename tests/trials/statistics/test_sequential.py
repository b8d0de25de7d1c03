"""The stopping rule: its error is at most alpha, exactly and in 20,000 simulated null studies; and it stops early."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_trials.statistics.sequential import NEVER, Decision, SequentialRule

STUDIES = 20_000


def stops(rule: SequentialRule, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(found different, pairs used) of studies whose pairs have `signs` (studies, n_max): `decide`, vectorised."""
    early, last = (np.array(line) for line in rule.boundaries)
    place, m = np.cumsum(signs, axis=1), np.cumsum(np.abs(signs), axis=1)
    crossed = np.abs(place) >= early[m]
    first = np.where(crossed.any(1), crossed.argmax(1), rule.n_max - 1)
    at_end = np.abs(place[:, -1]) >= last[m[:, -1]]
    return crossed.any(1) | at_end, first + 1


def outcomes(rng: np.random.Generator, n: int, p_a: float, p_b: float) -> np.ndarray:
    a, b = rng.random((STUDIES, n)) < p_a, rng.random((STUDIES, n)) < p_b
    return a.astype(int) - b.astype(int)


@pytest.mark.parametrize("n_max", [10, 20, 50])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_the_error_of_simulated_null_studies_is_at_most_alpha(n_max: int, p: float) -> None:
    rule = SequentialRule(n_max=n_max, alpha=0.05)
    found, _ = stops(rule, outcomes(np.random.default_rng(n_max), n_max, p, p))
    assert found.mean() <= 0.05


@pytest.mark.parametrize("n_max", [5, 10, 17, 30, 60])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("early_share", [0.0, 0.5, 0.9])
def test_the_exact_error_is_at_most_alpha_whatever_happens(n_max: int, alpha: float, early_share: float) -> None:
    rule = SequentialRule(n_max=n_max, alpha=alpha, early_share=early_share)
    assert max(rule.error_given(m) for m in range(n_max + 1)) <= alpha + 1e-12


def test_pairs_with_something_in_common_keep_the_error() -> None:
    """Hard and easy placements: trials of a pair are alike, yet the error holds."""
    rng = np.random.default_rng(3)
    p = rng.choice([0.05, 0.95], (STUDIES, 20))
    a, b = rng.random(p.shape) < p, rng.random(p.shape) < p
    found, _ = stops(SequentialRule(n_max=20), a.astype(int) - b.astype(int))
    assert found.mean() <= 0.05


def test_a_large_difference_is_found_with_fewer_pairs() -> None:
    found, used = stops(SequentialRule(n_max=30), outcomes(np.random.default_rng(4), 30, 0.95, 0.2))
    assert found.mean() > 0.99
    assert used.mean() < 20


def test_decide_is_what_the_boundaries_say() -> None:
    rule = SequentialRule(n_max=20)
    rng = np.random.default_rng(5)
    for signs in rng.choice([-1, 0, 1], (200, 20), p=[0.1, 0.4, 0.5]):
        found, used = stops(rule, signs[None])
        history = [rule.decide(signs[:i].tolist()) for i in range(1, 21)]
        stopped = next((i for i, decision in enumerate(history, 1) if decision is not Decision.GO_ON), 20)
        assert (history[stopped - 1] is Decision.DIFFERENT) == bool(found[0])
        assert stopped <= used[0]  # earlier only where nothing could be decided any more
        if history[stopped - 1] is Decision.DIFFERENT:
            assert stopped == used[0]


def test_a_study_that_cannot_be_decided_any_more_ends() -> None:
    rule = SequentialRule(n_max=10)
    assert rule.decide([0] * 4) is Decision.GO_ON
    assert rule.decide([0] * 5) is Decision.UNDECIDED  # five wins of five are not enough for McNemar either
    assert rule.decide([1] * 9) is Decision.DIFFERENT


def test_the_last_look_is_mcnemar_s_where_nothing_was_spent() -> None:
    rule = SequentialRule(n_max=6, early_share=0.0)
    assert rule.boundaries[0] == (NEVER,) * 7
    assert rule.decide([1] * 6) is Decision.DIFFERENT
    assert rule.decide([1] * 5 + [0]) is Decision.UNDECIDED


@pytest.mark.parametrize(
    "wrong", [{"n_max": 0}, {"n_max": 5, "alpha": 0.0}, {"n_max": 5, "alpha": 1.0}, {"n_max": 5, "early_share": 1.0}]
)
def test_a_rule_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need n_max"):
        SequentialRule(**wrong)


def test_signs_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 3 signs"):
        SequentialRule(n_max=3).decide([1, 2])
