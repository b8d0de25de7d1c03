"""The robot's clock in the host's time, without asking it: the fastest of many readings shows the offset.

A stamp of the robot is read some time after it was made, never before; so the smallest difference between the time of
reading and the stamp is the offset plus the shortest delay. Knows nothing of a vendor's library.
"""

from __future__ import annotations

from vla_rft_core.clock import NS_PER_S, Clock

WINDOW_NS = 10 * NS_PER_S
"""Half of what the minimum runs over: long enough for a fast reading, short enough to follow two drifting clocks."""


SLACK_NS = 20_000_000
"""What maps to so little before the last stamp is put behind it; more is the host's clock being set: not hidden."""


class RobotClock:
    """Maps the robot's stamps to CLOCK_REALTIME of the host. Not thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ns: int | None = None
        self._last_stamp_ns = 0
        self._smallest_ns: int | None = None  # of the present window
        self._before_ns: int | None = None  # of the window before
        self._window_from_ns = 0

    def stamp_ns(self, robot_ns: int) -> int:
        """When, in host time, the robot made what was read just now; never later than now.

        A reading that is no newer than the last one keeps its stamp and teaches nothing: an old stamp stays old. A
        newer one has a later stamp, even when a faster reading has just shown the offset to be smaller.
        """
        now_ns = self._clock.monotonic_ns()
        to_realtime_ns = self._clock.realtime_ns() - now_ns
        offset_ns = now_ns - robot_ns
        if robot_ns != self._last_ns:
            self._learn(offset_ns, now_ns)
        stamp_ns = robot_ns + self._offset_ns(offset_ns) + to_realtime_ns
        if self._last_ns is not None and abs(self._last_stamp_ns - stamp_ns) < SLACK_NS:
            if robot_ns == self._last_ns:
                return self._last_stamp_ns
            if robot_ns > self._last_ns:
                stamp_ns = max(stamp_ns, self._last_stamp_ns + 1)
        self._last_ns, self._last_stamp_ns = robot_ns, stamp_ns
        return stamp_ns

    def offset_s(self) -> float:
        """Host's CLOCK_REALTIME minus the robot's clock [s], with the shortest delay in it; 0 before any reading."""
        if self._smallest_ns is None:
            return 0.0
        to_realtime_ns = self._clock.realtime_ns() - self._clock.monotonic_ns()
        return (self._offset_ns(self._smallest_ns) + to_realtime_ns) / NS_PER_S

    def _learn(self, offset_ns: int, now_ns: int) -> None:
        if self._smallest_ns is None or now_ns - self._window_from_ns >= WINDOW_NS:
            self._before_ns, self._smallest_ns = self._smallest_ns, offset_ns
            self._window_from_ns = now_ns
        self._smallest_ns = min(self._smallest_ns, offset_ns)

    def _offset_ns(self, now_ns: int) -> int:
        return min(offset for offset in (self._smallest_ns, self._before_ns, now_ns) if offset is not None)
