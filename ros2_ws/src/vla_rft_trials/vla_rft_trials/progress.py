"""How far a study has come, from its records alone: which places are filled, what counts, whether it is over.

Here are the protocol's rules for trials that something broke off. Writes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vla_rft_trials.protocol import PROTECTIVE_STOP, Exclusions, Rule
from vla_rft_trials.records import Outcome, Termination, TrialRecord
from vla_rft_trials.statistics.sequential import Decision, SequentialRule
from vla_rft_trials.study import VIDEOS, Study, StudyError
from vla_rft_trials.trial_log import LogContents


@dataclass(frozen=True)
class Progress:
    """How far a study has come."""

    settled: int
    """Places in the order that are filled, or stay empty by the protocol's rule."""
    planned: int
    decision: Decision
    """Of the stopping rule; `GO_ON` with a fixed number of trials."""

    @property
    def complete(self) -> bool:
        """No trial is to come."""
        return self.settled == self.planned or self.decision is not Decision.GO_ON


def ruled(outcome: Outcome, termination: Termination, mode: str, rules: Exclusions) -> tuple[Outcome, str]:
    """(outcome, failure mode) after the protocol's rule for what ended a void trial."""
    if outcome is not Outcome.VOID or rule_for(termination, rules) is not Rule.FAILURE:
        return outcome, mode if outcome is Outcome.FAILURE else ""
    return Outcome.FAILURE, mode or PROTECTIVE_STOP


def rule_for(termination: Termination, rules: Exclusions) -> Rule:
    """What the protocol says about void trials that ended so."""
    return {
        Termination.SAFETY_HOLD: rules.safety_hold,
        Termination.DEVICE_FAULT: rules.device_fault,
        Termination.CLOCK_JUMP: rules.device_fault,
        Termination.INTERRUPTED: rules.interrupted,
    }.get(termination, rules.operator_void)


def settled(records: list[TrialRecord], rules: Exclusions) -> bool:
    """Nothing more is to come for this place: its last trial counts, or it stays empty."""
    if not records:
        return False
    last = records[-1]
    if last.outcome is not Outcome.VOID:
        return True
    return rule_for(last.termination_reason, rules) is not Rule.REPEAT or len(records) > rules.max_repeats


def records_by_slot(contents: LogContents) -> dict[int, list[TrialRecord]]:
    """Ended trials by their place, oldest first."""
    running = {start.index for start in contents.open}
    found: dict[int, list[TrialRecord]] = {}
    for record in contents.records:
        if record.index not in running:
            found.setdefault(record.slot, []).append(record)
    return found


def counted(contents: LogContents) -> dict[int, TrialRecord]:
    """The trial that counts, by its place."""
    last = {slot: records[-1] for slot, records in records_by_slot(contents).items()}
    return {slot: record for slot, record in last.items() if record.outcome is not Outcome.VOID}


def progress(study: Study, contents: LogContents) -> Progress:
    """How far the study has come, and what its stopping rule says."""
    by_slot, rules = records_by_slot(contents), study.protocol.exclusions
    done = sum(settled(by_slot.get(slot.number, []), rules) for slot in study.plan.schedule)
    return Progress(done, len(study.plan.schedule), decision(study, contents))


def decision(study: Study, contents: LogContents) -> Decision:
    """Of the sequential rule, over the pairs that are complete in the order that was locked."""
    protocol = study.protocol
    if protocol.stopping.rule != "sequential":
        return Decision.GO_ON
    rule = SequentialRule(
        n_max=protocol.trials_per_policy, alpha=protocol.alpha, early_share=protocol.stopping.early_share
    )
    return rule.decide(signs(study, contents))


def signs(study: Study, contents: LogContents) -> list[int]:
    """+1, -1 or 0 per complete pair of the first two codes, in order, up to the first pair that is still to come."""
    first, second = study.plan.codes[:2]
    by_slot, by_place = records_by_slot(contents), counted(contents)
    found = []
    for block in range(len(study.plan.schedule) // 2):
        slots = [slot for slot in study.plan.schedule if slot.block == block]
        if not all(settled(by_slot.get(slot.number, []), study.protocol.exclusions) for slot in slots):
            break
        won = {s.code: by_place[s.number].outcome is Outcome.SUCCESS for s in slots if s.number in by_place}
        if len(won) == 2:
            found.append(int(won[first]) - int(won[second]))
    return found


def check_log(study: Study, contents: LogContents) -> None:
    """StudyError when the records are another study's, or when there are videos that no record names."""
    for record in contents.original:
        if record.study != study.digest:
            raise StudyError(
                f"{study.records}: trial {record.index + 1} is of another study than {study.folder}/locked"
            )
    known = {record.video for record in contents.original}
    for path in sorted((study.folder / VIDEOS).glob("trial_*.mp4")):
        if f"{VIDEOS}/{path.name}" not in known:
            raise StudyError(f"{study.records}: does not name {VIDEOS}/{path.name}, so records have been cut off")


def video_name(index: int) -> str:
    """Path of trial `index`'s video, relative to the study folder; people count from 1."""
    return f"{VIDEOS}/trial_{index + 1:03d}.mp4"


def file_sha256(path: Path) -> str:
    """Of a file; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
