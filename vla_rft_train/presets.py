"""Presets of stage I: functions of the name, from seconds on a CPU to the paper's tables.

debug: two steps in a test. sim: the shipped towel models, on two CPU cores. towel: the paper's real robot (24k steps of
the world model). libero: its Tables 1 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.models.perceptual import PerceptualConfig, Weights
from vla_rft_train.models.tokenizer import TokenizerConfig
from vla_rft_train.models.world_model import WorldModelConfig
from vla_rft_train.stages import ReconstructionLoss

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    dataset: str = ""
    """Folder of a LeRobot v3 dataset."""
    branches: tuple[str, ...] = ()
    """Folders of branches that join the world model's data; none = the paper's setting."""
    attempts: tuple[str, ...] = ()
    """Folders of a policy's own attempts (`vla_rft_train.rft.attempts`), or LeRobot v3 datasets with failures
    (`vla_rft_episodes export --all`), that join the world model's data: all of them, in scenes of their own."""
    camera: str = ""
    """Name of the camera; empty = the only one."""
    frames: int = 8
    """Predicted frames per window (the paper's segment length)."""
    actions_per_frame: int = 1
    """Control periods between two frames."""
    held_out: float = 0.02
    """Fraction of the episodes kept for validation (the paper: 1 of 50)."""
    split_seed: int = 0
    cache_gb: float = 2.0
    """Memory for decoded frames, per loading process."""


@dataclass(frozen=True, kw_only=True)
class TokenizerRun:
    """Everything that decides a training of the tokenizer."""

    data: DataConfig
    model: TokenizerConfig
    loss: ReconstructionLoss
    perceptual: PerceptualConfig
    later_frames: int = 0
    """Later frames of a window that a step reconstructs, drawn anew each time; 0 = all."""
    loop: LoopConfig


@dataclass(frozen=True, kw_only=True)
class WorldModelRun:
    """Everything that decides a training of the world model; the tokenizer's sizes come with its checkpoint."""

    data: DataConfig
    tokenizer: str = ""
    """Folder of the tokenizer's checkpoint."""
    start: str = ""
    """Checkpoint of a world model whose training goes on, with its statistics, on other data: a refresh. Give the loop
    fewer steps and a smaller `lr`."""
    model: WorldModelConfig
    action_bins: int = 256
    """Bins per number of an action (the paper); 0 = one continuous embedding per frame."""
    encode_once: bool = True
    """Encode all windows before training and keep their codes in memory: 3 kB per window at the paper's sizes."""
    looks: int = 0
    """Copies of every window with other colours and another cut, beside the window itself; needs `encode_once`."""
    use_state: bool = False
    """Give the robot's state at the start frame as one more position (not in the paper)."""
    loop: LoopConfig


def tokenizer_run(name: str) -> TokenizerRun:
    """The preset of that name; ValueError lists the others."""
    return choose(
        name, {"debug": _tokenizer_debug, "sim": _tokenizer_sim, "towel": _tokenizer_towel, "libero": _tokenizer_libero}
    )


def world_model_run(name: str) -> WorldModelRun:
    """The preset of that name; ValueError lists the others."""
    return choose(
        name,
        {
            "debug": _world_model_debug,
            "sim": _world_model_sim,
            "towel": _world_model_towel,
            "libero": _world_model_libero,
        },
    )


def choose(name: str, presets: Mapping[str, Callable[[], T]]) -> T:
    """What the function of that name returns; ValueError lists the others."""
    if name not in presets:
        raise ValueError(f"no preset {name!r}; known: {', '.join(presets)}")
    return presets[name]()


# --- tokenizer ------------------------------------------------------------------------------------------------


def _tokenizer_sim() -> TokenizerRun:
    return TokenizerRun(
        data=DataConfig(actions_per_frame=2, held_out=0.1),
        model=TokenizerConfig(
            image_size=64,
            stem=4,
            channels=(64, 128),
            blocks=1,
            latent_channels=32,
            dynamics_patch=2,
            fsq_levels=(7, 5, 5, 5),
            attention_size=8,
            residual=True,
        ),
        loss=ReconstructionLoss(l2=2.0, perceptual=0.0),
        perceptual=PerceptualConfig(weights=Weights.NONE),
        later_frames=3,
        loop=LoopConfig(
            steps=2600,
            batch=16,
            lr=1e-3,
            warmup=100,
            decay="cosine",
            final_lr=0.02,
            ema=0.995,
            log_every=50,
            save_every=200,
            sample_every=200,
        ),
    )


def _tokenizer_debug() -> TokenizerRun:
    sim = _tokenizer_sim()
    return replace(
        sim,
        data=replace(sim.data, frames=2, held_out=0.5),
        model=replace(sim.model, image_size=32, channels=(16, 24), latent_channels=8, fsq_levels=(5, 5, 5)),
        loop=LoopConfig(steps=2, batch=2, lr=1e-3, log_every=1, save_every=1, sample_every=2),
    )


def _tokenizer_libero() -> TokenizerRun:
    return TokenizerRun(
        data=DataConfig(),
        model=TokenizerConfig(image_size=256),
        loss=ReconstructionLoss(),
        perceptual=PerceptualConfig(),
        loop=LoopConfig(
            steps=600_000, batch=16, lr=5e-4, warmup=5000, ema=0.999, workers=4, save_every=5000, sample_every=5000
        ),
    )


def _tokenizer_towel() -> TokenizerRun:
    libero = _tokenizer_libero()
    return replace(libero, loop=replace(libero.loop, steps=24_000, warmup=1000, save_every=2000, sample_every=2000))


# --- world model ----------------------------------------------------------------------------------------------


def _world_model_sim() -> WorldModelRun:
    return WorldModelRun(
        data=_tokenizer_sim().data,
        model=WorldModelConfig(
            layers=4, width=192, ffn_width=512, heads=6, heads_per_kv=3, max_positions=512, slots=True, dropout=0.1
        ),
        action_bins=0,
        looks=4,
        use_state=True,
        loop=LoopConfig(
            steps=4000, batch=16, lr=1.2e-3, warmup=200, decay="cosine", final_lr=0.02, weight_decay=0.01, ema=0.995,
            log_every=50,
        ),
    )  # fmt: skip


def _world_model_debug() -> WorldModelRun:
    sim = _world_model_sim()
    return replace(
        sim,
        data=_tokenizer_debug().data,
        looks=1,
        model=replace(sim.model, layers=1, width=32, ffn_width=64, heads=4, heads_per_kv=2),
        loop=_tokenizer_debug().loop,
    )


def _world_model_libero() -> WorldModelRun:
    return WorldModelRun(
        data=DataConfig(),
        model=WorldModelConfig(),
        encode_once=False,
        loop=LoopConfig(steps=150_000, batch=16, lr=5e-5, warmup=5000, workers=4, save_every=5000, sample_every=5000),
    )


def _world_model_towel() -> WorldModelRun:
    libero = _world_model_libero()
    loop = replace(libero.loop, steps=24_000, warmup=1000, save_every=2000, sample_every=2000)
    return replace(libero, loop=loop, encode_once=True)
