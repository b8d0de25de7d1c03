"""Verified rewards (section 3.3, Eq. 11, Table 4), as functions of what was rolled out. Higher is better.

R1  how far the actions are from the demonstration's;
R2  how far imagined frames are from the frames that were recorded;
R3  how far imagined frames are from those imagined for the demonstration's actions, decoded alike: what the world model
    gets wrong in both cancels, and equal actions get exactly 0.

A `Reward` is one of them plus any further terms, each a function of a `Scene`: that is where others plug in.
Legend: S start states, N rollouts of each, T actions, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Pictures [n, 3, H, W] in [0, 1], twice -> distance [n]."""
CHUNK = 64
"""Pictures compared at once."""


class Design(StrEnum):
    """Table 4."""

    ACTION = "R1"
    IMAGE = "R2"
    MODEL = "R3"
    NONE = "none"
    """Further terms alone."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Which reward; weights of Eq. 11 and of the outcome."""

    design: Design = Design.MODEL
    l1: float = 1.0
    """λ₁; L1 is the mean over a frame's numbers."""
    perceptual: float = 1.0
    """λ_lp."""
    action: float = 0.0
    """Weight of R1 beside R2 or R3, for what pictures do not show (not in the paper)."""
    outcome: float = 0.0
    """Weight of the terminal outcome: the probability of success that a head sees in the last imagined frame."""
    outcome_head: str = ""
    """Checkpoint of that head (`python -m vla_rft_train.rft.outcome`)."""

    def __post_init__(self) -> None:
        if min(self.l1, self.perceptual, self.action, self.outcome) < 0.0:
            raise ValueError(f"reward: weights must not be negative, got {self}")
        if self.design is Design.NONE and not self.outcome:
            raise ValueError("reward: design 'none' leaves nothing to reward; give the outcome a weight")
        if self.action and self.design not in (Design.IMAGE, Design.MODEL):
            raise ValueError(f"reward.action: stands beside R2 or R3, not design {self.design.value!r}")
        if self.outcome and not self.outcome_head:
            raise ValueError("reward.outcome_head: name the checkpoint of the outcome's head")

    @property
    def imagines(self) -> bool:
        """Whether a world model is needed."""
        return self.design is not Design.ACTION or self.outcome > 0.0

    @property
    def compares_pictures(self) -> bool:
        """Whether a perceptual distance is needed."""
        return self.design in (Design.IMAGE, Design.MODEL) and self.perceptual > 0.0


@dataclass(frozen=True, eq=False)
class Frames:
    """What was imagined, pictures in [0, 1]."""

    first: Tensor
    """[S, 3, H, W] where it starts, as recorded."""
    imagined: Tensor
    """[S, N, F, 3, H, W] for the policy's actions."""
    reference: Tensor
    """[S, F, 3, H, W] for the demonstration's actions."""
    recorded: Tensor
    """[S, F, 3, H, W] what really followed the demonstration's."""


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a reward may look at."""

    actions: Tensor
    """[S, N, T, A] normalised."""
    demonstrated: Tensor
    """[S, T, A] normalised."""
    frames: Frames | None
    """None where nothing is imagined."""


Term = Callable[[Scene], Tensor]
"""Scene -> [S, N]."""


class Reward:
    """A design of Table 4 and weighted further terms: called with a scene, it returns total and parts, [S, N] each."""

    def __init__(
        self,
        config: RewardConfig,
        *,
        perceptual: Perceptual | None = None,
        extra: Mapping[str, tuple[float, Term]] | None = None,
    ) -> None:
        self.config = config
        if config.compares_pictures and perceptual is None:
            raise ValueError("reward: a perceptual weight needs a perceptual distance")
        designs: dict[Design, Term] = {
            Design.ACTION: lambda scene: action_deviation(scene.actions, scene.demonstrated),
            Design.IMAGE: lambda scene: _against(scene, "recorded", config, perceptual),
            Design.MODEL: lambda scene: _against(scene, "reference", config, perceptual),
        }
        self._terms: dict[str, tuple[float, Term]] = dict(extra or {})
        if config.design is not Design.NONE:
            self._terms = {config.design.value: (1.0, designs[config.design])} | self._terms
        if config.action:
            self._terms[Design.ACTION.value] = (config.action, designs[Design.ACTION])

    @torch.no_grad()
    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """(sum of the weighted terms, each term before weighting)."""
        parts = {name: term(scene) for name, (_, term) in self._terms.items()}
        total = torch.stack([weight * parts[name] for name, (weight, _) in self._terms.items()]).sum(0)
        return total, parts


def _against(scene: Scene, what: str, config: RewardConfig, perceptual: Perceptual | None) -> Tensor:
    if scene.frames is None:
        raise ValueError(f"reward {config.design.value}: compares frames, and nothing was imagined")
    return image_consistency(scene.frames.imagined, getattr(scene.frames, what), config, perceptual)


def action_deviation(actions: Tensor, demonstrated: Tensor) -> Tensor:
    """R1: minus the mean absolute difference of normalised actions [S, N, T, A] from [S, T, A]: [S, N]."""
    return -(actions - demonstrated[:, None]).abs().flatten(2).mean(2)


def image_consistency(
    imagined: Tensor, reference: Tensor, config: RewardConfig, perceptual: Perceptual | None = None
) -> Tensor:
    """Eq. 11, summed over frames: imagined [S, N, F, 3, H, W] against reference [S, F, 3, H, W]: [S, N].

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
