"""Clips: uninterrupted stretches of frames with the actions between them, wherever they come from.

`DatasetClips` reads any LeRobot v3 dataset, ours or foreign. Frames are brought to the wanted square size by the one
image function of core and kept in memory up to a bound, because a video costs more to decode than a picture to keep.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.image import policy_image
from vla_rft_core.types import Image
from vla_rft_episodes.lerobot.layout import ACTION, PROVENANCE, STATE, SUCCESS
from vla_rft_episodes.lerobot.reader import Dataset


class Clips(Protocol):
    """A set of clips. Row t of a clip: frame and state at t, and the action from t to t + 1."""

    state_names: tuple[str, ...]
    action_names: tuple[str, ...]

    def __len__(self) -> int:
        """How many clips."""

    def length(self, clip: int) -> int:
        """Rows of a clip."""

    def frames(self, clip: int, rows: Sequence[int]) -> Image:
        """uint8 RGB [n, size, size, 3]."""

    def states(self, clip: int) -> NDArray[np.float32]:
        """(length, state_dim), physical units."""

    def actions(self, clip: int) -> NDArray[np.float32]:
        """(length, action_dim), physical units; the last rows of a clip may have no frame after them."""

    def prompt(self, clip: int) -> str:
        """The sentence that goes with it."""


class FrameCache:
    """Square frames by clip, within a bound; the clip used longest ago goes first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._clips: OrderedDict[int, Image] = OrderedDict()

    def get(self, clip: int) -> Image | None:
        """All frames of a clip, when they are at hand."""
        if clip in self._clips:
            self._clips.move_to_end(clip)
        return self._clips.get(clip)

    def put(self, clip: int, frames: Image) -> bool:
        """Keep a clip's frames; False when they alone are beyond the bound."""
        if frames.nbytes > self._limit:
            return False
        self._clips[clip] = frames
        self._bytes += frames.nbytes
        while self._bytes > self._limit:
            _, oldest = self._clips.popitem(last=False)
            self._bytes -= oldest.nbytes
        return True


class DatasetClips:
    """Episodes of a LeRobot v3 dataset as clips."""

    def __init__(
        self, path: Path, *, camera: str | None, size: int, episodes: Sequence[int] | None, cache_bytes: int
    ) -> None:
        """camera: its name, None = the only one. episodes: which, None = all. ValueError names what does not fit."""
        self._data = Dataset.open(path)
        if camera is None and len(self._data.cameras) != 1:
            raise ValueError(f"{path}: has cameras {', '.join(self._data.cameras)}; name the one to train on")
        self._camera = camera or self._data.cameras[0]
        self._size = size
        self._episodes = list(range(len(self._data.episodes)) if episodes is None else episodes)
        self._cache = FrameCache(cache_bytes)
        self.state_names, self.action_names = self._names(STATE), self._names(ACTION)
        self.spec = self._data.spec

    def __len__(self) -> int:
        return len(self._episodes)

    def length(self, clip: int) -> int:
        """Rows of the episode."""
        return self._data.episode(self._episodes[clip]).length

    def frames(self, clip: int, rows: Sequence[int]) -> Image:
        """Square frames of these rows; the whole episode is decoded at its first use when it fits the cache."""
        kept = self._cache.get(clip)
        if kept is None:
            every = range(self.length(clip))
            if len(every) * self._size**2 * 3 > self._cache._limit:
                return self._decode(clip, rows)
            kept = self._decode(clip, every)
            self._cache.put(clip, kept)
        return kept[list(rows)]

    def states(self, clip: int) -> NDArray[np.float32]:
        """Measured states, physical units."""
        return self._data.columns(self._episodes[clip])[STATE]

    def actions(self, clip: int) -> NDArray[np.float32]:
        """Actions, physical units."""
        return self._data.columns(self._episodes[clip])[ACTION]

    def success(self, clip: int) -> bool | None:
        """Whether the attempt succeeded; None where the dataset does not say."""
        columns = self._data.columns(self._episodes[clip])
        return bool(columns[SUCCESS][-1]) if SUCCESS in columns else None

    @property
    def episode_ids(self) -> list[str] | None:
        """Ids of the episodes behind the clips; None where the dataset does not say where it comes from."""
        path = self._data.path / PROVENANCE
        if not path.is_file():
            return None
        ids = {entry["index"]: str(entry["id"]) for entry in json.loads(path.read_text(encoding="utf-8"))["episodes"]}
        return [ids[episode] for episode in self._episodes]

    def prompt(self, clip: int) -> str:
        """The episode's first prompt."""
        return self._data.prompts(self._episodes[clip])[0]

    def _decode(self, clip: int, rows: Sequence[int]) -> Image:
        pictures = self._data.frames(self._episodes[clip], self._camera, list(rows))
        return np.stack([policy_image(picture, self._size) for picture in pictures])

    def _names(self, column: str) -> tuple[str, ...]:
        if column not in self._data.features:
            raise ValueError(f"{self._data.path}: has no column {column!r}")
        feature = self._data.features[column]
        return feature.names or tuple(f"{column}.{i}" for i in range(feature.shape[0]))


class JoinedClips:
    """Several sets of clips as one."""

    def __init__(self, parts: Sequence[Clips]) -> None:
        first, *others = parts
        for other in others:
            for what in ("state_names", "action_names"):
                if getattr(other, what) != getattr(first, what):
                    raise ValueError(f"clips differ in {what}: {getattr(first, what)} and {getattr(other, what)}")
        self.state_names, self.action_names = first.state_names, first.action_names
        self._where = [(part, i) for part in parts for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._where)

    def length(self, clip: int) -> int:
        """Rows of a clip."""
        part, i = self._where[clip]
        return part.length(i)

    def frames(self, clip: int, rows: Sequence[int]) -> Image:
        """Square frames."""
        part, i = self._where[clip]
        return part.frames(i, rows)

    def states(self, clip: int) -> NDArray[np.float32]:
        """States, physical units."""
        part, i = self._where[clip]
        return part.states(i)

    def actions(self, clip: int) -> NDArray[np.float32]:
        """Actions, physical units."""
        part, i = self._where[clip]
        return part.actions(i)

    def prompt(self, clip: int) -> str:
        """The sentence that goes with it."""
        part, i = self._where[clip]
        return part.prompt(i)


def split_episodes(count: int, *, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Episode numbers for training and for validation, drawn by seed. held_out: the fraction (the paper: 1/50)."""
    if not 0.0 <= held_out < 1.0:
        raise ValueError(f"held_out must be within [0, 1), got {held_out}")
    order = np.random.default_rng(seed).permutation(count)
    kept_out = round(held_out * count)
    return sorted(order[kept_out:].tolist()), sorted(order[:kept_out].tolist())
