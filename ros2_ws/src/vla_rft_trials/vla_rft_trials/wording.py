"""How a record's values read to a person; the same words in the terminal, on the sheet and in the report."""

from __future__ import annotations

from datetime import UTC, datetime

from vla_rft_core.clock import NS_PER_S
from vla_rft_trials.records import Outcome, TrialRecord

SYMBOLS = {
    Outcome.SUCCESS: "\N{CHECK MARK}",
    Outcome.FAILURE: "\N{BALLOT X}",
    Outcome.VOID: "\N{WHITE CIRCLE}",
}
NOT_MEASURED = "\N{EN DASH}"


def outcome(record: TrialRecord) -> str:
    """Symbol and word, so that colour is never needed."""
    return f"{SYMBOLS[record.outcome]} {record.outcome}"


def seconds(value: float | None) -> str:
    """A duration: "6.1 s"."""
    return NOT_MEASURED if value is None else f"{value:.1f} s"


def centimetres(value: float | None) -> str:
    """A length given in metres: "2.1 cm"."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} cm"


def reason(record: TrialRecord) -> str:
    """Why the trial ended, with the failure mode and note when there are any: "time limit: no grasp"."""
    parts = [record.termination_reason.replace("_", " "), record.failure_mode, record.note]
    return ": ".join(part for part in parts if part)


def utc(stamp_ns: int) -> str:
    """A stamp to the second: "2025-01-31 10:15:00 UTC"."""
    return datetime.fromtimestamp(stamp_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
