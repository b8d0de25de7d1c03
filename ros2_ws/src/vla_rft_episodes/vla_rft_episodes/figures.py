"""What can be measured in the arrays of one attempt: gaps, repeats, skew, idling, jerk, tracking. Pure numpy.

Knows nothing of files or limits; what the figures mean for an episode is said in `verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import NS_PER_S, seconds

Array = NDArray[np.float64]
Stamps = NDArray[np.int64]

_LATE = 1.5
"""A message later than this many periods after the one before: something between them is missing."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Sent and measured, one row per robot state (N rows, in order of their stamps)."""

    stamps_ns: Stamps
    """(N,) time of measurement."""
    sent: Array
    """(N, 7) position [m] and quaternion xyzw of the set-point in force, in base."""
    sent_widths: Array
    """(N,) [m]"""
    measured: Array
    """(N, 7) position [m] and quaternion xyzw of the tcp, in base."""
    widths: Array
    """(N,) measured opening between the fingers [m]."""

    def __len__(self) -> int:
        return len(self.stamps_ns)


@dataclass(frozen=True)
class Gaps:
    """Silences of a stream that should be regular."""

    missing: int
    """Messages that would have filled the gaps."""
    longest_s: float
    """Longest time between two messages [s]."""


def gaps(stamps_ns: Stamps, hz: float) -> Gaps:
    """What is missing between the first and the last of these stamps, at a nominal rate of `hz`."""
    steps = np.diff(np.sort(stamps_ns)) / NS_PER_S
    if not len(steps):
        return Gaps(0, 0.0)
    late = steps[steps * hz > _LATE]
    return Gaps(int(np.sum(np.rint(late * hz) - 1)), float(steps.max()))


def backward_steps(stamps_ns: Stamps) -> int:
    """How many messages are stamped earlier than the one before, in the order in which they came."""
    return int(np.sum(np.diff(stamps_ns) < 0))


def repeated_stamps(stamps_ns: Stamps) -> int:
    """How many messages are stamped like the one before: the device had nothing newer to say."""
    return int(np.sum(np.diff(stamps_ns) == 0))


def longest_repeat_s(stamps_ns: Stamps, repeats: NDArray[np.bool_]) -> float:
    """Longest time for which a picture stood still [s]; `repeats` (N,) says which equal the one before."""
    longest, start = 0, 0
    for index in range(1, len(stamps_ns)):
        if repeats[index]:
            longest = max(longest, int(stamps_ns[index] - stamps_ns[start]))
        else:
            start = index
    return seconds(longest)


def skews_s(stamps_ns: Stamps, reference_ns: Stamps) -> Array:
    """(N,) distance of each stamp to the nearest one of another stream [s]; both hold at least one."""
    reference = np.sort(reference_ns)
    after = np.clip(np.searchsorted(reference, stamps_ns), 1, max(1, len(reference) - 1))
    before = np.abs(stamps_ns - reference[after - 1])
    behind = np.abs(stamps_ns - reference[np.minimum(after, len(reference) - 1)])
    return np.minimum(before, behind) / NS_PER_S


@dataclass(frozen=True)
class StillSpeeds:
    """Slower than all of these is idle."""

    linear: float
    """[m/s]"""
    angular: float
    """[rad/s]"""
    width: float
    """[m/s]"""


@dataclass(frozen=True)
class Idle:
    """How much of the time nothing was asked of the arm and the fingers stood."""

    share: float
    """0 to 1."""
    longest_s: float


def idle(motion: Motion, still: StillSpeeds, *, period_s: float) -> Idle:
    """Idle time in steps of the control period: the set-point stands and the measured width does not change."""
    rows = _rows_every(motion.stamps_ns, period_s)
    if len(rows) < 2:
        return Idle(1.0, 0.0)
    steps = np.diff(motion.stamps_ns[rows]) / NS_PER_S
    moved = np.linalg.norm(np.diff(motion.sent[rows, :3], axis=0), axis=1) > still.linear * steps
    turned = _angles(motion.sent[rows[:-1], 3:], motion.sent[rows[1:], 3:]) > still.angular * steps
    gripped = np.abs(np.diff(motion.widths[rows])) > still.width * steps
    standing = ~(moved | turned | gripped)
    longest, run = 0.0, 0.0
    for stands, step in zip(standing, steps, strict=True):
        run = run + step if stands else 0.0
        longest = max(longest, run)
    return Idle(float(steps[standing].sum() / steps.sum()), float(longest))


@dataclass(frozen=True)
class Jerk:
    """Third derivative of the sent position, sampled at the control period as a policy would learn it."""

    mean: float
    """[m/s^3] over the whole attempt"""
    peak: float
    """[m/s^3]"""


def jerk(motion: Motion, *, period_s: float) -> Jerk:
    """Jerk of the sent path; zero for attempts shorter than four periods."""
    rows = _rows_every(motion.stamps_ns, period_s)
    if len(rows) < 4:
        return Jerk(0.0, 0.0)
    values = np.linalg.norm(np.diff(motion.sent[rows, :3], n=3, axis=0), axis=1) / period_s**3
    return Jerk(float(values.mean()), float(values.max()))


@dataclass(frozen=True)
class Tracking:
    """How far the arm was from where it was sent, once its delay is taken out."""

    lag_s: float
    """The delay that explains the measured path best [s]."""
    p95_m: float
    """95 % of the time the arm was nearer than this to where it was sent `lag_s` earlier [m]."""


def tracking(motion: Motion, *, longest_lag_s: float) -> Tracking:
    """Measured against sent positions, by the best lag on a grid of the states' own mean period."""
    if len(motion) < 2 or motion.stamps_ns[-1] <= motion.stamps_ns[0]:
        return Tracking(0.0, 0.0)
    times = (motion.stamps_ns - motion.stamps_ns[0]) / NS_PER_S
    step = float(times[-1] / (len(times) - 1))
    grid = np.arange(0.0, times[-1], step)
    sent = _resampled(grid, times, motion.sent[:, :3])
    measured = _resampled(grid, times, motion.measured[:, :3])
    best = Tracking(0.0, float("inf"))
    smallest = float("inf")
    for delay in range(min(len(grid), round(longest_lag_s / step) + 1)):
        errors = np.linalg.norm(measured[delay:] - sent[: len(grid) - delay], axis=1)
        mean = float(np.mean(errors))
        if mean < smallest:
            smallest, best = mean, Tracking(delay * step, float(np.percentile(errors, 95)))
    return best


def first_closing(motion: Motion, *, closed_width: float) -> int | None:
    """Row at which the measured width first falls below `closed_width` [m]; None when it never does."""
    closings = np.flatnonzero((motion.widths[:-1] >= closed_width) & (motion.widths[1:] < closed_width))
    return int(closings[0]) + 1 if len(closings) else None


def _rows_every(stamps_ns: Stamps, period_s: float) -> NDArray[np.int64]:
    """Of a grid of this period the newest row at or before each of its times."""
    if not len(stamps_ns):
        return np.empty(0, np.int64)
    times = np.arange(stamps_ns[0], stamps_ns[-1] + 1, round(period_s * NS_PER_S))
    return np.searchsorted(stamps_ns, times, side="right") - 1


def _resampled(grid: Array, times: Array, values: Array) -> Array:
    return np.column_stack([np.interp(grid, times, column) for column in values.T])


def _angles(a: Array, b: Array) -> Array:
    """(N,) angles between unit quaternions [rad]."""
    chord = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return 4.0 * np.arcsin(np.minimum(1.0, 0.5 * chord))
