"""The rows of the second table of `docs/faults.md`: what is broken in a running trial, and how that has to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest
from arm_watch import REST_WITHIN_S
from fault_pairs import pairs
from fault_tables import DOCUMENT, head_of, line_of, rows_of, table_of

TABLE = "graph"
HELD, GOES_ON = "HOLD_LATCHED", "the trial goes on"
NO_RECORD = "nothing is recorded"
REARM = "`Rearm` (→ READY)"
PREPARE = "`Rearm` (→ MAINTENANCE), `SetMode(READY)`"
VOID_HOLD, VOID_DEVICE = r"trial void \(safety_hold\)", r"trial void \(device_fault\)"
ENDED = r"trial (success|failure) \((success_held|operator_stop|source_done)\)"
WHOLE, CUT = ", episode whole", ", episode cut short, repaired"


@dataclass(frozen=True, kw_only=True)
class GraphRow:
    """One fault: where it must end, within what time, what is left on disk, what is said, and the way out."""

    fault: str
    end: str
    limit_s: float
    """From the fault to the end state: the time-outs on the way there, and a margin for a busy computer."""
    disk: str = NO_RECORD
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
    disk: str = NO_RECORD
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
        killed=r"trial (open|void \(interrupted\))" + WHOLE,
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
]

NOTHING_LATCHED = "nothing is latched"
CONSOLE = [
    *_of_node(
        "console_node",
        end=GOES_ON,
        limit_s=1.5,
        word="HOLD cannot be sent: use the e-stop",
        killed=ENDED + WHOLE,
        frozen=ENDED + WHOLE,
        way_out=f"{NOTHING_LATCHED}; HOLD is the terminal's and the e-stop's meanwhile",
    ),
    GraphRow(
        fault="console closed by its operator",
        end=GOES_ON + "; the page's control is free again",
        limit_s=10.0,
        disk=ENDED + WHOLE,
        word="nobody has control",
        way_out="open the page again and take control; " + NOTHING_LATCHED,
    ),
]

NOT_NEXT = GOES_ON + "; no next one starts"
CAMERAS = [
    GraphRow(
        fault="camera_slow",
        end=NOT_NEXT,
        limit_s=5.0,
        disk=ENDED + WHOLE,
        word="pictures per second come, the spec says 15",
        way_out="look at cable, port and load; " + NOTHING_LATCHED,
    ),
    GraphRow(
        fault="camera_overexposed",
        end=NOT_NEXT,
        limit_s=2.5,
        disk=ENDED + WHOLE,
        word="the picture is too bright",
        way_out="lens and light; camera_node, started again, finds its exposure anew; " + NOTHING_LATCHED,
    ),
]

DISK = GraphRow(
    fault="disk full",
    end=HELD,
    limit_s=4.0,
    disk=VOID_HOLD + CUT,
    word="recorder_node: .*episode.mcap",
    way_out="free space; " + REARM,
)
MEMORY = GraphRow(
    fault="camera_node at its memory limit",
    end=HELD,
    limit_s=4.0,
    disk=VOID_HOLD + WHOLE,
    word="camera_node silent|camera: 'front' silent",
    way_out="give it more memory and start camera_node again; " + REARM,
)

PLAYED_OUT_S = 1.3
"""A policy's last good chunk is 0.8 s long and kept for 0.2 s; and 0.3 s for a busy computer."""
POLICIES = [
    *_of_node("policy_node", limit_s=0.6, word="heartbeat: policy_node silent", killed=NO_RECORD, frozen=NO_RECORD),
    GraphRow(
        fault="policy answers NaN",
        end=HELD,
        limit_s=PLAYED_OUT_S,
        word="policy silent.*answer is not finite",
        way_out="another bundle; " + REARM,
    ),
    GraphRow(
        fault="policy 2 s late",
        end=HELD,
        limit_s=PLAYED_OUT_S,
        word="policy silent.*no chunk",
        way_out="what makes it slow, or a smaller network; " + REARM,
    ),
]
BUNDLE = GraphRow(
    fault="bundle altered",
    end="policy_node, started, ends with exit 1; nothing moves",
    limit_s=20.0,
    word="spec.yaml: was altered",
    way_out="copy the bundle again, or make it anew",
)
TYPO = GraphRow(
    fault="typo in a parameter file",
    end="each node, started, ends with exit 1; nothing moves",
    limit_s=20.0,
    word="did you mean",
    way_out="correct the name",
)

CLOCKS = [
    GraphRow(
        fault=f"clock of {node} {jump} s",
        end=HELD,
        limit_s=0.5,
        word=rf"clock: the host's time jumped by \{jump[0]}[45]\.|state: robot state is",
        way_out=REARM,
    )
    for node in ("robot_node", "watchdog_node")
    for jump in ("+5", "-5")
]
SOURCE_CLOCKS = [
    GraphRow(
        fault=f"clock of teleop_node {jump} s",
        end="every chunk is rejected; a hold that is not latched",
        limit_s=0.8,
        word=word,
        way_out="set the clock; `SetMode(READY)`",
    )
    for jump, word in (("+5", "future"), ("-5", "stale"))
]
NETWORK = [
    GraphRow(
        fault="DDS cut for 3 s",
        end=STOPPED.format("HOLD_LATCHED"),
        limit_s=0.8,
        word="watchdog: silent|state|robot_node is silent",
        way_out=PREPARE,
    ),
    GraphRow(
        fault="DDS cut for 25 s",
        end=STOPPED.format("HOLD_LATCHED"),
        limit_s=0.8,
        word="watchdog: silent|state|robot_node is silent",
        way_out=PREPARE,
    ),
]
PAIRS = [
    GraphRow(
        fault=pair.name,
        end="at rest within the limit, and until `Rearm` or `SetMode(READY)`",
        limit_s=round(pair.limit_s + REST_WITHIN_S, 1),
        disk="trial (open|void)",
        word=".",
        way_out="what each of the two asks for",
    )
    for pair in pairs()
]
ROWS = [
    *(*NODES, *CONSOLE, *CAMERAS, DISK, MEMORY, *POLICIES, BUNDLE, TYPO, *CLOCKS, *SOURCE_CLOCKS),
    *(*NETWORK, *PAIRS),
]
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
        *("fault", "end state", "limit", "found here", "arm's last motion"),
        *("on disk", "what the operator is told", "way out"),
    )
    return text + "".join(line_of(*_cells(row, before.get(row.fault, []))) for row in ROWS)


def _cells(row: GraphRow, before: list[str]) -> list[str]:
    limit = f"{row.limit_s:g} s"
    if seen := SEEN.get(row.fault):
        rest = "goes on" if seen.rest_s is None else f"{seen.rest_s:.2f} s"
        found = f"{seen.end_s:.2f} s ({date.today()})"
        return [row.fault, row.end, limit, found, rest, seen.disk, seen.told, row.way_out]
    if row.fault in SKIPPED:
        return [row.fault, row.end, limit, f"not run: {SKIPPED[row.fault]}", "", "", "", row.way_out]
    kept = before[3:7] if len(before) == 8 else ["not measured", "", "", ""]
    return [row.fault, row.end, limit, *kept, row.way_out]
