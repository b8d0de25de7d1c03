"""The rows of the second table of `docs/faults.md`: what is broken in a running trial, and how that has to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest
from fault_tables import DOCUMENT, head_of, line_of, rows_of, table_of

TABLE = "graph"
HELD, GOES_ON = "HOLD_LATCHED", "goes on"
REARM = "`Rearm` (→ READY)"
PREPARE = "`Rearm` (→ MAINTENANCE), `SetMode(READY)`"
START_AGAIN = "start {0} again; "
VOID_HOLD, VOID_DEVICE = r"trial void \(safety_hold\)", r"trial void \(device_fault\)"
WHOLE, CUT = ", episode whole", ", episode cut short, repaired"


@dataclass(frozen=True, kw_only=True)
class GraphRow:
    """One fault: where it must end, within what time, what is left on disk, what is said, and the way out."""

    fault: str
    end: str
    limit_s: float
    """From the fault to the end state: the time-outs on the way there, and 0.2 s for a busy computer."""
    disk: str = "nothing is recorded"
    """What the run must find on disk (a regular expression)."""
    word: str
    """What the operator is told contains this (a regular expression)."""
    way_out: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one run of a row showed."""

    end_s: float
    """From the fault to the end state."""
    rest_s: float | None
    """From the fault to the last movement of the arm, read from the world; None when it rightly goes on."""
    disk: str = "nothing is recorded"
    told: str


def _of_node(node: str, *, limit_s: float, word: str, killed: str, frozen: str, **ends: str) -> list[GraphRow]:
    """A node killed, and the same node frozen. `killed`, `frozen`: what is on disk then."""
    out = ends.get("way_out", REARM)
    end = ends.get("end", HELD)
    return [
        GraphRow(
            fault=f"{node} killed",
            end=end,
            limit_s=limit_s,
            disk=killed,
            word=word,
            way_out=f"start {node} again; {ends.get('out_killed', out)}",
        ),
        GraphRow(
            fault=f"{node} frozen",
            end=ends.get("end_frozen", end),
            limit_s=limit_s,
            disk=frozen,
            word=word,
            way_out=f"once it goes on, or is started again: {out}",
        ),
    ]


STOPPED = "the watchdog stops the arm; {0}"
NODES = [
    *_of_node(
        "robot_node",
        limit_s=0.8,
        word="robot_node is silent: stopped the arm",
        killed=VOID_DEVICE + WHOLE,
        frozen=VOID_DEVICE + WHOLE,
        end=STOPPED.format("MAINTENANCE when robot_node is back"),
        end_frozen=STOPPED.format("HOLD_LATCHED when robot_node is back"),
        way_out=PREPARE,
        out_killed="`SetMode(READY)`",
    ),
    *_of_node(
        "camera_node",
        limit_s=0.6,
        word="heartbeat: camera_node silent|camera: 'front' silent",
        killed=VOID_HOLD + WHOLE,
        frozen=VOID_HOLD + WHOLE,
    ),
    *_of_node(
        "watchdog_node", limit_s=0.5, word="watchdog: silent", killed=VOID_HOLD + WHOLE, frozen=VOID_HOLD + WHOLE
    ),
    *_of_node(
        "policy_switch_node",
        limit_s=0.6,
        word="heartbeat: teleop_node silent",
        killed=VOID_HOLD + WHOLE,
        frozen=VOID_HOLD + WHOLE,
    ),
    *_of_node(
        "evaluator_node",
        limit_s=1.1,
        word="heartbeat: teleop_node silent",
        killed="trial open" + WHOLE,
        frozen=VOID_HOLD + WHOLE,
    ),
    *_of_node(
        "recorder_node",
        end="READY: the evaluator takes the lease back",
        limit_s=2.8,
        word="recorder_node has been silent",
        killed=VOID_DEVICE + CUT,
        frozen=VOID_DEVICE + WHOLE,
        way_out="the next trial; nothing is latched",
    ),
    *_of_node(
        "console_node",
        end="the trial goes on; the page shows nothing new",
        limit_s=4.0,
        word="console_node silent",
        killed="trial success" + ".*" + WHOLE,
        frozen="trial success" + ".*" + WHOLE,
        way_out="nothing is latched; HOLD is the terminal's and the e-stop's meanwhile",
    ),
]
ROWS = [*NODES]
SEEN: dict[str, Seen] = {}
SKIPPED: dict[str, str] = {}
"""Fault -> why it was not run."""


def row_of(fault: str) -> GraphRow:
    """The row of that fault."""
    (row,) = [row for row in ROWS if row.fault == fault]
    return row


def skip(row: GraphRow, reason: str) -> None:
    """Skip the test; the table says why."""
    SKIPPED[row.fault] = reason
    pytest.skip(reason)


def markdown() -> str:
    """The table; a row that this run did not measure stays as it stands in the document."""
    before = rows_of(table_of(DOCUMENT.read_text(), TABLE))
    text = head_of(
        "fault", "end state", "limit", "found here", "arm's last motion", "on disk", "what the operator is told", "way out"
    )
    return text + "".join(line_of(*_cells(row, before.get(row.fault, []))) for row in ROWS)


def _cells(row: GraphRow, before: list[str]) -> list[str]:
    limit = f"{row.limit_s:g} s"
    if seen := SEEN.get(row.fault):
        rest = "goes on" if seen.rest_s is None else f"{seen.rest_s:.2f} s"
        return [row.fault, row.end, limit, f"{seen.end_s:.2f} s ({date.today()})", rest, seen.disk, seen.told, row.way_out]
    if row.fault in SKIPPED:
        return [row.fault, row.end, limit, f"not run: {SKIPPED[row.fault]}", "", "", "", row.way_out]
    kept = before[3:7] if len(before) == 8 else ["not measured", "", "", ""]
    return [row.fault, row.end, limit, *kept, row.way_out]
