"""Clocks: conversions, simulated time, and the host's clock being set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core.clock import ClockJumpDetector, ManualClock, SystemClock, nanoseconds, seconds

MS = 1_000_000


@given(st.integers(-(10**15), 10**15))
def test_seconds_and_nanoseconds_are_inverse(duration_ns: int) -> None:
    assert abs(nanoseconds(seconds(duration_ns)) - duration_ns) <= 1


def test_manual_clock_moves_forward_only() -> None:
    clock = ManualClock(now_ns=5, realtime_offset_ns=100)
    clock.advance(10)
    assert (clock.monotonic_ns(), clock.realtime_ns()) == (15, 115)
    with pytest.raises(ValueError, match="forward only, got -1 ns"):
        clock.advance(-1)


@pytest.mark.parametrize(
    ("jump_ms", "seen_ms"), [(0, 0), (50, 0), (-50, 0), (51, 51), (-51, -51), (3_600_000, 3_600_000)]
)
def test_a_jump_beyond_50_ms_is_seen_once(jump_ms: int, seen_ms: int) -> None:
    clock = ManualClock()
    detector = ClockJumpDetector(clock)
    assert detector.check() == 0
    clock.advance(10 * MS)
    clock.realtime_offset_ns += jump_ms * MS
    assert detector.check() == seen_ms * MS
    assert detector.check() == 0


def test_slow_slewing_is_no_jump() -> None:
    clock = ManualClock()
    detector = ClockJumpDetector(clock)
    for _ in range(1000):  # 500 ppm at 10 Hz
        clock.advance(100 * MS)
        clock.realtime_offset_ns += 50_000
        assert detector.check() == 0
    assert clock.realtime_offset_ns == 50 * MS


class StallingClock(ManualClock):
    """Stands still for the scripted times between two readings, as a process does that is not scheduled."""

    stalls_ns: Iterator[int] = repeat(0)

    def monotonic_ns(self) -> int:
        now_ns = super().monotonic_ns()
        self.advance(next(self.stalls_ns))
        return now_ns


def test_standing_still_between_the_two_clocks_is_no_jump() -> None:
    clock = StallingClock()
    detector = ClockJumpDetector(clock)
    assert detector.check() == 0
    clock.stalls_ns = chain([3000 * MS], repeat(0))
    assert [detector.check() for _ in range(3)] == [0, 0, 0]


def test_a_jump_during_a_stall_is_seen_afterwards() -> None:
    clock = StallingClock()
    detector = ClockJumpDetector(clock)
    assert detector.check() == 0
    clock.stalls_ns = chain([3000 * MS], repeat(0))
    clock.realtime_offset_ns -= 200 * MS
    assert [detector.check() for _ in range(3)] == [0, -200 * MS, 0]


def test_system_clock_reads_epoch_and_goes_forward() -> None:
    clock = SystemClock()
    assert clock.realtime_ns() > 1_700_000_000 * 10**9
    assert clock.monotonic_ns() <= clock.monotonic_ns()
