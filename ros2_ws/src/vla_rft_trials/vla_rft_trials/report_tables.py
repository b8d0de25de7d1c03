"""What a report shows, as rows of words: the same in HTML, Markdown and CSV. Knows no markup."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_rft_trials import wording
from vla_rft_trials.analysis import Analysis, PairResult, PolicyResult
from vla_rft_trials.progress import counted
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.statistics.comparison import describe_comparison
from vla_rft_trials.statistics.proportion import Interval, clopper_pearson, describe, wilson
from vla_rft_trials.study import Study
from vla_rft_trials.trial_log import LogContents

NONE = wording.NOT_MEASURED


@dataclass(frozen=True)
class Table:
    """Column names and rows of words; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def outcome_table(study: Study, contents: LogContents, names: Mapping[str, str]) -> Table:
    """The paper's Table 11: one row per placement, one column per policy; seconds of a success, else how it failed."""
    by_place, codes = counted(contents), study.codes()
    rows = []
    for block in sorted({slot.block for slot in study.plan.schedule}, key=lambda b: _placement(study, b)):
        slots = {slot.code: slot for slot in study.plan.schedule if slot.block == block}
        cells = [outcome_cell(by_place.get(slots[code].number)) for code in codes]
        rows.append((_placement(study, block), *cells))
    return Table(("placement", *(names[code] for code in codes)), tuple(rows))


def outcome_cell(record: TrialRecord | None) -> str:
    """ "41" for a success after 41 s, the failure mode otherwise."""
    if record is None:
        return NONE
    if record.outcome is Outcome.SUCCESS:
        return NONE if record.seconds is None else f"{record.seconds:.1f}"
    return record.failure_mode or "failure"


def result_table(analysis: Analysis, names: Mapping[str, str]) -> Table:
    """Per policy what its trials support; the rows that go below the paper's."""
    policies = analysis.policies
    rows: list[tuple[str, ...]] = [("success rate", *(str(p.count) for p in policies))]
    if any(p.count.trials for p in policies):
        rows += [
            ("Clopper\N{EN DASH}Pearson 95 %", *(_of(p, clopper_pearson) for p in policies)),
            ("Wilson 95 %", *(_of(p, wilson) for p in policies)),
            ("median time of successes", *(_median(p) for p in policies)),
            ("restricted mean time", *(_mean(p) for p in policies)),
        ]
    if any(p.human_ratio is not None for p in policies):
        rows.append(("time over the operator's own", *(_ratio(p) for p in policies)))
    for cell in sorted({cell for p in policies for cell in p.by_cell}):
        rows.append((f"in {cell} cells", *(str(p.by_cell.get(cell, NONE)) for p in policies)))
    rows.append(("void, not counted", *(str(p.void) for p in policies)))
    return Table(("", *(names[p.code] for p in policies)), tuple(rows))


def comparison_table(pair: PairResult, names: Mapping[str, str], *, several: bool) -> Table:
    """Every test and interval of one comparison."""
    c, points = pair.comparison, _points
    rows = [
        ("Barnard, unpaired", f"p = {c.barnard:.4f}"),
        ("Boschloo, unpaired", f"p = {c.boschloo:.4f}"),
        ("Fisher, unpaired", f"p = {c.fisher:.4f}"),
    ]
    if c.pairs is not None and c.mcnemar is not None:
        rows.append(("McNemar, paired", f"p = {c.mcnemar:.4f} ({c.pairs.only_a}:{c.pairs.only_b} pairs differ)"))
    if pair.clustered is not None:
        rows.append(("permutation by placement", f"p = {pair.clustered:.4f}"))
    if several:
        rows.append(("the deciding p, Holm-adjusted", f"p = {pair.holm:.4f}"))
    rows += [
        ("difference of success rates", points(c.difference)),
        (f"P({names[pair.a]} is better)", f"{c.better:.3f} (flat priors; difference {points(c.credible)})"),
    ]
    if pair.mean_apart is not None:
        apart, low, high = pair.mean_apart
        rows.append(("difference of restricted mean times", f"{apart:+.1f} s ({low:+.1f} to {high:+.1f} s)"))
    if pair.incomplete:
        rows.append(("pairs of which a trial is missing", str(pair.incomplete)))
    return Table((f"{names[pair.a]} against {names[pair.b]}", ""), tuple(rows))


