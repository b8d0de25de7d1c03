"""Flow heads: what predicts the velocity v_t of an action chunk from a context. Noise and action are [B, T, A].

Time, context and state come with a row per chunk, or with one per group of B / G chunks that stand one after the other
(fine-tuning's rollouts of one start state): what depends on them alone is then computed once per group.

`DitHead` is the paper's: a transformer over the chunk's time steps, adaLN from time, state and pooled context, and
cross-attention to the context's tokens in every block. `MlpHead` is the small one of the `sim` preset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rft_train.models.flow import Velocity

KeysValues = tuple[Tensor, Tensor]
"""Of one attention: [B, heads, N, W / heads] each."""


@dataclass(frozen=True, kw_only=True)
class DitConfig:
    """Size of the transformer head."""

    depth: int = 8
    width: int = 512
    heads: int = 8
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice the {self.heads} heads, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class MlpConfig:
    """Size of the small head."""

    depth: int = 3
    width: int = 192


class TimeEmbedding(nn.Module):
    """t [B] -> [B, width]. Times within [0, 1] are scaled by 1000, so that the sinusoids tell them apart."""

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        rates = torch.exp(-math.log(10_000.0) * torch.arange(frequencies) / frequencies)
        self.register_buffer("rates", 1000.0 * rates, persistent=False)
        self.net = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Sinusoids through a small network."""
        angles = t[:, None] * self.rates.to(t)
        embedded: Tensor = self.net(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return embedded


class Modulation(nn.Module):
    """adaLN-Zero: shift, scale and gate of `parts` normalised branches from one vector; zero at the start."""

    def __init__(self, condition: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(condition, 3 * parts * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """(shift, scale, gate) for each part, one after the other."""
        return self.linear(F.silu(condition)).chunk(3 * self.parts, dim=-1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1.0 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention of x [B, T, W] to keys [B, N, W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """[B, T, W]."""
        return self.attend(x, self.keys_values(keys))

    def keys_values(self, keys: Tensor) -> KeysValues:
        """What is attended to, [B, heads, N, W / heads] each; x is not needed for it."""
        k, v = (self._split(part) for part in self.kv(keys).chunk(2, dim=-1))
        return k, v

    def attend(self, x: Tensor, keys_values: KeysValues) -> Tensor:
        """[B, T, W] of x and `keys_values`."""
        attended = F.scaled_dot_product_attention(self._split(self.q(x)), *keys_values)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DitBlock(nn.Module):
    """Self-attention, cross-attention to the context, feed-forward; each modulated by the condition."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        width = config.width
        self.modulation = Modulation(width, width, parts=3)
        self.self_attention = Attention(width, config.heads)
        self.cross_attention = Attention(width, config.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.mlp_ratio * width, width),
        )

    def forward(self, x: Tensor, condition: Tensor, context: Tensor | KeysValues) -> Tensor:
        """x [B, T, W], condition [G, W], context [G, N, W] or its keys and values computed before -> [B, T, W]."""
        seen = context if isinstance(context, tuple) else self.cross_attention.keys_values(context)
        groups, times = len(condition), len(x) // len(condition)
        shift_s, scale_s, gate_s, shift_c, scale_c, gate_c, shift_f, scale_f, gate_f = (
            part.repeat_interleave(times, dim=0)[:, None] for part in self.modulation(condition)
        )
        normed = _modulated(x, shift_s, scale_s)
        x = x + gate_s * self.self_attention(normed, normed)
        # Queries do not see one another: those of a group may stand side by side and share its keys.
        queries = _modulated(x, shift_c, scale_c).reshape(groups, -1, x.shape[-1])
        x = x + gate_c * self.cross_attention.attend(queries, seen).reshape(x.shape)
        mixed: Tensor = x + gate_f * self.feed_forward(_modulated(x, shift_f, scale_f))
        return mixed


class DitHead(nn.Module):
    """v_t from x_t, t, the robot's state and context tokens; one token per time step of the chunk.

    context [B, L, N, C]: N tokens of each of L layers of the language model. With L = 1 every block attends to the
    last layer (the paper); with more, block i attends to layer i·L // depth (VLA-Adapter's bridge).
    """

    def __init__(self, config: DitConfig, *, horizon: int, action_dim: int, state_dim: int, context_dim: int) -> None:
        super().__init__()
        width = config.width
        self.actions_in = nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.context_in = nn.Linear(context_dim, width)
        self.state_in = nn.Sequential(nn.Linear(state_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.time_in = TimeEmbedding(width)
        self.position = nn.Parameter(0.02 * torch.randn(1, horizon, width))
        self.blocks = nn.ModuleList(DitBlock(config) for _ in range(config.depth))
        self.out_modulation = Modulation(width, width, parts=1)
        self.out = nn.Linear(width, action_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """x_t [B, T, A], t [G], context [G, L, N, C], state [G, S] -> v_t [B, T, A]."""
        layers, known = self._known(context, state)
        return self._velocity(x_t, t, known, self._layer_of_each_block(layers))

    def conditioned(self, context: Tensor, state: Tensor) -> Velocity:
        """The velocity of one observation: what does not depend on x_t and t is computed here, once for all steps."""
        layers, known = self._known(context, state)
        each = zip(self.blocks, self._layer_of_each_block(layers), strict=True)
        seen = [block.cross_attention.keys_values(layer) for block, layer in each]
        return lambda x_t, t: self._velocity(x_t, t, known, seen)

    def _known(self, context: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(the context's layers [G, L, N, W], what state and context add to the condition [G, W])."""
        layers = self.context_in(context)
        return layers, self.state_in(state) + layers.mean(dim=(1, 2))

    def _layer_of_each_block(self, layers: Tensor) -> list[Tensor]:
        return [layers[:, i * layers.shape[1] // len(self.blocks)] for i in range(len(self.blocks))]

    def _velocity(self, x_t: Tensor, t: Tensor, known: Tensor, seen: Sequence[Tensor | KeysValues]) -> Tensor:
        condition = self.time_in(t) + known
        x = self.actions_in(x_t) + self.position
        for block, context in zip(self.blocks, seen, strict=True):
            x = block(x, condition, context)
        times = len(x) // len(condition)
        shift, scale, gate = (part.repeat_interleave(times, dim=0)[:, None] for part in self.out_modulation(condition))
        v_t: Tensor = self.out(_modulated(x, shift, scale) * (1.0 + gate))
        return v_t


class MlpBlock(nn.Module):
    """A residual feed-forward block modulated by the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, width, parts=1)
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [G, n, W], condition [G, 1, W] -> [G, n, W]."""
        shift, scale, gate = self.modulation(condition)
        mixed: Tensor = x + gate * self.net(_modulated(x, shift, scale))
        return mixed


class MlpHead(nn.Module):
    """v_t of the whole chunk at once from one context vector; for small policies."""

    def __init__(self, config: MlpConfig, *, horizon: int, action_dim: int, state_dim: int, context_dim: int) -> None:
        super().__init__()
        width = config.width
        self.actions_in = nn.Linear(horizon * action_dim, width)
        self.condition_in = nn.Sequential(nn.Linear(context_dim + state_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.time_in = TimeEmbedding(width, frequencies=32)
        self.blocks = nn.ModuleList(MlpBlock(width) for _ in range(config.depth))
        self.out_modulation = Modulation(width, width, parts=1)
        self.out = nn.Linear(width, horizon * action_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """x_t [B, T, A], t [G], context [G, C], state [G, S] -> v_t [B, T, A]."""
        condition = (self.condition_in(torch.cat([context, state], dim=-1)) + self.time_in(t))[:, None]
        x = self.actions_in(x_t.flatten(1)).reshape(len(condition), -1, condition.shape[-1])
        for block in self.blocks:
            x = block(x, condition)
        shift, scale, gate = self.out_modulation(condition)
        v_t: Tensor = self.out(_modulated(x, shift, scale) * (1.0 + gate))
        return v_t.view_as(x_t)
