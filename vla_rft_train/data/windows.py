"""Windows: one start frame and the T frames that follow, with the actions between them. Never across a clip's end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vla_rft_train.data.clips import Clips
from vla_rft_train.data.normalize import NormStats


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Shape of a window."""

    frames: int
    """T: frames after the start frame."""
    actions_per_frame: int = 1
    """Control periods between two frames."""

    def __post_init__(self) -> None:
        if min(self.frames, self.actions_per_frame) < 1:
            raise ValueError(f"a window needs at least one frame and one action per frame, got {self}")

    @property
    def rows(self) -> int:
        """Rows from the start frame to the last one, both included."""
        return self.frames * self.actions_per_frame + 1


class Windows(Dataset[dict[str, Tensor]]):
    """Every window of every clip, in the clips' order.

    Item: frames uint8 [1 + T, 3, size, size], actions float32 normalised [T, actions_per_frame, action_dim],
    state float32 normalised [state_dim], clip and row int64.
    """

    def __init__(self, clips: Clips, config: WindowConfig, stats: dict[str, NormStats]) -> None:
        self._clips, self._config, self._stats = clips, config, stats
        for name, names in (("state", clips.state_names), ("action", clips.action_names)):
            if stats[name].names != tuple(names):
                raise ValueError(f"norm_stats of {name} are for {stats[name].names}, the data has {tuple(names)}")
        counts = [max(0, clips.length(clip) - config.rows + 1) for clip in range(len(clips))]
        self._ends = np.cumsum(counts)
        if not len(counts) or not self._ends[-1]:
            raise ValueError(f"no clip has the {config.rows} rows of a window of {config.frames} frames")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> tuple[int, int]:
        """(clip, row) of the start frame of window `index`."""
        clip = int(np.searchsorted(self._ends, index, side="right"))
        return clip, int(index - (self._ends[clip - 1] if clip else 0))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip, row = self.place(index)
        return self.window(clip, row)

    def window(self, clip: int, row: int) -> dict[str, Tensor]:
        """The window that starts at a row of a clip."""
        stride, frames = self._config.actions_per_frame, self._config.frames
        rows = [row + i * stride for i in range(frames + 1)]
        pictures = torch.from_numpy(self._clips.frames(clip, rows)).permute(0, 3, 1, 2).contiguous()
        actions = torch.from_numpy(np.array(self._clips.actions(clip)[row : row + frames * stride]))
        state = torch.from_numpy(np.array(self._clips.states(clip)[row]))
        return {
            "frames": pictures,
            "actions": self._stats["action"].normalize(actions).reshape(frames, stride, -1),
            "state": self._stats["state"].normalize(state),
            "clip": torch.tensor(clip),
            "row": torch.tensor(row),
        }


def stats_of(
    clips: Clips, *, state_min_range: tuple[float, ...], action_min_range: tuple[float, ...]
) -> dict[str, NormStats]:
    """norm_stats of state and action over all rows of these clips: give it the training split only."""
    states = np.concatenate([clips.states(clip) for clip in range(len(clips))])
    actions = np.concatenate([clips.actions(clip) for clip in range(len(clips))])
    return {
        "state": NormStats.of(states, clips.state_names, state_min_range),
        "action": NormStats.of(actions, clips.action_names, action_min_range),
    }
