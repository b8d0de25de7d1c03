"""Branches of demonstrations as clips: how a world model gets to see failure. Frames and actions only, never truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.image import policy_image
from vla_rft_core.types import Image
from vla_rft_episodes.branches import Branches
from vla_rft_train.data.clips import FrameCache


class BranchClips:
    """The branches of a folder, or those that leave certain demonstrations."""

    def __init__(
        self, folder: Path, *, camera: str | None, size: int, episodes: Sequence[str] | None, cache_bytes: int
    ) -> None:
        """episodes: ids of the demonstrations, None = all; a split by these keeps held-out scenes out of training."""
        self._branches = Branches(folder)
        self.spec = self._branches.spec
        self._camera = camera or self.spec.cameras[0].name
        self.spec.camera(self._camera)
        self._size = size
        wanted = None if episodes is None else set(episodes)
        self._chosen = [i for i, e in enumerate(self._branches.episodes) if wanted is None or e in wanted]
        self._cache = FrameCache(cache_bytes)
        self.state_names, self.action_names = self.spec.state_layout, self.spec.action_layout

    def __len__(self) -> int:
        return len(self._chosen)

    def kind(self, clip: int) -> str:
        """What was done differently."""
        return self._branches.kinds[self._chosen[clip]]

    def length(self, clip: int) -> int:
        """Rows: one more than actions."""
        return len(self._branches[self._chosen[clip]].states)

    def frames(self, clip: int, rows: Sequence[int]) -> Image:
        """Square frames of these rows."""
        kept = self._cache.get(clip)
        if kept is None:
            pictures = self._branches[self._chosen[clip]].images(self._camera)
            kept = np.stack([policy_image(picture, self._size) for picture in pictures])
            self._cache.put(clip, kept)
        return kept[list(rows)]

    def states(self, clip: int) -> NDArray[np.float32]:
        """Measured states, physical units."""
        return np.asarray(self._branches[self._chosen[clip]].states)

    def actions(self, clip: int) -> NDArray[np.float32]:
        """Actions, physical units; one less than rows."""
        return np.asarray(self._branches[self._chosen[clip]].actions)

    def prompt(self, clip: int) -> str:
        """The demonstration's."""
        return str(self._branches[self._chosen[clip]].prompt)
