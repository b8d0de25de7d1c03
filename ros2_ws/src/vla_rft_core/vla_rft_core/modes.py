"""The mode state machine: MAINTENANCE -> READY -> ACTIVE(source) -> HOLD_LATCHED, one lease at a time.

    MAINTENANCE --ready--> READY --activate(source)--> ACTIVE --release--> READY
    READY, ACTIVE --latch(reason)--> HOLD_LATCHED --rearm(origin)--> READY     READY, ACTIVE --maintain--> MAINTENANCE

A latched hold is left by `rearm` alone. Teleoperation may take the lease from a policy or a replay; nobody else may.
Pure logic: preparing devices and stopping the arm is its owner's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from vla_rft_core.errors import ModeError
from vla_rft_core.types import Source


class Mode(StrEnum):
    """What the arm may do."""

    MAINTENANCE = "MAINTENANCE"
    READY = "READY"
    ACTIVE = "ACTIVE"
    HOLD_LATCHED = "HOLD_LATCHED"


REARM_ORIGINS = ("terminal", "pedal", "loopback")
"""Where a person re-arms from: next to the robot, never a remote page."""

TAKEOVER = {Source.TELEOP: (Source.POLICY, Source.REPLAY)}
"""Who may take the lease from whom."""


@dataclass
class ModeMachine:
    """The present mode, the lease and the reason of a latched hold. Not thread-safe."""

    mode: Mode = field(default=Mode.MAINTENANCE, init=False)
    source: Source | None = field(default=None, init=False)
    """Who holds the lease; None unless ACTIVE."""
    reason: str = field(default="", init=False)
    """Why the hold is latched; empty otherwise."""
    interventions: int = field(default=0, init=False)
    """How often teleoperation took the lease from another source."""

    def ready(self) -> None:
        """The devices are prepared: wait for a source. From MAINTENANCE; from ACTIVE use `release`."""
        if self.mode not in (Mode.MAINTENANCE, Mode.READY):
            raise ModeError(f"READY cannot be entered from {self._describe()}{self._way_out()}")
        self.mode = Mode.READY

    def activate(self, source: Source) -> None:
        """Give the lease to `source`; ModeError when the arm is not ready or another source holds it."""
        if self.mode is Mode.ACTIVE and self.source is not None and source is not self.source:
            if self.source not in TAKEOVER.get(source, ()):
                raise ModeError(f"{source} cannot become active: {self.source} holds the lease")
            self.interventions += 1
        elif self.mode not in (Mode.READY, Mode.ACTIVE):
            raise ModeError(f"{source} cannot become active from {self._describe()}{self._way_out()}")
        self.mode, self.source = Mode.ACTIVE, source

    def release(self) -> None:
        """The holder gives the lease back."""
        if self.mode is Mode.ACTIVE:
            self.mode, self.source = Mode.READY, None

    def maintain(self) -> None:
        """Back to MAINTENANCE: nothing moves. Not out of a latched hold."""
        if self.mode is Mode.HOLD_LATCHED:
            raise ModeError(f"MAINTENANCE cannot be entered from {self._describe()}{self._way_out()}")
        self.mode, self.source = Mode.MAINTENANCE, None

    def latch(self, reason: str) -> bool:
        """Latch a hold; the first reason is kept. False when it changes nothing (latched before, or in MAINTENANCE)."""
        if self.mode in (Mode.HOLD_LATCHED, Mode.MAINTENANCE):
            return False
        self.mode, self.source, self.reason = Mode.HOLD_LATCHED, None, reason
        return True

    def rearm(self, origin: str) -> None:
        """Leave a latched hold for READY; motion still waits for a source to become active."""
        if self.mode is not Mode.HOLD_LATCHED:
            raise ModeError(f"nothing to re-arm: the mode is {self._describe()}")
        if origin not in REARM_ORIGINS:
            raise ModeError(f"re-arming from {origin!r} is refused; allowed: {', '.join(REARM_ORIGINS)}")
        self.mode, self.reason = Mode.READY, ""

    def _describe(self) -> str:
        if self.mode is Mode.ACTIVE:
            return f"ACTIVE({self.source})"
        return f"HOLD_LATCHED ({self.reason})" if self.mode is Mode.HOLD_LATCHED else str(self.mode)

    def _way_out(self) -> str:
        return {
            Mode.HOLD_LATCHED: "; re-arm first",
            Mode.MAINTENANCE: "; set the mode READY first",
            Mode.ACTIVE: "; release the lease first",
            Mode.READY: "",
        }[self.mode]
