"""Second raters: who scores the videos again, blind to policy, to the first verdict and to the order of the trials.

One line per rating in ratings.jsonl, fsynced, only ever appended; the last word of a rater about a trial counts.
Agreement is Cohen's kappa (statsmodels), with its interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import append_line
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.schema import SchemaError, parse
from vla_rft_trials.statistics.proportion import Interval


class RatingError(VlaRftError):
    """The ratings cannot be read; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What one rater saw in one trial's video."""

    index: int
    """Of the trial."""
    rater: str
    outcome: Outcome
    failure_mode: str = ""
    blind: bool
    """The study was still sealed."""
    stamp_ns: int


@dataclass(frozen=True)
class Agreement:
    """How far a rater agrees with the records on success or failure."""

    rater: str
    rated: int
    agreed: int
    kappa: float | None
    """Cohen's kappa; None where all say the same, because chance alone would agree as well."""
    interval: Interval | None
    modes_agreed: int
    """Of the trials that both call failures, those with the same failure mode."""
    both_failures: int
    blind: bool
    """Every rating was made before the study was unlocked."""
    disputed: tuple[int, ...]
    """Indices of the trials they see differently."""


def rate(path: Path, rating: Rating) -> None:
    """Add one rating; ValueError for one that is none."""
    contradicts = rating.outcome is Outcome.SUCCESS and rating.failure_mode
    if not rating.rater or rating.outcome is Outcome.VOID or contradicts:
        raise ValueError(f"a rating is a rater's success, or a failure with its mode, got {rating}")
    append_line(path, json.dumps(asdict(rating)))


def read_ratings(path: Path) -> tuple[Rating, ...]:
    """All ratings, oldest first; a torn last line is left out, anything else malformed raises RatingError."""
    if not path.exists():
        return ()
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(parse(Rating, json.loads(line)))
        except (json.JSONDecodeError, SchemaError) as error:
            raise RatingError(f"{path}, line {number}: {error}") from None
    return tuple(found)


def order_for(rater: str, study: str, count: int) -> list[int]:
    """In which order a rater sees the videos: their own, and always the same."""
    seed = [*study.encode(), *rater.encode()]
    return [int(i) for i in np.random.default_rng(seed).permutation(count)]


def agreements(records: Sequence[TrialRecord], ratings: Sequence[Rating]) -> tuple[Agreement, ...]:
    """One per rater, over the trials that count and that they rated."""
    by_index = {record.index: record for record in records if record.outcome is not Outcome.VOID}
    raters = dict.fromkeys(rating.rater for rating in ratings)
    return tuple(_agreement(rater, by_index, [r for r in ratings if r.rater == rater]) for rater in raters)


def _agreement(rater: str, by_index: Mapping[int, TrialRecord], ratings: Sequence[Rating]) -> Agreement:
    last = {rating.index: rating for rating in ratings if rating.index in by_index}
    pairs = [(by_index[i], rating) for i, rating in sorted(last.items())]
    table = np.zeros((2, 2))
    for record, rating in pairs:
        table[int(record.outcome is Outcome.SUCCESS), int(rating.outcome is Outcome.SUCCESS)] += 1
    kappa, interval = _kappa(table)
    failures = [(a, b) for a, b in pairs if a.outcome is Outcome.FAILURE and b.outcome is Outcome.FAILURE]
    return Agreement(
        rater=rater,
        rated=len(pairs),
        agreed=int(np.trace(table)),
        kappa=kappa,
        interval=interval,
        modes_agreed=sum(a.failure_mode == b.failure_mode for a, b in failures),
        both_failures=len(failures),
        blind=all(rating.blind for rating in last.values()),
        disputed=tuple(a.index for a, b in pairs if a.outcome != b.outcome),
    )


def _kappa(table: np.ndarray) -> tuple[float | None, Interval | None]:
    rows, columns = table.sum(1), table.sum(0)
    if not table.sum() or float(rows @ columns) == table.sum() ** 2:
        return None, None
    result = cohens_kappa(table)
    low, high = float(result.kappa_low), float(result.kappa_upp)
    return float(result.kappa), Interval(max(-1.0, low), min(1.0, high))
