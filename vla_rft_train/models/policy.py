"""The policy in two parts: `encode` looks once, `velocity` is asked K times. Export and fine-tuning build on this.

`Policy` says what every policy has; `ConvPolicy` is the small one, trained from scratch for one task. The
vision-language policy of the paper is in `vla.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vla_rft_train.models import flow
from vla_rft_train.models.conv_tower import ConvTower, ConvTowerConfig
from vla_rft_train.models.flow_head import MlpConfig, MlpHead


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What follows from the robot: sizes of the vectors that go in and come out."""

    horizon: int
    """T: actions per chunk."""
    action_dim: int
    state_dim: int


class Policy(nn.Module):
    """What a policy can do, whatever it is made of."""

    shapes: Shapes
    head: nn.Module
    """What is asked K times, (x_t, t, context, state) -> v_t; its last layer is `out`. All that fine-tuning trains."""

    def encode(self, images: Tensor, prompt_tokens: Tensor, state: Tensor) -> Tensor:
        """images [B, 3, S, S] in [0, 1], prompt_tokens int64 [B, L], state [B, state_dim] normalised -> context."""
        raise NotImplementedError

    def velocity(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """x_t [B, T, A] normalised, t [B] in [0, 1] -> v_t [B, T, A]."""
        raise NotImplementedError

    def conditioned(self, context: Tensor, state: Tensor) -> flow.Velocity:
        """`velocity` of one observation, for deployment: a head with much to compute of the context does it here, once.

        Not for sharded weights, which are whole inside of a block's own call only.
        """
        return lambda x_t, t: self.velocity(x_t, t, context, state)

    def sample(
        self, images: Tensor, prompt_tokens: Tensor, state: Tensor, noise: Tensor, *, num_steps: int = 10
    ) -> Tensor:
        """Actions [B, T, A], normalised, that this noise [B, T, A] flows to."""
        context = self.encode(images, prompt_tokens, state)
        return flow.integrate(lambda x_t, t: self.velocity(x_t, t, context, state), noise, num_steps)

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Where chunks start: [count, T, A] from a standard normal distribution."""
        return torch.randn(count, self.shapes.horizon, self.shapes.action_dim, generator=generator)


@dataclass(frozen=True, kw_only=True)
class ConvPolicyConfig:
    """The small policy."""

    image_size: int = 96
    tower: ConvTowerConfig = field(default_factory=ConvTowerConfig)
    head: MlpConfig = field(default_factory=MlpConfig)
    tokenizer: ClassVar[str] = "none"
    prompt_length: ClassVar[int] = 0


class ConvPolicy(Policy):
    """One task, one camera: the prompt is not read."""

    def __init__(self, config: ConvPolicyConfig, shapes: Shapes) -> None:
        super().__init__()
        self.config, self.shapes = config, shapes
        self.tower = ConvTower(config.tower)
        self.head = MlpHead(
            config.head,
            horizon=shapes.horizon,
            action_dim=shapes.action_dim,
            state_dim=shapes.state_dim,
            context_dim=config.tower.out,
        )

    def encode(self, images: Tensor, prompt_tokens: Tensor, state: Tensor) -> Tensor:
        """Context [B, C]."""
        return self.encode_with_points(images)[0]

    def encode_with_points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Context [B, C] and the points [B, P, 2] behind it."""
        found: tuple[Tensor, Tensor] = self.tower(images)
        return found

    def velocity(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """v_t [B, T, A]."""
        v_t: Tensor = self.head(x_t, t, context, state)
        return v_t
