"""PolicyWindows: an observation and the actions that follow it, with the observations of a few control periods before.

The training draws which of them the policy is shown: an observation `delay` periods old with the actions from now on.
All frames stay in memory. A window never crosses a clip's end.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vla_rft_train.data.clips import DatasetClips
from vla_rft_train.data.keypoints import Keypoints
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.prompts import Tokenize


class PolicyWindows(Dataset[dict[str, Tensor]]):
    """Every window of every clip, in the clips' order.

    Item: images uint8 [1 + D, 3, size, size] and states float32 normalised [1 + D, state_dim], newest first (before
    a clip's first row that row is repeated: the arm stood still); actions float32 normalised [T, action_dim];
    prompt_tokens int64 [L]; keypoints float32 [1 + D, P, 2] where there are any.
    """

    def __init__(
        self,
        clips: DatasetClips,
        *,
        horizon: int,
        max_delay: int,
        stats: dict[str, NormStats],
        tokenize: Tokenize,
        keypoints: Keypoints | None = None,
        keep_frames: bool = True,
    ) -> None:
        """horizon: T. keypoints: of the clips' episodes. keep_frames: decode all now; else at every use."""
        for name, names in (("state", clips.state_names), ("action", clips.action_names)):
            if stats[name].names != tuple(names):
                raise ValueError(f"norm_stats of {name} are for {stats[name].names}, the data has {tuple(names)}")
        self._clips, self._horizon, self._delays = clips, horizon, max_delay
        self.action_names = clips.action_names
        every = range(len(clips))
        self._states = [stats["state"].normalize(torch.from_numpy(np.array(clips.states(c)))) for c in every]
        self._actions = [stats["action"].normalize(torch.from_numpy(np.array(clips.actions(c)))) for c in every]
        self._tokens = [tokenize(clips.prompt(c)) for c in every]
        self._keypoints = _keypoints(clips, keypoints)
        self._places = [(c, row) for c in every for row in range(clips.length(c) - horizon + 1)]
        if not self._places:
            raise ValueError(f"no episode has the {horizon} rows of an action chunk")
        self._frames: list[Tensor] | None = None
        if keep_frames:
            shown = tqdm(every, desc="decoding", unit="episode", leave=False)
            self._frames = [self._decode(c, range(clips.length(c))) for c in shown]

    def __len__(self) -> int:
        return len(self._places)

    def place(self, index: int) -> tuple[int, int]:
        """(clip, row) of window `index`."""
        return self._places[index]

    def actions(self, index: int) -> Tensor:
        """float32 normalised [T, action_dim] of window `index`, with nothing decoded."""
        clip, row = self._places[index]
        return self._actions[clip][row : row + self._horizon]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip, row = self._places[index]
        rows = [max(0, row - delay) for delay in range(self._delays + 1)]
        item = {
            "images": self._frames[clip][rows] if self._frames is not None else self._decode(clip, rows),
            "states": self._states[clip][rows],
            "actions": self.actions(index),
            "prompt_tokens": self._tokens[clip],
        }
        if self._keypoints is not None:
            item["keypoints"] = self._keypoints[clip][rows]
        return item

    def _decode(self, clip: int, rows: range | list[int]) -> Tensor:
        return torch.from_numpy(self._clips.frames(clip, list(rows))).permute(0, 3, 1, 2).contiguous()


def _keypoints(clips: DatasetClips, keypoints: Keypoints | None) -> list[Tensor] | None:
    if keypoints is None:
        return None
    found = []
    for clip, episode in enumerate(clips.episode_ids or []):
        rows = keypoints.by_episode[episode]
        if len(rows) != clips.length(clip):
            raise ValueError(f"episode {episode}: keypoints of {len(rows)} rows, the dataset has {clips.length(clip)}")
        found.append(torch.from_numpy(rows))
    return found
