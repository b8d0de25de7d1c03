"""The arm's state in an operator's words: a headline to be read from two metres, what it means, what to do.

Pure: from what was heard to what is shown. A tone never stands without its words and its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

STATUS_OLD_S = 1.0
"""robot_node speaks at 10 Hz: a status older than this says nothing about now [s]."""


class Tone(StrEnum):
    """How a thing is to be taken; each has a colour and a shape on the page."""

    CALM = "calm"
    """Nothing can move."""
    GOOD = "good"
    """Ready, waiting."""
    MOVING = "moving"
    """The arm moves or may move at any moment."""
    HELD = "held"
    """Stopped, and a person is needed."""
    LOST = "lost"
    """Nothing is known."""


@dataclass(frozen=True)
class Words:
    """Example: Words("HELD", "camera: 'front' silent for 0.61 s", "Put it right, then re-arm.", Tone.HELD)."""

    headline: str
    detail: str
    todo: str
    tone: Tone


MOVERS = {
    "policy": "the policy moves the arm",
    "teleop": "the teleoperation device moves the arm",
    "replay": "a recorded demonstration moves the arm",
    "home": "the arm is on its way home",
}


def arm_words(*, mode: str, source: str, reason: str, age_s: float, mover: str = "") -> Words:
    """From the newest SafetyStatus; `age_s` since it was heard, infinite when it never was; `mover` by name."""
    if not age_s <= STATUS_OLD_S:
        heard = f"last heard {age_s:.0f} s ago" if math.isfinite(age_s) else "nothing heard of it yet"
        return Words(
            "ARM UNKNOWN", f"robot_node is silent: {heard}", "Take it for moving. Is the cell running?", Tone.LOST
        )
    if mode == "MAINTENANCE":
        return Words(
            "STANDING", "maintenance: connected, nothing can move", "Make ready to release the brakes.", Tone.CALM
        )
    if mode == "READY":
        return Words("READY", "standing; nobody moves the arm", "", Tone.GOOD)
    if mode == "ACTIVE":
        detail = f"{mover} moves the arm" if mover else MOVERS.get(source, f"{source} moves the arm")
        return Words("MOVING", detail, "Keep clear.", Tone.MOVING)
    if mode == "HOLD_LATCHED":
        return Words("HELD", reason or "no reason was given", "Put it right, then re-arm at the cell.", Tone.HELD)
    return Words("ARM UNKNOWN", f"robot_node reports the mode {mode!r}", "Take it for moving.", Tone.LOST)


def disk_words(minutes: float | None) -> str:
    """How long the disk lasts; "" when nothing is known yet."""
    if minutes is None or not math.isfinite(minutes) or minutes <= 0.0:
        return ""
    return f"{minutes:.0f} min" if minutes < 600.0 else f"{minutes / 60.0:.0f} h"


def doctor_words(red: int, yellow: int, green: int) -> str:
    """The doctor's result in one line."""
    said = [f"{red} wrong" if red else "", f"{yellow} worth knowing" if yellow else "", f"{green} fine"]
    return " · ".join(part for part in said if part)
