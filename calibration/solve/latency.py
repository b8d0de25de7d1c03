"""How much later something is seen or done: the lag at which two recordings of one motion agree best.

For every lag, the later signal is explained by the earlier one, shifted, through a linear map (so pixels can be
explained by metres); the share explained is the squared cross-correlation, generalised to several dimensions. Its peak
is refined by a parabola; the uncertainty comes from leaving out one stretch of time after the other (jackknife).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.errors import DegenerateError
from vla_rft_core.geometry import Array

STEP_S = 0.002
_BLOCKS = 8
_MIN_SAMPLES = 30
MIN_SHARE = 0.9
"""Of the motion that must be explained at the best lag."""


@dataclass(frozen=True, eq=False)
class Lag:
    """A lag [s], its standard error, and how it was found."""

    seconds: float
    std: float
    share: float
    """Explained at the best lag, 0 to 1."""
    lags: Array
    """(L,) tried [s]."""
    shares: Array
    """(L,) explained at each."""


def find_lag(
    earlier_t: Array, earlier: Array, later_t: Array, later: Array, *, low: float = -0.1, high: float = 0.5
) -> Lag:
    """By how much `later` (M, d) at times later_t (M,) lags behind `earlier` (N, k) at earlier_t (N,), in seconds.

    DegenerateError when nothing moved, too little overlaps, or the two are not one motion.
    """
    if np.ptp(later, axis=0).max() <= 0.0 or np.ptp(earlier, axis=0).max() <= 0.0:
        raise DegenerateError("one of the signals does not change: nothing moved, or nothing was seen moving")
    inside = (later_t - high > earlier_t[0]) & (later_t - low < earlier_t[-1])
    if inside.sum() < _MIN_SAMPLES:
        raise DegenerateError(f"{int(inside.sum())} samples overlap for every lag, {_MIN_SAMPLES} are needed")
    times, values = later_t[inside], later[inside]
    lags = np.arange(low, high + 0.5 * STEP_S, STEP_S)
    shifted = np.stack(
        [np.column_stack([np.interp(times - lag, earlier_t, column) for column in earlier.T]) for lag in lags]
    )
    everything = np.ones(len(times), dtype=bool)
    shares = _shares(shifted, values, everything)
    best = _peak(lags, shares)
    share = float(shares.max())
    if share < MIN_SHARE:
        raise DegenerateError(
            f"at no lag does one signal explain the other ({share:.0%} at best, {MIN_SHARE:.0%} are needed)"
        )
    if not lags[1] < best < lags[-2]:
        raise DegenerateError(f"the best lag is at the end of the range tried ({best:.3f} s): is the clock the same?")
    blocks = np.minimum((_BLOCKS * np.arange(len(times))) // len(times), _BLOCKS - 1)
    near = abs(lags - best) <= 0.06
    others = [_peak(lags[near], _shares(shifted[near], values, blocks != block)) for block in range(_BLOCKS)]
    spread = np.array(others) - np.mean(others)
    std = float(np.sqrt((_BLOCKS - 1) / _BLOCKS * (spread**2).sum()))
    return Lag(seconds=best, std=std, share=share, lags=lags, shares=shares)


def _shares(shifted: Array, values: Array, chosen: Array) -> Array:
    """Share of the values' variance explained at each lag (L,). shifted: (L, M, k); values: (M, d)."""
    wanted = values[chosen] - values[chosen].mean(axis=0)
    total = float((wanted**2).sum())
    shares = np.empty(len(shifted))
    for i, signal in enumerate(shifted):
        known = signal[chosen] - signal[chosen].mean(axis=0)
        solution, *_ = np.linalg.lstsq(known, wanted, rcond=1e-6)
        shares[i] = 1.0 - float(((wanted - known @ solution) ** 2).sum()) / total
    return shares


def _peak(lags: Array, shares: Array) -> float:
    """The lag of the largest share, between the lags tried."""
    i = int(np.argmax(shares))
    if not 0 < i < len(lags) - 1:
        return float(lags[i])
    left, middle, right = shares[i - 1], shares[i], shares[i + 1]
    bend = left - 2.0 * middle + right
    return float(lags[i] + (0.5 * (left - right) / bend if bend < 0.0 else 0.0) * (lags[1] - lags[0]))


def ramped(times: Array, wanted: Array, *, speed: float, start: float) -> Array:
    """What follows a wanted width (N,) at no more than `speed` [m/s], from `start` [m]: a gripper without latency."""
    followed = np.empty(len(times))
    followed[0] = start
    for i in range(1, len(times)):
        step = speed * (times[i] - times[i - 1])
        followed[i] = followed[i - 1] + np.clip(wanted[i - 1] - followed[i - 1], -step, step)
    return followed


def finger_speed(times: Array, widths: Array) -> float:
    """How fast the fingers go when they go [m/s]."""
    speeds = abs(np.diff(widths)) / np.maximum(np.diff(times), 1e-6)
    moving = speeds[speeds > 0.2 * speeds.max()] if speeds.max() > 0.0 else speeds
    if len(moving) == 0 or float(np.median(moving)) <= 0.0:
        raise DegenerateError("the fingers did not move")
    return float(np.median(moving))
