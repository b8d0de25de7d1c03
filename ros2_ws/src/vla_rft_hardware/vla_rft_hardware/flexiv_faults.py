"""What the arm's operational status means and what is done about it: one table, one row per status.

Pure data and look-ups; the driver acts on it, the doctor and the documentation print it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Response(StrEnum):
    """Who gets the arm out of a status."""

    NONE = "none"
    RECOVER = "auto-recover"
    """`prepare` clears or enables by itself; it runs when an operator asks for READY, never before."""
    WAIT = "wait"
    """It passes by itself within the deadline."""
    LOCKOUT = "lockout"
    """A person must release the emergency stop; nothing is tried until then."""
    OPERATOR = "operator"
    """A person must do something at the arm or in its settings."""
    RECONNECT = "reconnect"
    """`prepare` connects anew, with a back-off."""


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """One status and its treatment. Whatever it was, motion then waits for READY, Rearm and a source."""

    status: str
    """The vendor's name of the operational status; DISCONNECTED is ours."""
    response: Response
    deadline_s: float
    """How long the response may take before `prepare` gives up; 0 where nothing is tried."""
    meaning: str
    action: str
    """What a person does, when the response is not enough."""

    def sentence(self) -> str:
        """Status, meaning and what to do, for an operator."""
        return f"{self.meaning} ({self.status}): {self.action}"


CLEAR_S, FAULT_GONE_S, ENABLE_S, OPERATIONAL_S = 30.0, 5.0, 5.0, 20.0
"""Deadlines of clearing a fault, seeing it gone, seeing the enable command taken, and becoming operational [s]."""
RECONNECT_BACKOFF_S = 5.0
"""Least time between two attempts to connect: a booting controller that is asked too often may never finish."""

DISCONNECTED = "DISCONNECTED"
NO_FAULTS = ("NOT_ENABLED", "RELEASING_BRAKE", "BOOTING")
"""Statuses on the way to READY: not operational, and nothing wrong."""

FAULT_TABLE = (
    FaultRow(
        status="READY",
        response=Response.NONE,
        deadline_s=0.0,
        meaning="the arm is operational",
        action="nothing to do",
    ),
    FaultRow(
        status="NOT_ENABLED",
        response=Response.RECOVER,
        deadline_s=ENABLE_S,
        meaning="the arm is not enabled, its brakes are engaged",
        action="ask for READY again; if it stays, look for messages in Elements",
    ),
    FaultRow(
        status="RELEASING_BRAKE",
        response=Response.WAIT,
        deadline_s=OPERATIONAL_S,
        meaning="the arm is releasing its brakes",
        action="wait a few seconds",
    ),
    FaultRow(
        status="BOOTING",
        response=Response.WAIT,
        deadline_s=OPERATIONAL_S,
        meaning="the controller is booting",
        action="wait until it has booted and ask for READY again",
    ),
    FaultRow(
        status="MINOR_FAULT",
        response=Response.RECOVER,
        deadline_s=CLEAR_S,
        meaning="the arm has a minor fault",
        action="remove its cause and ask for READY, which clears it",
    ),
    FaultRow(
        status="CRITICAL_FAULT",
        response=Response.RECOVER,
        deadline_s=CLEAR_S,
        meaning="the arm has a critical fault",
        action="remove its cause and ask for READY, which tries to clear it; if it stays, power-cycle the controller",
    ),
    FaultRow(
        status="ESTOP_NOT_RELEASED",
        response=Response.LOCKOUT,
        deadline_s=0.0,
        meaning="the emergency stop is pressed",
        action="make sure that nobody is in reach of the arm, release it and ask for READY",
    ),
    FaultRow(
        status="IN_REDUCED_STATE",
        response=Response.OPERATOR,
        deadline_s=0.0,
        meaning="the arm is in reduced state",
        action="restore the safety input or bring the tcp back behind the safety planes, then ask for READY",
    ),
    FaultRow(
        status="IN_RECOVERY_STATE",
        response=Response.OPERATOR,
        deadline_s=0.0,
        meaning="a joint is outside its allowed range",
        action="run the automatic recovery in Elements, then reboot the control box",
    ),
    FaultRow(
        status="IN_MANUAL_MODE",
        response=Response.OPERATOR,
        deadline_s=0.0,
        meaning="the arm is in manual mode",
        action="switch it to Auto (Remote) in Elements and ask for READY",
    ),
    FaultRow(
        status="IN_AUTO_MODE",
        response=Response.OPERATOR,
        deadline_s=0.0,
        meaning="the arm is in auto mode without remote control",
        action="switch it to Auto (Remote) in Elements and ask for READY",
    ),
    FaultRow(
        status="UNKNOWN",
        response=Response.WAIT,
        deadline_s=FAULT_GONE_S,
        meaning="the arm does not tell its status",
        action="look for messages in Elements; reboot the control box if it stays so",
    ),
    FaultRow(
        status=DISCONNECTED,
        response=Response.RECONNECT,
        deadline_s=RECONNECT_BACKOFF_S,
        meaning="the connection to the arm is lost",
        action="check the cable and the control box, then ask for READY, which connects anew",
    ),
)

_ROWS = {row.status: row for row in FAULT_TABLE}


def fault_row(status: str) -> FaultRow:
    """The row of a status; one that is not in the table is left to the operator under its own name."""
    row = _ROWS.get(status)
    if row is not None:
        return row
    unknown = _ROWS["UNKNOWN"]
    return FaultRow(
        status=status,
        response=Response.OPERATOR,
        deadline_s=0.0,
        meaning="the arm tells a status that this driver does not know",
        action=unknown.action,
    )


def markdown() -> str:
    """The table for the documentation."""
    lines = ["| status | meaning | response | deadline | what a person does |", "|---|---|---|---|---|"]
    for row in FAULT_TABLE:
        deadline = f"{row.deadline_s:g} s" if row.deadline_s else "–"
        lines.append(f"| {row.status} | {row.meaning} | {row.response} | {deadline} | {row.action} |")
    return "\n".join(lines) + "\n"
