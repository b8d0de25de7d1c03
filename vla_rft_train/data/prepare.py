"""From a `DataConfig` to windows for training and for validation, with the statistics of the training split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_rft_core.spec import RobotSpec
from vla_rft_episodes.lerobot import layout
from vla_rft_train.data.branches import BranchClips
from vla_rft_train.data.clips import Clips, DatasetClips, JoinedClips, split_episodes
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.windows import WindowConfig, Windows, stats_of
from vla_rft_train.presets import DataConfig

FOREIGN_MIN_RANGE = 1e-3
"""Smallest range of a dimension of a dataset that came without a spec."""


@dataclass(frozen=True)
class Prepared:
    """What a stage trains on."""

    train: Windows
    held_out: Windows
    stats: Mapping[str, NormStats]
    spec: RobotSpec | None
    facts: Mapping[str, Any]
    """Provenance of the data."""


def prepare(config: DataConfig, *, size: int, stats: Mapping[str, NormStats] | None = None) -> Prepared:
    """Open dataset and branches; ValueError or a VlaRftError names what is missing or does not fit.

    size: side of the square frames [pixels]. stats: those of a parent checkpoint, None = of this training split.
    """
    if not config.dataset:
        raise ValueError("data.dataset: name the folder of a LeRobot v3 dataset")
    path, camera = Path(config.dataset), config.camera or None
    share = int(config.cache_gb * 1e9 / (2 + len(config.branches) + len(config.attempts)))

    def episodes(numbers: list[int] | None) -> DatasetClips:
        return DatasetClips(path, camera=camera, size=size, episodes=numbers, cache_bytes=share)

    every = episodes(None)
    kept, out = split(len(every), held_out=config.held_out, seed=config.split_seed)
    train, held_out = episodes(kept), episodes(out)
    if stats is None:
        stats = stats_of(train, **min_ranges(train))
    parts: list[Clips] = [train]
    for folder in config.branches:  # those of held-out episodes show held-out scenes
        parts.append(BranchClips(Path(folder), camera=camera, size=size, episodes=train.episode_ids, cache_bytes=share))
    for folder in map(Path, config.attempts):
        if (folder / layout.INFO).is_file():
            parts.append(DatasetClips(folder, camera=camera, size=size, episodes=None, cache_bytes=share))
        else:
            parts.append(BranchClips(folder, camera=camera, size=size, episodes=None, cache_bytes=share))
    window = WindowConfig(frames=config.frames, actions_per_frame=config.actions_per_frame)
    return Prepared(
        train=Windows(JoinedClips(parts), window, dict(stats)),
        held_out=Windows(held_out, window, dict(stats)),
        stats=stats,
        spec=train.spec,
        facts={"dataset": identity(path), "episodes_trained_on": kept, "episodes_held_out": out},
    )


def split(count: int, *, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Episode numbers for training and for validation; with too few for the fraction the last one validates."""
    kept, out = split_episodes(count, held_out=held_out, seed=seed)
    if not out:
        kept, out = (kept[:-1], kept[-1:]) if len(kept) > 1 else (kept, kept)
    return kept, out


def min_ranges(clips: DatasetClips) -> dict[str, tuple[float, ...]]:
    """Smallest ranges of state and action, as `stats_of` takes them: the spec's where there is one."""
    if clips.spec is not None:
        return {"state_min_range": clips.spec.state_min_range, "action_min_range": clips.spec.action_min_range}
    return {
        "state_min_range": (FOREIGN_MIN_RANGE,) * len(clips.state_names),
        "action_min_range": (FOREIGN_MIN_RANGE,) * len(clips.action_names),
    }


def identity(path: Path) -> str:
    """sha256 of what the dataset says of itself: its provenance where it has one, else info.json."""
    for name in (layout.PROVENANCE, layout.INFO):
        if (path / name).is_file():
            return hashlib.sha256((path / name).read_bytes()).hexdigest()
    raise ValueError(f"{path}: is no LeRobot v3 dataset")
