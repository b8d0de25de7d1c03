"""Statistics of columns and pictures as LeRobot v3.0 keeps them: min, max, mean, std, count and five quantiles.

Exact: vectors from all their values, pictures from histograms of their bytes, which add up over episodes without
looking at a picture again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[np.float64]]
"""Of one column: (d,) for vectors, (3, 1, 1) in 0..1 for pictures; `count` is (1,) rows."""
Histogram = NDArray[np.int64]
"""(3, 256) pixels per channel and value."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
PIXEL_STEP = 4
"""Every fourth pixel of every fourth line is counted."""


def of_column(values: NDArray) -> Stats:
    """Statistics over the rows of (n,) or (n, d) numbers; std is the population's."""
    array = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if not len(array):
        raise ValueError("no statistics of a column without rows")
    stats = {"min": array.min(0), "max": array.max(0), "mean": array.mean(0), "std": array.std(0)}
    stats["count"] = np.array([len(array)], dtype=np.int64)
    return stats | dict(zip(QUANTILES, np.quantile(array, list(QUANTILES.values()), axis=0), strict=True))


def of_columns(columns: Mapping[str, NDArray]) -> dict[str, Stats]:
    """Statistics of all columns that hold numbers."""
    return {name: of_column(values) for name, values in columns.items() if values.dtype.kind in "fiub"}


def histogram(image: NDArray[np.uint8]) -> Histogram:
    """How often each value occurs per channel of an RGB picture [H, W, 3]."""
    pixels = image[::PIXEL_STEP, ::PIXEL_STEP]
    return np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])


def of_images(counts: Histogram, frames: int) -> Stats:
    """Statistics of all pixels of `frames` pictures from their summed histogram."""
    total = counts.sum(1)
    if not total.all():
        raise ValueError("no statistics of no picture")
    values = np.arange(256.0)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(0.0, counts @ values**2 / total - mean**2))
    cumulated = counts.cumsum(1)
    stats = {"min": _quantile(cumulated, 0.0), "max": _quantile(cumulated, 1.0), "mean": mean, "std": std}
    stats |= {name: _quantile(cumulated, q) for name, q in QUANTILES.items()}
    shaped: Stats = {name: (value / 255.0).reshape(3, 1, 1) for name, value in stats.items()}
    return shaped | {"count": np.array([frames], dtype=np.int64)}


def _quantile(cumulated: NDArray[np.int64], q: float) -> NDArray[np.float64]:
    """What `numpy.quantile` gives for the values that were counted, per channel."""
    result = np.empty(len(cumulated))
    for channel, row in enumerate(cumulated):
        position = q * (row[-1] - 1)
        below, above = np.searchsorted(row, [int(np.floor(position)), int(np.ceil(position))], side="right")
        result[channel] = below + (above - below) * (position - np.floor(position))
    return result
