"""GRPO (Eqs. 9, 12 and 13) as small functions. S start states, N rollouts of each, T actions of A numbers.

Defaults are the paper's; what the public code or later work does instead is an option with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Spread(StrEnum):
    """What advantages are divided by."""

    NONE = "none"
    """Eq. 12."""
    GROUP = "group"
    """The group's standard deviation (GRPO, arXiv 2402.03300; the public code)."""


class Ratio(StrEnum):
    """What one ratio is of."""

    CHUNK = "chunk"
    """Eq. 9."""
    NUMBER = "number"
    """Every number of a chunk has its own, clipped by itself (the public code)."""


@dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """Eq. 13 and its options."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    """Larger than clip_low: asymmetric (DAPO, arXiv 2503.14476)."""
    eq13_literal: bool = False
    """The bare clip that Eq. 13 prints, which has no gradient outside; else PPO's minimum."""
    ratio: Ratio = Ratio.CHUNK
    spread: Spread = Spread.NONE
    min_spread: float = 0.0
    """Groups whose rewards span less than this teach nothing and are left out."""
    mse: float = 0.01
    """λ_mse, Table 7."""
    entropy: float = 0.003
    """α, Table 7."""

    def __post_init__(self) -> None:
        if min(self.clip_low, self.clip_high, self.min_spread, self.mse, self.entropy) < 0.0 or self.clip_low >= 1.0:
            raise ValueError(f"clips, spread and weights must not be negative, clip_low below 1; got {self}")


def advantages(rewards: Tensor, config: GrpoConfig) -> Tensor:
    """Eq. 12: rewards [S, N] minus their group's mean; zero for groups that are left out."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    span = rewards.amax(dim=1, keepdim=True) - rewards.amin(dim=1, keepdim=True)
    if config.spread is Spread.GROUP:
        centred = centred / (rewards.std(dim=1, keepdim=True) + 1e-6)
    return torch.where(span >= config.min_spread, centred, torch.zeros_like(centred))


def ratios(now: Tensor, old: Tensor, config: GrpoConfig) -> Tensor:
    """Eq. 9 from log-densities [B, T, A]: [B], or [B, T, A] when every number has its own."""
    apart = now - old
    return (apart.flatten(1).sum(1) if config.ratio is Ratio.CHUNK else apart).exp()


def surrogate(ratio: Tensor, advantage: Tensor, config: GrpoConfig) -> Tensor:
    """First term of Eq. 13, to be minimised: scalar. ratio [B] or [B, T, A], advantage [B]."""
    weight = advantage.reshape(-1, *(1,) * (ratio.dim() - 1))
    clipped = ratio.clamp(1.0 - config.clip_low, 1.0 + config.clip_high) * weight
    return -(clipped if config.eq13_literal else torch.minimum(ratio * weight, clipped)).mean()


def clipped_share(ratio: Tensor, config: GrpoConfig) -> Tensor:
    """Share of ratios outside the clip."""
    return ((ratio < 1.0 - config.clip_low) | (ratio > 1.0 + config.clip_high)).float().mean()


def kl_estimate(now: Tensor, old: Tensor) -> Tensor:
    """KL(old || now) from samples of old, r - 1 - ln r (Schulman, 2020); log-densities [B, T, A], summed per chunk."""
    apart = (now - old).flatten(1).sum(1)
    return (apart.exp() - 1.0 - apart).mean()


def objective(policy_loss: Tensor, mse: Tensor, entropy: Tensor, config: GrpoConfig) -> Tensor:
    """Eq. 13."""
    return policy_loss + config.mse * mse - config.entropy * entropy
