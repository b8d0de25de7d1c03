"""From a `PolicyRun` to windows for training and for validation, with the statistics of the training split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_rft_core.spec import RobotSpec
from vla_rft_train.data import prompts
from vla_rft_train.data.clips import DatasetClips
from vla_rft_train.data.keypoints import Keypoints
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.policy_windows import PolicyWindows
from vla_rft_train.data.prepare import identity, min_ranges, split
from vla_rft_train.data.windows import stats_of
from vla_rft_train.policy_presets import PolicyRun


@dataclass(frozen=True)
class PreparedPolicy:
    """What a policy trains on."""

    train: PolicyWindows
    held_out: PolicyWindows
    stats: Mapping[str, NormStats]
    spec: RobotSpec | None
    horizon: int
    facts: Mapping[str, Any]
    """Provenance of the data."""


def prepare_policy(run: PolicyRun, *, stats: Mapping[str, NormStats] | None = None) -> PreparedPolicy:
    """Open dataset and keypoints; ValueError or a VlaRftError names what is missing or does not fit.

    stats: those of a checkpoint to evaluate, None = of this training split.
    """
    config = run.data
    if not config.dataset:
        raise ValueError("data.dataset: name the folder of a LeRobot v3 dataset")
    path, size = Path(config.dataset), run.policy.image_size
    cache = int(config.cache_gb * 1e9 / 2)

    def episodes(numbers: list[int] | None) -> DatasetClips:
        return DatasetClips(path, camera=config.camera or None, size=size, episodes=numbers, cache_bytes=cache)

    kept, out = split(len(episodes(None)), held_out=config.held_out, seed=config.split_seed)
    train, held_out = episodes(kept), episodes(out)
    horizon = config.horizon or (train.spec.action_horizon if train.spec else 0)
    if not horizon:
        raise ValueError(f"{path}: has no spec that tells the action_horizon; set data.horizon")
    if stats is None:
        stats = stats_of(train, **min_ranges(train))
    facts: dict[str, Any] = {"dataset": identity(path), "episodes_trained_on": kept, "episodes_held_out": out}
    if config.keypoints:
        facts["keypoints"] = hashlib.sha256(_existing(Path(config.keypoints)).read_bytes()).hexdigest()

    def windows(clips: DatasetClips) -> PolicyWindows:
        return PolicyWindows(
            clips,
            horizon=horizon,
            max_delay=config.max_delay,
            stats=dict(stats),
            tokenize=prompts.tokenizer_of(run.policy.tokenizer, length=run.policy.prompt_length),
            keypoints=_keypoints_of(clips, config.keypoints),
            keep_frames=config.keep_frames,
        )

    return PreparedPolicy(windows(train), windows(held_out), stats, train.spec, horizon, facts)


def _keypoints_of(clips: DatasetClips, file: str) -> Keypoints | None:
    if not file:
        return None
    if clips.episode_ids is None:
        raise ValueError("data.keypoints: the dataset does not say which episodes it is made of")
    return Keypoints.load(Path(file), clips.episode_ids)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"data.keypoints: {path}: no such file; make it with python -m vla_rft_sim.keypoints")
    return path