def sentences(analysis: Analysis, names: Mapping[str, str]) -> list[str]:
    """What the data can and cannot support, in words."""
    if len(analysis.policies) == 1:
        count = analysis.policies[0].count
        return [describe(count.successes, count.trials)]
    found = [
        describe_comparison(pair.comparison, names=(names[pair.a], names[pair.b]), verdict=pair.verdict)
        for pair in analysis.pairs
    ]
    for a, b, p in analysis.method_p:
        found.append(f"Over training seeds, {a} against {b}: p = {p:.2g} (permutation by placement, seeds as trained).")
    return found or ["No two policies have trials that count yet, so nothing can be compared."]


def failure_table(analysis: Analysis, study: Study, names: Mapping[str, str]) -> Table:
    """How often each failure mode occurred, per policy."""
    seen = {mode for p in analysis.policies for mode in p.failure_modes}
    modes = [m for m in study.protocol.failure_modes if m in seen] + sorted(seen - set(study.protocol.failure_modes))
    rows = tuple((mode, *(str(p.failure_modes.get(mode, 0)) for p in analysis.policies)) for mode in modes)
    return Table(("failure mode", *(names[p.code] for p in analysis.policies)), rows)


def latency_table(records: Sequence[TrialRecord]) -> Table:
    """Per figure the median and the worst over trials [ms]."""
    figures: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.latencies_ms.items():
            figures.setdefault(name, []).append(value)
    rows = [(name, f"{np.median(v):.2f} ms", f"{max(v):.2f} ms", str(len(v))) for name, v in figures.items()]
    return Table(("figure", "median of trials", "worst trial", "trials"), tuple(rows))


_CSV = """
trial slot block placement cell code policy outcome counted termination_reason failure_mode seconds edge_gap_m
similarity started_utc seed repeats_trial labelled_by video video_sha256 episode latency_p50_ms latency_p99_ms note
"""


def trials_csv(study: Study, contents: LogContents, names: Mapping[str, str]) -> str:
    """Every trial there was, void ones as well."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV.split())
    counts = {record.index for record in counted(contents).values()}
    blocks = {slot.number: slot.block for slot in study.plan.schedule}
    for r in contents.records:
        writer.writerow(
            [
                r.index + 1,
                r.slot + 1,
                blocks[r.slot] + 1,
                r.placement_id,
                study.plan.placement(r.placement_id).cell,
                r.policy,
                names[r.policy],
                r.outcome,
                "yes" if r.index in counts else "no",
                r.termination_reason,
                r.failure_mode,
                "" if r.seconds is None else f"{r.seconds:.3f}",
                "" if r.edge_gap is None else f"{r.edge_gap:.4f}",
                "" if r.similarity is None else f"{r.similarity:.3f}",
                wording.utc(r.started_ns),
                r.seed,
                "" if r.repeats is None else r.repeats + 1,
                r.labelled_by,
                r.video,
                r.video_sha256,
                r.episode,
                r.latencies_ms.get("p50", ""),
                r.latencies_ms.get("p99", ""),
                r.note,
            ]
        )
    return out.getvalue()


def _placement(study: Study, block: int) -> str:
    return next(slot.placement for slot in study.plan.schedule if slot.block == block)


def _of(result: PolicyResult, interval: object) -> str:
    if not result.count.trials:
        return NONE
    low, high = interval(result.count.successes, result.count.trials)  # type: ignore[operator]
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f} %"


def _median(result: PolicyResult) -> str:
    return f"{np.median(result.success_seconds):.1f} s" if result.success_seconds else NONE


def _mean(result: PolicyResult) -> str:
    if result.mean_time is None:
        return NONE
    low, high = result.mean_time.interval()
    return f"{result.mean_time.seconds:.1f} s ({low:.1f}\N{EN DASH}{high:.1f})"


def _ratio(result: PolicyResult) -> str:
    return NONE if result.human_ratio is None else f"{result.human_ratio:.2f} \N{MULTIPLICATION SIGN}"


def _points(interval: Interval) -> str:
    return f"{100 * interval.low:+.0f} to {100 * interval.high:+.0f} percentage points"
