"""Referee: says when a trial in simulation is over and how it went, from the truth; a person does it at a real table.

Fed once per look, by whoever runs the trial. It knows the towel's truth only as far as it is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_rft_trials.protocol import Protocol
from vla_rft_trials.records import Outcome, Termination
from vla_rft_trials.running import Ending

LABEL = "simulator"
"""Who labels trials in simulation."""
CLOSED_M = 0.02
"""Fingers asked to be closer than this [m] are meant to hold."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is to be seen at one moment."""

    seconds: float
    """Since the trial began [s]."""
    success: bool
    """Every condition of success holds now."""
    grasped: bool
    """The fingers hold the object."""
    wanted_width: float
    """What the fingers are asked for [m]."""
    idle: bool
    """Nothing drives the arm any more."""
    hold: str = ""
    """Why a hold is latched; empty when none is."""


class Referee:
    """One trial. `look` returns None while it goes on."""

    def __init__(self, protocol: Protocol) -> None:
        self._limit_s, self._hold_s = protocol.time_limit_s, protocol.success_hold_s
        self._modes = protocol.failure_modes
        self._success_since: float | None = None
        self._idle_since: float | None = None
        self._grasped = self._dropped = False

    def look(self, look: Look) -> Ending | None:
        """How the trial ended, if it just did."""
        self._follow_grasp(look)
        now = look.seconds
        self._success_since = (now if self._success_since is None else self._success_since) if look.success else None
        self._idle_since = (now if self._idle_since is None else self._idle_since) if look.idle else None
        if self._success_since is not None and now - self._success_since >= self._hold_s:
            # The towel was folded when success began, not when it had lasted.
            return self._ending(Outcome.SUCCESS, Termination.SUCCESS_HELD, self._success_since)
        if look.hold:
            return self._ending(Outcome.VOID, Termination.SAFETY_HOLD, now, note=look.hold)
        if now >= self._limit_s:
            return self._ending(Outcome.FAILURE, Termination.TIME_LIMIT, now, mode=self._mode("time-out"))
        if self._idle_since is not None and self._success_since is None and now - self._idle_since > self._hold_s:
            return self._ending(Outcome.FAILURE, Termination.SOURCE_DONE, now, mode=self._mode("poor grasp"))
        return None

    def _follow_grasp(self, look: Look) -> None:
        self._dropped |= self._grasped and not look.grasped and look.wanted_width < CLOSED_M
        self._grasped |= look.grasped

    def _mode(self, held: str) -> str:
        """The failure mode when the object was taken and not lost; the more telling one otherwise."""
        mode = "no grasp" if not self._grasped else "drop" if self._dropped else held
        return mode if mode in self._modes else ""

    def _ending(
        self, outcome: Outcome, termination: Termination, seconds: float, *, mode: str = "", note: str = ""
    ) -> Ending:
        return Ending(
            outcome=outcome, termination=termination, seconds=seconds, failure_mode=mode, note=note, labelled_by=LABEL
        )
