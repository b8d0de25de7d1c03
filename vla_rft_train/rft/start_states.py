"""Start states: what a rollout begins with, as the policy sees it and as the world model does, and what was done there.

Both see the same row of the same episode, each at its own resolution and in the unit that it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vla_rft_core.spec import RobotSpec
from vla_rft_train.data.clips import DatasetClips
from vla_rft_train.data.policy_windows import PolicyWindows
from vla_rft_train.data.prepare_policy import prepare_policy
from vla_rft_train.data.windows import WindowConfig, Windows
from vla_rft_train.models.policy import Policy
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.presets import WorldModelRun
from vla_rft_train.released import Released
from vla_rft_train.rft.presets import GoesOn, StartConfig

GRIPPER = "gripper"
"""Part of the name of the action's number whose changes mark a grasp or a release."""
MOVES = 0.25
"""The gripper opens or closes when its target changes by this share of its range within a chunk."""


class StartStates(Dataset[dict[str, Tensor]]):
    """Rows at which a chunk begins, those around grasps several times. Beyond the rows, nothing.

    Item: id int64, the same in every run over the same dataset; for the policy image uint8 [3, S, S], state [Sd],
    prompt_tokens [L] and the demonstration's actions [T, A]; for the world model, where there is one, frames uint8
    [1 + F, 3, H, W], world_state [Sd] and world_actions [F, k, A]. Vectors are normalised, each for its reader.
    """

    def __init__(self, seen: PolicyWindows, imagined: Windows | None, ids: list[int], *, around_grasps: int) -> None:
        """imagined: windows over the same clips. ids: episode number of each clip."""
        self._seen, self._imagined = seen, imagined
        rooms = None if imagined is None else {imagined.place(i) for i in range(len(imagined))}
        self._places: list[tuple[int, int]] = []
        """(index of the policy's window, id)"""
        for index in range(len(seen)):
            clip, row = seen.place(index)
            if rooms is None or (clip, row) in rooms:
                times = 1 + (around_grasps if around_grasps and self._moves_gripper(index) else 0)
                self._places += [(index, ids[clip] * 1_000_000 + row)] * times
        if not self._places:
            raise ValueError("no episode is long enough for a chunk and the frames after it")

    def _moves_gripper(self, index: int) -> bool:
        actions, names = self._seen.actions(index), self._seen.action_names
        widths = [i for i, name in enumerate(names) if GRIPPER in name]
        if not widths:
            raise ValueError(f"around_grasps: none of the action's numbers is the gripper's: {', '.join(names)}")
        moved = actions[:, widths].amax(0) - actions[:, widths].amin(0)
        return bool((moved > 2.0 * MOVES).any())

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window, key = self._places[index]
        seen = self._seen[window]
        item = {
            "id": torch.tensor(key),
            "image": seen["images"][0],
            "state": seen["states"][0],
            "prompt_tokens": seen["prompt_tokens"],
            "actions": seen["actions"],
        }
        if self._imagined is not None:
            imagined = self._imagined.window(*self._seen.place(window))
            item |= {
                "frames": imagined["frames"],
                "world_actions": imagined["actions"],
                "world_state": imagined["state"],
            }
        return item


@dataclass(frozen=True)
class PreparedStarts:
    """What a fine-tuning plays from."""

    train: StartStates
    held_out: StartStates
    spec: RobotSpec | None
    facts: Mapping[str, Any]
    """Provenance of the data."""


def frames_of(config: StartConfig, horizon: int, actions_per_frame: int) -> int:
    """F; ValueError when chunk and frames do not go together."""
    if horizon % actions_per_frame:
        raise ValueError(
            f"the policy's chunks of {horizon} actions do not end on a frame of a world model that takes "
            f"{actions_per_frame} per frame"
        )
    own = horizon // actions_per_frame
    if config.frames and config.frames < own:
        raise ValueError(f"data.frames: 0, or at least the {own} that a chunk leads to; got {config.frames}")
    if config.goes_on is GoesOn.POLICY and config.frames % own:
        raise ValueError(
            f"data.frames: where the policy goes on, a multiple of the {own} that a chunk leads to; got {config.frames}"
        )
    return config.frames or own


def prepare_starts(
    config: StartConfig,
    policy: Released[Policy, PolicyRun],
    world_model: Released[WorldModel, WorldModelRun] | None,
    *,
    size: int,
) -> PreparedStarts:
    """Open the dataset; ValueError or a VlaRftError names what is missing or does not fit.

    size: side of the world model's square frames [pixels].
    """
    if not config.dataset:
        raise ValueError("data.dataset: name the folder of a LeRobot v3 dataset")
    run, path = policy.config, Path(config.dataset)
    data = replace(
        run.data,
        dataset=config.dataset,
        camera=config.camera,
        keypoints="",
        max_delay=0,
        horizon=policy.model.shapes.horizon,
        held_out=config.held_out,
        split_seed=config.split_seed,
        keep_frames=config.keep_frames,
        cache_gb=config.cache_gb,
    )
    prepared = prepare_policy(replace(run, data=data), stats=policy.stats)
    if policy.spec is not None and prepared.spec is not None:
        policy.spec.require_same(prepared.spec, ours="the policy", theirs=config.dataset)

    def starts(seen: PolicyWindows, episodes: list[int]) -> StartStates:
        imagined = None
        if world_model is not None:
            stride = world_model.config.data.actions_per_frame
            window = WindowConfig(
                frames=frames_of(config, policy.model.shapes.horizon, stride), actions_per_frame=stride
            )
            clips = DatasetClips(
                path, camera=config.camera or None, size=size, episodes=episodes, cache_bytes=int(config.cache_gb * 5e8)
            )
            imagined = Windows(clips, window, dict(world_model.stats))
        return StartStates(seen, imagined, episodes, around_grasps=config.around_grasps)

    kept, out = prepared.facts["episodes_trained_on"], prepared.facts["episodes_held_out"]
    return PreparedStarts(starts(prepared.train, kept), starts(prepared.held_out, out), prepared.spec, prepared.facts)
