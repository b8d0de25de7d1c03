"""Keypoints of a simulated dataset: where corners of the towel and tcp are in every picture. **Simulation only.**

They come from the simulator's truth, are made by `python -m vla_rft_sim.keypoints` into a file beside the dataset, and
are read by the optional auxiliary loss of a policy's training; no policy ever sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Keypoints:
    """All keypoints of a dataset, in the policy's square image: x and y in [-1, 1] from edge to edge."""

    names: tuple[str, ...]
    by_episode: dict[str, NDArray[np.float32]]
    """Episode id -> [rows, len(names), 2]."""

    @classmethod
    def load(cls, path: Path, episodes: Sequence[str]) -> Keypoints:
        """Of these episodes; ValueError when the file is not one or lacks an episode."""
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [episode for episode in episodes if episode not in file]
                if missing:
                    raise ValueError(f"{path}: has no keypoints of episode {missing[0]}")
                width, height = (int(n) for n in file["image_size"])
                names = tuple(str(name) for name in file["names"])
                return cls(names, {e: _in_square(file[e], width, height) for e in episodes})
        except (OSError, KeyError) as error:
            raise ValueError(f"{path}: is no file of keypoints ({error})") from None


def _in_square(pixels: NDArray, width: int, height: int) -> NDArray[np.float32]:
    """Pixels (u, v) of the whole image -> the centre square that `policy_image` cuts out."""
    side = min(width, height)
    middle = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
    return ((pixels - middle) / (0.5 * side)).astype(np.float32)
