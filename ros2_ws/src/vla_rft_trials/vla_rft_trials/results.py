"""What a study found, as plain data for whoever puts several studies side by side. Of an unlocked study only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vla_rft_trials.analysis import MethodResult, PairResult, PolicyResult, analyse
from vla_rft_trials.evidence import verify_evidence
from vla_rft_trials.progress import progress
from vla_rft_trials.report_tables import outcome_table
from vla_rft_trials.statistics.proportion import clopper_pearson
from vla_rft_trials.statistics.two_arms import Count
from vla_rft_trials.study import names_of, open_study
from vla_rft_trials.trial_log import LogContents, read_log


def results(folder: Path) -> dict[str, Any]:
    """Counts, times, failure modes, comparisons. StudyError while policies go by code names."""
    study = open_study(folder)
    unlocked = study.require_unlocked()
    contents = read_log(study.records) if study.records.exists() else LogContents(())
    missing = verify_evidence(study, contents)
    names = names_of(unlocked, study.plan)
    methods = {entry.name: entry.method or entry.name for entry in study.protocol.policies}
    analysis = analyse(study, contents)
    table = outcome_table(study, contents, names)
    return {
        "study": study.digest,
        "title": study.protocol.title,
        "locked_ns": study.plan.locked_ns,
        "placements": len(study.plan.placements),
        "first_seed": study.protocol.placements.seed,
        "draw": study.protocol.placements.draw,
        "time_limit_s": study.protocol.time_limit_s,
        "complete": progress(study, contents).complete,
        "missing": missing,
        "policies": [_policy(found, names[found.code], methods, unlocked.mapping) for found in analysis.policies],
        "pairs": [_pair(pair, names) for pair in analysis.pairs],
        "methods": [_method(found) for found in analysis.methods],
        "method_p": [{"a": a, "b": b, "p": p} for a, b, p in analysis.method_p],
        "outcomes": {"columns": list(table.columns), "rows": [list(row) for row in table.rows]},
    }


def _policy(found: PolicyResult, name: str, methods: dict[str, str], mapping: Any) -> dict[str, Any]:
    seconds = found.success_seconds
    return {
        "name": name,
        "method": methods[name],
        "digest": mapping.codes[found.code].digest,
        **_count(found.count),
        "void": found.void,
        "median_s": float(np.median(seconds)) if seconds else None,
        "mean_s": found.mean_time.seconds if found.mean_time is not None else None,
        "failure_modes": dict(found.failure_modes),
    }


def _count(count: Count) -> dict[str, Any]:
    if not count.trials:
        return {"successes": 0, "trials": 0, "low": None, "high": None}
    low, high = clopper_pearson(count.successes, count.trials)
    return {"successes": count.successes, "trials": count.trials, "low": low, "high": high}


def _pair(pair: PairResult, names: Any) -> dict[str, Any]:
    pairs = pair.comparison.pairs
    return {
        "a": names[pair.a],
        "b": names[pair.b],
        "only_a": None if pairs is None else pairs.only_a,
        "only_b": None if pairs is None else pairs.only_b,
        "test": pair.test,
        "p": pair.p,
        "holm": pair.holm,
        "difference": list(pair.comparison.difference),
    }


def _method(found: MethodResult) -> dict[str, Any]:
    return {"name": found.name, **_count(found.count), "seed_rates": list(found.seed_rates)}
