"""Two policies of a study side by side, placement by placement, as film strips (the paper's Figure 8)."""

from __future__ import annotations

from pathlib import Path

from vla_rft_core.config import did_you_mean
from vla_rft_trials.contact_sheet import contact_sheet
from vla_rft_trials.progress import counted
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.study import names_of, open_study
from vla_rft_trials.trial_log import read_log


def strips(folder: Path, first: str, second: str, *, count: int) -> bytes:
    """PNG, two strips per placement.

    Half are placements that only `second` solved, half those that only `first` did, as far as there are any; then those
    that both, then those that neither did. ValueError for a policy that is not in the study.
    """
    study = open_study(folder)
    names = names_of(study.require_unlocked(), study.plan)
    for name in (first, second):
        if name not in names.values():
            raise ValueError(f"no policy {name!r} in {folder}{did_you_mean(name, list(names.values()))}")
    tried: dict[str, dict[str, TrialRecord]] = {}
    for record in counted(read_log(study.records)).values():
        tried.setdefault(record.placement_id, {})[names[record.policy]] = record
    both = [(found[first], found[second]) for _, found in sorted(tried.items()) if {first, second} <= found.keys()]
    chosen = [record for pair in _chosen(both, count) for record in pair]
    title = f"{study.protocol.title}: {first} above, {second} below"
    return contact_sheet(folder, tuple(chosen), title=title, names=names)


def _chosen(pairs: list[tuple[TrialRecord, TrialRecord]], count: int) -> list[tuple[TrialRecord, TrialRecord]]:
    groups: dict[tuple[bool, bool], list[tuple[TrialRecord, TrialRecord]]] = {}
    for pair in pairs:
        won = (pair[0].outcome is Outcome.SUCCESS, pair[1].outcome is Outcome.SUCCESS)
        groups.setdefault(won, []).append(pair)
    gained, lost = groups.get((False, True), []), groups.get((True, False), [])
    half = max(count - count // 2, count - len(lost))
    alike = groups.get((True, True), []) + groups.get((False, False), [])
    return [*gained[:half], *lost[: max(count // 2, count - len(gained))], *alike][:count]
