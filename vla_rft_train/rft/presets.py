"""Presets of stage II: functions of the name, from seconds on a CPU to the paper's Tables 4 and 7.

debug: two steps in a test. sim: the shipped towel policy on two CPU cores, with learning rates and bounds of its own.
towel: the paper's real robot (200 steps). libero: Table 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vla_rft_core.spec import TOWEL_ACTION_LAYOUT
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.models.perceptual import PerceptualConfig, Weights
from vla_rft_train.presets import choose
from vla_rft_train.rft.grpo import GrpoConfig, Spread
from vla_rft_train.rft.rewards import Design, RewardConfig
from vla_rft_train.rft.sde import ChainConfig, SigmaConfig
from vla_rft_train.rollout import Precision, RolloutConfig

TRANSLATIONS = TOWEL_ACTION_LAYOUT[:3]


class GoesOn(StrEnum):
    """Whose actions follow a chunk in the frames beyond it."""

    DEMONSTRATION = "demonstration"
    """What was done there: what the chunk has done wrong stays in view."""
    POLICY = "policy"
    """The policy's own, chunk after chunk, each from the last frame imagined; frames are a multiple of a chunk's."""


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Where rollouts start, and how far they are looked at."""

    dataset: str = ""
    """Folder of a LeRobot v3 dataset."""
    camera: str = ""
    """Name of the camera; empty = the only one."""
    frames: int = 0
    """F: frames imagined after a start state; 0 = those that the chunk leads to."""
    goes_on: GoesOn = GoesOn.DEMONSTRATION
    """Beyond the chunk's own frames."""
    around_grasps: int = 0
    """How often more a start state counts whose chunk opens or closes the gripper."""
    held_out: float = 0.02
    """Fraction of the episodes kept for validation. By the same `split_seed` a smaller fraction is part of a larger
    one, so that what the policy's own training kept out is out here too when this is no smaller."""
    split_seed: int = 0
    validated: int = 64
    """Held-out start states over which error and reward are logged."""
    keep_frames: bool = True
    """Decode all of the policy's pictures before the first step and keep them; else `cache_gb` of them."""
    cache_gb: float = 2.0


