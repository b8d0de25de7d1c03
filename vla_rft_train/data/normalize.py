"""norm_stats: mean, std, q01 and q99 per dimension, and the map between physical units and [-1, 1].

q01 goes to -1 and q99 to 1, linearly; values beyond are not clipped here. A dimension that hardly moves is given at
least the spec's minimum range, centred, so that its noise is not blown up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FILE_NAME = "norm_stats.json"


@dataclass(frozen=True)
class NormStats:
    """Statistics of one vector. Each tuple has one number per dimension, in the dimension's unit."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    min_range: tuple[float, ...]
    """Smallest range assumed between q01 and q99."""

    @classmethod
    def of(cls, rows: NDArray, names: Sequence[str], min_range: Sequence[float]) -> NormStats:
        """From all rows (n, d) of the training split; ValueError when there are none or they are not finite."""
        if rows.ndim != 2 or not len(rows) or rows.shape[1] != len(names):
            raise ValueError(f"norm_stats: expected rows of {len(names)} numbers, got an array of shape {rows.shape}")
        if not np.isfinite(rows).all():
            bad = [names[i] for i in np.flatnonzero(~np.isfinite(rows).all(axis=0))]
            raise ValueError(f"norm_stats: not finite in {', '.join(bad)}")
        wide = rows.astype(np.float64)
        q01, q99 = np.quantile(wide, [0.01, 0.99], axis=0)
        columns = (wide.mean(axis=0), wide.std(axis=0), q01, q99)
        return cls(tuple(names), *(tuple(c.tolist()) for c in columns), tuple(float(r) for r in min_range))

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """What goes to -1 and to 1, float32 (d,) each."""
        low, high = np.array(self.q01), np.array(self.q99)
        middle, half = 0.5 * (low + high), 0.5 * np.maximum(high - low, np.array(self.min_range))
        return torch.tensor(middle - half, dtype=torch.float32), torch.tensor(middle + half, dtype=torch.float32)

    def normalize(self, values: Tensor) -> Tensor:
        """Physical values [..., d] -> about [-1, 1]."""
        low, high = (bound.to(values) for bound in self.bounds)
        return (values - low) / (high - low) * 2.0 - 1.0

    def unnormalize(self, values: Tensor) -> Tensor:
        """What `normalize` was given."""
        low, high = (bound.to(values) for bound in self.bounds)
        return (values + 1.0) * 0.5 * (high - low) + low


def save(stats: Mapping[str, NormStats], folder: Path) -> None:
    """Write norm_stats.json of named vectors ("state", "action")."""
    text = json.dumps({name: asdict(entry) for name, entry in stats.items()}, indent=1)
    (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, NormStats]:
    """Read norm_stats.json; ValueError when it is missing or malformed."""
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: NormStats(**{k: tuple(v) for k, v in entry.items()}) for name, entry in content.items()}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a checkpoint without its statistics cannot be used") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: malformed ({error})") from None
