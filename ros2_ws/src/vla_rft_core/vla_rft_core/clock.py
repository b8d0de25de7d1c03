"""Time as the system uses it: integer nanoseconds, two clocks, and the check that they agree.

Stamps (what is recorded and compared across processes) are CLOCK_REALTIME; ages and deadlines are CLOCK_MONOTONIC.
Core code never reads a clock itself: it takes a `Clock`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

NS_PER_S = 1_000_000_000
MAX_CLOCK_STEP_NS = 50_000_000
"""A jump of realtime against monotonic beyond this latches hold (design: 50 ms)."""


def seconds(duration_ns: int) -> float:
    """Nanoseconds as float seconds."""
    return duration_ns / NS_PER_S


def nanoseconds(duration_s: float) -> int:
    """Float seconds as whole nanoseconds."""
    return round(duration_s * NS_PER_S)


class Clock(Protocol):
    """Two readings of the same instant's time."""

    def realtime_ns(self) -> int:
        """Stamp: nanoseconds since the epoch; may jump when the host's clock is set."""

    def monotonic_ns(self) -> int:
        """For ages and deadlines: never jumps; its zero means nothing."""


class SystemClock:
    """The host's clocks."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME [ns]."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC [ns]."""
        return time.monotonic_ns()


@dataclass
class ManualClock:
    """A clock that moves when told: simulated time, and tests. Both readings advance together."""

    now_ns: int = NS_PER_S
    realtime_offset_ns: int = 0

    def realtime_ns(self) -> int:
        """The manual time as a stamp [ns]."""
        return self.now_ns + self.realtime_offset_ns

    def monotonic_ns(self) -> int:
        """The manual time [ns]."""
        return self.now_ns

    def advance(self, duration_ns: int) -> None:
        """Move forward by `duration_ns` >= 0."""
        if duration_ns < 0:
            raise ValueError(f"time moves forward only, got {duration_ns} ns")
        self.now_ns += duration_ns


@dataclass
class ClockJumpDetector:
    """Sees the host's realtime clock being set: its offset to the monotonic clock changes by more than `limit_ns`.

    Compares with the reading before, so that slow slewing (NTP, <= 500 ppm) is no jump. Where the process stood still
    between the two clocks they cannot be compared: the next reading tells.
    """

    clock: Clock
    limit_ns: int = MAX_CLOCK_STEP_NS
    _offset_ns: int | None = field(default=None, init=False)

    def check(self) -> int:
        """The jump in ns since the last call when it exceeds the limit, else 0."""
        before_ns = self.clock.monotonic_ns()
        realtime_ns = self.clock.realtime_ns()
        after_ns = self.clock.monotonic_ns()
        if after_ns - before_ns > self.limit_ns // 10:
            return 0
        offset_ns = realtime_ns - after_ns
        last, self._offset_ns = self._offset_ns, offset_ns
        if last is None or abs(offset_ns - last) <= self.limit_ns:
            return 0
        return offset_ns - last
