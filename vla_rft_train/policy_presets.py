"""Presets of the policy's supervised training: functions of the name, from seconds on a CPU to the paper's Table 6.

debug: two steps in a test. sim: the shipped towel policy, on two CPU cores. towel: the paper's real robot (20k steps;
80k with `--loop.steps 80000`). libero: Table 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from vla_rft_train.data.augment import AugmentConfig
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.models.conv_tower import ConvTowerConfig
from vla_rft_train.models.flow_head import MlpConfig
from vla_rft_train.models.policy import ConvPolicyConfig
from vla_rft_train.models.vla import VlaConfig
from vla_rft_train.presets import choose


@dataclass(frozen=True, kw_only=True)
class PolicyDataConfig:
    """What is trained on."""

    dataset: str = ""
    """Folder of a LeRobot v3 dataset."""
    camera: str = ""
    """Name of the camera; empty = the only one."""
    keypoints: str = ""
    """File made by `vla_rft_sim.keypoints` for the auxiliary loss (simulation only); empty = no such loss."""
    horizon: int = 0
    """Actions per chunk; 0 = the action_horizon of the dataset's spec."""
    max_delay: int = 0
    """The observation shown is 0 to this many control periods old, drawn anew each time."""
    held_out: float = 0.02
    """Fraction of the episodes kept for validation (the paper: 1 of 50)."""
    split_seed: int = 0
    keep_frames: bool = True
    """Decode all frames before the first step and keep them; else `cache_gb` of them."""
    cache_gb: float = 2.0


@dataclass(frozen=True, kw_only=True)
class PolicyLossConfig:
    """What the loss is made of."""

    flow_samples: int = 1
    """Noises and times per observation: the eye looks once for all of them."""
    keypoints: float = 0.0
    """Weight of the auxiliary loss, where the data has keypoints."""


@dataclass(frozen=True, kw_only=True)
class ConvRun:
    """Everything that decides a training of the small policy."""

    kind: ClassVar[str] = "conv"
    data: PolicyDataConfig
    policy: ConvPolicyConfig
    augment: AugmentConfig
    loss: PolicyLossConfig
    loop: LoopConfig


@dataclass(frozen=True, kw_only=True)
class VlaRun:
    """Everything that decides a training of the vision-language-action policy."""

    kind: ClassVar[str] = "vla"
    data: PolicyDataConfig
    policy: VlaConfig
    augment: AugmentConfig
    loss: PolicyLossConfig
    loop: LoopConfig


PolicyRun = ConvRun | VlaRun
RUNS: dict[str, type[ConvRun] | type[VlaRun]] = {run.kind: run for run in (ConvRun, VlaRun)}
"""What a checkpoint calls its kind of policy -> its configuration."""


def policy_run(name: str) -> PolicyRun:
    """The preset of that name; ValueError lists the others."""
    presets: dict[str, Callable[[], PolicyRun]] = {"debug": _debug, "sim": _sim, "towel": _towel, "libero": _libero}
    return choose(name, presets)


def _sim() -> ConvRun:
    return ConvRun(
        data=PolicyDataConfig(),
        policy=ConvPolicyConfig(),
        augment=AugmentConfig(brightness=0.4, contrast=0.4, saturation=0.5, hue=0.08, shift=0.04, state=0.1),
        loss=PolicyLossConfig(flow_samples=4, keypoints=1.0),
        loop=LoopConfig(
            steps=5000,
            batch=32,
            lr=1e-3,
            warmup=100,
            decay="cosine",
            weight_decay=1e-4,
            ema=0.99,
            log_every=50,
            save_every=1250,
            sample_every=1250,
            keep=4,
        ),
    )


def _debug() -> ConvRun:
    sim = _sim()
    return replace(
        sim,
        data=replace(sim.data, held_out=0.5, max_delay=2),
        policy=ConvPolicyConfig(
            image_size=32,
            tower=ConvTowerConfig(channels=(8, 8, 8, 8), points=8, out=16),
            head=MlpConfig(depth=1, width=16),
        ),
        loop=LoopConfig(steps=2, batch=2, lr=1e-3, ema=0.9, log_every=1, save_every=1, sample_every=2),
    )


def _libero() -> VlaRun:
    """Table 6. Crops as in the public code; actions are deltas in a frame that no crop moves relative to the scene."""
    return VlaRun(
        data=PolicyDataConfig(horizon=8, keep_frames=False),
        policy=VlaConfig(crop_area=0.9),
        augment=AugmentConfig(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, crop_area=0.9),
        loss=PolicyLossConfig(),
        loop=LoopConfig(steps=150_000, batch=16, lr=1e-4, workers=4, save_every=5000, sample_every=0),
    )


def _towel() -> VlaRun:
    """The paper's real robot. Its camera is fixed: no crops."""
    libero = _libero()
    return replace(
        libero,
        data=replace(libero.data, horizon=0, keep_frames=True),
        policy=replace(libero.policy, crop_area=1.0),
        augment=replace(libero.augment, crop_area=1.0),
        loop=replace(libero.loop, steps=20_000, warmup=1000, save_every=2000),
    )
