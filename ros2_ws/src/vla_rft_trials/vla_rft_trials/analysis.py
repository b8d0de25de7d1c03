"""From a study's records to what they say: one result per policy, one per comparison. Numbers only; no pages.

Void trials say nothing about a policy and are not counted. Every policy meets every placement, so comparisons are
paired; a pair of which one trial is missing is left out of the paired test and told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from statsmodels.stats.multitest import multipletests

from vla_rft_trials.progress import counted, decision
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.schedule import Slot
from vla_rft_trials.statistics import paired, survival
from vla_rft_trials.statistics.comparison import Comparison, Verdict, compare
from vla_rft_trials.statistics.paired import Pairs
from vla_rft_trials.statistics.sequential import Decision
from vla_rft_trials.statistics.survival import MeanTime, Time
from vla_rft_trials.statistics.two_arms import Count
from vla_rft_trials.study import Study
from vla_rft_trials.trial_log import LogContents


@dataclass(frozen=True)
class PolicyResult:
    """One policy's trials."""

    code: str
    records: tuple[TrialRecord, ...]
    """Those that count, in the order of their places."""
    count: Count
    void: int
    times: tuple[Time, ...]
    mean_time: MeanTime | None
    """Restricted to the time limit; None without trials."""
    success_seconds: tuple[float, ...]
    failure_modes: Mapping[str, int]
    by_cell: Mapping[str, Count]
    """seen/unseen -> count; empty where the protocol names no coverage."""
    human_ratio: float | None
    """Median time of its successes over the operator's own; None where either is not known."""


@dataclass(frozen=True)
class MethodResult:
    """Policies of several training seeds of one method, taken together."""

    name: str
    codes: tuple[str, ...]
    count: Count
    seed_rates: tuple[float, ...]
    """Success rate of each training seed's policy."""
    by_placement: Mapping[str, float]
    """Mean success over its policies and repeats."""


@dataclass(frozen=True)
class PairResult:
    """Two policies compared."""

    a: str
    b: str
    comparison: Comparison
    clustered: float | None
    """p of the permutation test by placement, where placements were repeated; None where McNemar does it."""
    holm: float
    """The deciding p, adjusted for all comparisons of the study."""
    incomplete: int
    """Pairs of which a trial is missing."""
    verdict: Verdict
    """What counts: after all comparisons, repeats and the stopping rule."""
    mean_apart: tuple[float, float, float] | None
    """Difference of the restricted mean times and its interval [s], a - b."""

    @property
    def p(self) -> float:
        """The one that decides, before adjustment."""
        return self.comparison.p if self.clustered is None else self.clustered

    @property
    def test(self) -> str:
        """Its name."""
        return self.comparison.test if self.clustered is None else "permutation by placement"


@dataclass(frozen=True)
class Analysis:
    """Everything computed from a study's records."""

    policies: tuple[PolicyResult, ...]
    pairs: tuple[PairResult, ...]
    methods: tuple[MethodResult, ...]
    """Only where the study is unlocked and methods have several policies."""
    method_p: tuple[tuple[str, str, float], ...]
    """p of the clustered permutation test, per two methods."""


def analyse(study: Study, contents: LogContents) -> Analysis:
    """Of the trials so far."""
    by_place = counted(contents)
    policies = tuple(_policy(code, study, contents, by_place) for code in study.codes())
    testable = [(a, b) for a, b in _compared(study, policies) if a.count.trials and b.count.trials]
    pairs = [_pair(a, b, study, by_place) for a, b in testable]
    pairs = _judged(pairs, study, decision(study, contents))
    methods = _methods(study, policies)
    return Analysis(
        policies=policies,
        pairs=tuple(pairs),
        methods=methods,
        method_p=tuple((a.name, b.name, _method_p(a, b)) for a, b in combinations(methods, 2)),
    )


def _compared(study: Study, policies: Sequence[PolicyResult]) -> list[tuple[PolicyResult, PolicyResult]]:
    """Those that the protocol names; while the study is sealed nobody knows who they are, and each meets each."""
    unlocked, wanted = study.unlocked(), study.protocol.comparisons
    if unlocked is None or not wanted:
        return list(combinations(policies, 2))
    by_name = {unlocked.mapping.codes[policy.code].name: policy for policy in policies}
    return [(by_name[a], by_name[b]) for a, b in wanted]


def _judged(pairs: Sequence[PairResult], study: Study, decided: Decision) -> list[PairResult]:
    """With what counts: the stopping rule where there is one, else p, adjusted (Holm) where there are several."""
    protocol = study.protocol
    if not pairs:
        return []
    if protocol.stopping.rule == "sequential":
        verdict = Verdict(decided is Decision.DIFFERENT, f"sequential test at alpha {protocol.alpha:g}")
        return [replace(pair, holm=pair.p, verdict=verdict) for pair in pairs]
    adjusted = multipletests([pair.p for pair in pairs], method="holm")[1]
    several = f", Holm-adjusted for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    return [
        replace(pair, holm=float(p), verdict=Verdict.of(float(p), f"{pair.test}{several}", protocol.alpha))
        for pair, p in zip(pairs, adjusted, strict=True)
    ]


