"""Verified rewards (section 3.3, Eq. 11, Table 4), as functions of what was rolled out. Higher is better, at most 0.

R1  how far the actions are from the demonstration's;
R2  how far imagined frames are from the frames that were recorded;
R3  how far imagined frames are from those imagined for the demonstration's actions, decoded alike: what the world model
    gets wrong in both cancels, and equal actions get exactly 0.

Legend: S start states, N rollouts of each, T frames or actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Pictures [n, 3, H, W] in [0, 1], twice -> distance [n]."""
CHUNK = 64
"""Pictures compared at once."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of Eq. 11."""

    l1: float = 1.0
    """λ₁; L1 is the mean over a frame's numbers."""
    perceptual: float = 1.0
    """λ_lp."""


def action_deviation(actions: Tensor, demonstrated: Tensor) -> Tensor:
    """R1: minus the mean absolute difference of normalised actions [S, N, T, A] from [S, T, A]: [S, N]."""
    return -(actions - demonstrated[:, None]).abs().flatten(2).mean(2)


def image_consistency(
    imagined: Tensor, reference: Tensor, config: RewardConfig, perceptual: Perceptual | None = None
) -> Tensor:
    """Eq. 11, summed over frames: imagined [S, N, T, 3, H, W] against reference [S, T, 3, H, W]: [S, N].

    R2 with recorded frames as the reference, R3 with those imagined for the demonstration's actions.
    """
    if config.perceptual > 0.0 and perceptual is None:
        raise ValueError("reward: a perceptual weight needs a perceptual distance")
    beside = reference[:, None].expand_as(imagined)
    cost = config.l1 * (imagined - beside).abs().flatten(3).mean(3)
    if perceptual is not None and config.perceptual > 0.0:
        pairs = zip(imagined.flatten(0, 2).split(CHUNK), beside.flatten(0, 2).split(CHUNK), strict=True)
        distance = torch.cat([perceptual(a, b) for a, b in pairs]).view(cost.shape)
        cost = cost + config.perceptual * distance
    return -cost.sum(2)
