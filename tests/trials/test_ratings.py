"""Second raters: their own order, the last word counts, and Cohen's kappa against a hand calculation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla_rft_trials.ratings import Rating, agreements, order_for, rate, read_ratings
from vla_rft_trials.records import Outcome

Make = Callable[..., Any]


def rating(index: int, outcome: Outcome, *, mode: str = "", rater: str = "ben", blind: bool = True) -> Rating:
    return Rating(index=index, rater=rater, outcome=outcome, failure_mode=mode, blind=blind, stamp_ns=index)


def test_kappa_of_twenty_trials(trial: Make, success: Make, failure: Make) -> None:
    """10 and 6 alike, 1 and 3 not: observed 0.8, by chance 0.55 * 0.65 + 0.45 * 0.35 = 0.515, kappa 0.588."""
    records = [success(trial(i)) for i in range(11)] + [failure(trial(i)) for i in range(11, 20)]
    seen = [Outcome.SUCCESS] * 10 + [Outcome.FAILURE] + [Outcome.SUCCESS] * 3 + [Outcome.FAILURE] * 6
    (agreement,) = agreements(records, [rating(i, outcome) for i, outcome in enumerate(seen)])
    assert (agreement.rated, agreement.agreed, agreement.disputed) == (20, 16, (10, 11, 12, 13))
    assert agreement.kappa == pytest.approx((0.8 - 0.515) / (1 - 0.515))
    assert agreement.interval is not None and agreement.interval.low < agreement.kappa < agreement.interval.high
    assert (agreement.both_failures, agreement.modes_agreed) == (6, 0)


def test_the_last_word_of_each_rater_counts(trial: Make, success: Make, failure: Make) -> None:
    records = [success(trial(0)), failure(trial(1)), replace(success(trial(2)), outcome=Outcome.VOID)]
    words = [
        rating(0, Outcome.FAILURE),
        rating(0, Outcome.SUCCESS),
        rating(1, Outcome.FAILURE, mode="no grasp"),
        rating(2, Outcome.SUCCESS),
        rating(1, Outcome.SUCCESS, rater="cleo", blind=False),
    ]
    ben, cleo = agreements(records, words)
    assert (ben.rated, ben.agreed, ben.modes_agreed, ben.kappa, ben.blind) == (2, 2, 1, 1.0, True)
    assert (cleo.rated, cleo.agreed, cleo.blind) == (1, 0, False)


def test_where_all_say_the_same_kappa_is_not_defined(trial: Make, success: Make) -> None:
    records = [success(trial(i)) for i in range(3)]
    (agreement,) = agreements(records, [rating(i, Outcome.SUCCESS) for i in range(3)])
    assert agreement.agreed == 3 and agreement.kappa is None


def test_every_rater_has_an_order_of_their_own() -> None:
    assert order_for("ben", "s", 30) == order_for("ben", "s", 30) != order_for("cleo", "s", 30)
    assert sorted(order_for("ben", "s", 30)) == list(range(30)) != order_for("ben", "s", 30)


def test_ratings_come_back_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    assert read_ratings(path) == ()
    words = (rating(0, Outcome.SUCCESS), rating(1, Outcome.FAILURE, mode="drop"))
    for word in words:
        rate(path, word)
    with path.open("a") as stream:
        stream.write('{"index": 2, "ra')
    assert read_ratings(path) == words


@pytest.mark.parametrize(
    "wrong", [{"rater": ""}, {"outcome": Outcome.VOID}, {"outcome": Outcome.SUCCESS, "failure_mode": "drop"}]
)
def test_a_rating_that_is_none_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a rating is"):
        rate(tmp_path / "ratings.jsonl", replace(rating(0, Outcome.FAILURE), **wrong))