def time_of(record: TrialRecord, limit_s: float) -> Time:
    """A success at its time; a failure has not succeeded up to the limit, however early it ended."""
    if record.outcome is Outcome.SUCCESS and record.seconds is not None:
        return Time(record.seconds, True)
    return Time(limit_s, False)


def _policy(code: str, study: Study, contents: LogContents, by_place: Mapping[int, TrialRecord]) -> PolicyResult:
    protocol = study.protocol
    records = tuple(by_place[s.number] for s in study.plan.schedule if s.code == code and s.number in by_place)
    successes = [record for record in records if record.outcome is Outcome.SUCCESS]
    seconds = tuple(record.seconds for record in successes if record.seconds is not None)
    times = tuple(time_of(record, protocol.time_limit_s) for record in records)
    return PolicyResult(
        code=code,
        records=records,
        count=Count(len(successes), len(records)),
        void=sum(r.policy == code and r.outcome is Outcome.VOID for r in contents.records),
        times=times,
        mean_time=survival.restricted_mean(times, protocol.time_limit_s) if times else None,
        success_seconds=seconds,
        failure_modes=Counter(r.failure_mode or "not named" for r in records if r.outcome is Outcome.FAILURE),
        by_cell=_by_cell(study, records),
        human_ratio=_human_ratio(seconds, study.plan.human_times_s),
    )


def _by_cell(study: Study, records: Sequence[TrialRecord]) -> dict[str, Count]:
    cells = {placement.id: placement.cell for placement in study.plan.placements}
    found: dict[str, list[bool]] = {}
    for record in records:
        if cells[record.placement_id]:
            found.setdefault(cells[record.placement_id], []).append(record.outcome is Outcome.SUCCESS)
    return {cell: Count(sum(outcomes), len(outcomes)) for cell, outcomes in sorted(found.items())}


def _human_ratio(seconds: Sequence[float], human_s: Sequence[float]) -> float | None:
    return float(np.median(seconds) / np.median(human_s)) if seconds and human_s else None


def _pair(a: PolicyResult, b: PolicyResult, study: Study, by_place: Mapping[int, TrialRecord]) -> PairResult:
    protocol = study.protocol
    blocks = {slot.block: slot for slot in study.plan.schedule}
    won: list[tuple[bool, bool]] = []
    placements: dict[str, list[tuple[bool, bool]]] = {}
    for block in blocks:
        slots = {s.code: s for s in study.plan.schedule if s.block == block}
        both = _outcomes(slots, (a.code, b.code), by_place)
        if both is not None:
            won.append(both)
            placements.setdefault(slots[a.code].placement, []).append(both)
    pairs = Pairs.of(won) if won and protocol.repeats == 1 else None
    clustered = None
    if won and protocol.repeats > 1:
        means = np.array([np.mean(outcomes, axis=0) for outcomes in placements.values()])
        clustered = paired.clustered(means[:, 0].tolist(), means[:, 1].tolist())
    apart = None
    if a.mean_time is not None and b.mean_time is not None:
        difference, interval = survival.mean_difference(a.mean_time, b.mean_time)
        apart = (difference, interval.low, interval.high)
    comparison = compare(a.count, b.count, pairs=pairs, alpha=protocol.alpha)
    return PairResult(a.code, b.code, comparison, clustered, 1.0, len(blocks) - len(won), comparison.verdict, apart)


def _outcomes(
    slots: Mapping[str, Slot], codes: tuple[str, str], by_place: Mapping[int, TrialRecord]
) -> tuple[bool, bool] | None:
    """Who succeeded; None when a trial of the pair is missing."""
    numbers = [slots[code].number for code in codes]
    if any(number not in by_place for number in numbers):
        return None
    first, second = (by_place[number].outcome is Outcome.SUCCESS for number in numbers)
    return first, second


def _methods(study: Study, policies: Sequence[PolicyResult]) -> tuple[MethodResult, ...]:
    """Empty while the study is sealed, and where every policy is its own method."""
    unlocked = study.unlocked()
    if unlocked is None:
        return ()
    entries = {entry.name: entry for entry in study.protocol.policies}
    codes: dict[str, list[PolicyResult]] = {}
    for result in policies:
        entry = entries[unlocked.mapping.codes[result.code].name]
        codes.setdefault(entry.method or entry.name, []).append(result)
    if all(len(results) == 1 for results in codes.values()):
        return ()
    return tuple(_method(name, results) for name, results in codes.items())


def _method(name: str, results: Sequence[PolicyResult]) -> MethodResult:
    outcomes: dict[str, list[bool]] = {}
    for record in (record for result in results for record in result.records):
        outcomes.setdefault(record.placement_id, []).append(record.outcome is Outcome.SUCCESS)
    total = Count(sum(r.count.successes for r in results), sum(r.count.trials for r in results))
    rates = tuple(r.count.successes / r.count.trials for r in results if r.count.trials)
    means = {placement: float(np.mean(won)) for placement, won in outcomes.items()}
    return MethodResult(name, tuple(r.code for r in results), total, rates, means)


def _method_p(a: MethodResult, b: MethodResult) -> float:
    shared = sorted(set(a.by_placement) & set(b.by_placement))
    if not shared:
        return 1.0
    return paired.clustered([a.by_placement[p] for p in shared], [b.by_placement[p] for p in shared])