@dataclass(frozen=True, kw_only=True)
class RftRun:
    """Everything that decides a fine-tuning."""

    data: StartConfig = field(default_factory=StartConfig)
    policy: str = ""
    """Checkpoint to start from."""
    world_model: str = ""
    """Checkpoint of the world model; not needed by R1 alone."""
    tokenizer: str = ""
    """Checkpoint of the world model's tokenizer."""
    augment: bool = False
    """Show the policy its start states as its own training did, augmented, a group alike (not in the paper)."""
    group: int = 16
    """N: rollouts of every start state."""
    chain: ChainConfig = field(default_factory=ChainConfig)
    sigma: SigmaConfig = field(default_factory=SigmaConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    epochs: int = 1
    """How often the rollouts of a step are learned from."""
    minibatches: int = 1
    """Optimiser steps per epoch; each takes `loop.accumulate` / this many micro-batches."""
    sigma_lr: float = 1e-5
    """Peak learning rate of the sigma net (Table 7); `loop.lr` is that of the flow head."""
    validate_every: int = 10
    """Steps between figures over held-out start states."""
    loop: LoopConfig

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(
                f"group: a rollout is compared with the others of its group, so at least 2; got {self.group}"
            )
        if min(self.epochs, self.minibatches, self.validate_every) < 1 or self.loop.accumulate % self.minibatches:
            raise ValueError(
                f"epochs, minibatches and validate_every: at least 1, and minibatches must divide loop.accumulate; got "
                f"{self.epochs}, {self.minibatches}, {self.validate_every} and {self.loop.accumulate}"
            )
        if not self.sigma_lr > 0.0:
            raise ValueError(f"sigma_lr must be positive, got {self.sigma_lr}")
        if self.loop.parallel != "ddp":
            raise ValueError(
                f"loop.parallel: what is fine-tuned is small and replicated: 'ddp', got {self.loop.parallel!r}"
            )


def rft_run(name: str) -> RftRun:
    """The preset of that name; ValueError lists the others."""
    presets: dict[str, Callable[[], RftRun]] = {
        "debug": _debug, "sim": _sim, "sim-r1": _sim_r1, "sim-r3-r1": _sim_r3_r1, "towel": _towel, "libero": _libero,
    }  # fmt: skip
    return choose(name, presets)


def trying_every_number(run: RftRun) -> RftRun:
    """The run with noise for a reward that sees every number of every action (R1): all are tried, each by itself."""
    return replace(
        run,
        chain=replace(run.chain, correlation=0.0, natural=False),
        sigma=replace(run.sigma, numbers=()),
    )


def _libero() -> RftRun:
    """Table 7; one update per step, as in the public code."""
    return RftRun(
        data=StartConfig(keep_frames=False),
        rollout=RolloutConfig(precision=Precision.BFLOAT16),
        loop=LoopConfig(
            steps=400,
            batch=16,
            lr=1e-6,
            warmup=10,
            weight_decay=0.01,
            accumulate=4,
            log_every=1,
            save_every=50,
            sample_every=20,
        ),
    )


def _towel() -> RftRun:
    """The paper's real robot."""
    libero = _libero()
    return replace(libero, data=replace(libero.data, keep_frames=True), loop=replace(libero.loop, steps=200))


def _sim() -> RftRun:
    """A small policy learns at rates that would destroy a large one. No perceptual net: its weights cannot be had.

    The noise is no larger than what the policy gets wrong, so that a rollout can be better than its group's middle; it
    lasts over the chunk and moves what the camera sees, the translations; many start states are worth more than many
    rollouts of each or than frames beyond the chunk; flow matching holds what R3 does not see (docs/results).
    """
    return RftRun(
        data=StartConfig(held_out=0.1, validated=256),
        group=8,
        rollout=RolloutConfig(precision=Precision.BFLOAT16),
        chain=ChainConfig(num_steps=4, shared_noise=True, correlation=0.9, natural=True),
        sigma=SigmaConfig(low=0.03, high=0.08, numbers=TRANSLATIONS),
        grpo=GrpoConfig(spread=Spread.GROUP, mse=1.0),
        perceptual=PerceptualConfig(weights=Weights.NONE),
        reward=RewardConfig(perceptual=0.0),
        sigma_lr=1e-4,
        validate_every=50,
        loop=LoopConfig(
            steps=200, batch=64, lr=2e-4, warmup=5, decay="cosine", log_every=1, save_every=25, sample_every=20
        ),
    )


def _sim_r1() -> RftRun:
    """`sim` for R1: its noise, and rates that suit it."""
    run = trying_every_number(_sim())
    reward = replace(run.reward, design=Design.ACTION, action=0.0)
    return replace(run, reward=reward, sigma_lr=3e-4, loop=replace(run.loop, lr=3e-4))


def _sim_r3_r1() -> RftRun:
    """`sim` with R1 beside R3, for what one camera does not see: every number is tried, by noise that lasts less."""
    run = _sim()
    return replace(
        run,
        chain=replace(run.chain, correlation=0.8),
        sigma=replace(run.sigma, numbers=()),
        reward=replace(run.reward, action=1.0),
    )


def control_run(name: str) -> RftRun:
    """The preset as the R1 control wants it: nothing but the actions' reward teaches, and from many start states."""
    run = trying_every_number(rft_run("sim-r1" if name == "sim" else name))
    return replace(
        run,
        reward=replace(run.reward, design=Design.ACTION, action=0.0),
        grpo=replace(run.grpo, mse=0.0, entropy=0.0),
        group=min(run.group, 8),
        loop=run.loop if name == "sim" else replace(run.loop, batch=4 * run.loop.batch),
    )


def _debug() -> RftRun:
    sim = _sim()
    return replace(
        sim,
        data=StartConfig(held_out=0.5, validated=2),
        rollout=RolloutConfig(),
        group=3,
        chain=ChainConfig(num_steps=2),
        sigma=SigmaConfig(),
        validate_every=1,
        loop=LoopConfig(steps=2, batch=2, lr=1e-3, log_every=1, save_every=1, sample_every=2),
    )
