"""The policy as a chain of Gaussians (section 3.3, Eqs. 5-8): flow matching's Euler steps with learned noise.

    x_0 ~ N(0, I),  mu_k = x_k + δ v_θ(x_k, kδ),  x_{k+1} ~ N(mu_k, σ_ψ(k)²),  k = 0 .. K-1,  δ = 1/K

x_K is the action chunk. Evaluation and export leave the noise out and integrate the same velocity. All of this is
computed in float32 outside autocast, whatever the policy's own precision: a log-density of size 20 in bfloat16 is
rounded to eighths, which is the size of the clip. Knows nothing of rewards.

Legend: B chunks, K steps, T actions, A numbers per action.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from vla_rft_core.config import did_you_mean

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, T, A], t [B]) -> v_t [B, T, A]."""
Deviation = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, T, A], t [B]) -> standard deviations [B, T, A], positive."""

_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


class OverSteps(StrEnum):
    """How log-densities of the K steps become one number per chunk."""

    MEAN = "mean"
    """Eq. 8."""
    SUM = "sum"
    """The density of the whole chain (the public code)."""


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """How the chain is played."""

    num_steps: int = 10
    """K."""
    over_steps: OverSteps = OverSteps.MEAN
    shared_noise: bool = False
    """All rollouts of a start state begin at one x_0: what that does to the reward is no rollout's merit, and Eq. 12
    takes it out. Off: every rollout begins at its own (Algorithm 1)."""
    noise_scale: float = 1.0
    """Of x_0, in fine-tuning and where held-out start states are judged: 0 = always from zero. Fine-tune what will be
    played: a policy that is evaluated and deployed from zero noise learns nothing from starts that it never has."""
    correlation: float = 0.0
    """Of the noise of neighbouring actions of a chunk, an autoregression over time; 0 = independent (Eq. 7). What is
    tried out lasts then, and is of few effective dimensions (not in the paper; Eberhard et al., ICLR 2023)."""
    natural: bool = False
    """Learn by the natural gradient of the chunk's mean, Eq. 13's times the noise's covariance: what was tried out is
    what is learned. Else the little that noise holds of quick changes, or of a number that it hardly moves, is blown
    up."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"chain: num_steps must be at least 1, got {self.num_steps}")
        if not 0.0 <= self.noise_scale <= 1.0:
            raise ValueError(f"chain: noise_scale must lie within [0, 1], got {self.noise_scale:g}")
        if not 0.0 <= self.correlation < 1.0:
            raise ValueError(f"chain: correlation must lie within [0, 1), got {self.correlation:g}")


@dataclass(frozen=True, kw_only=True)
class SigmaConfig:
    """Bounds of the noise per step, in normalised actions; over K steps without contraction it grows by sqrt(K)."""

    low: float = 0.08
    high: float = 0.20
    sees_actions: bool = False
    """Also give it x_k; the paper's inputs are z, s and k."""
    numbers: tuple[str, ...] = ()
    """Of an action, by name: those that are tried out; empty = all (Eq. 7). What a reward does not see is moved by
    nothing but its noise."""

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.high:
            raise ValueError(f"sigma: need 0 < low <= high, got low {self.low}, high {self.high}")


class SigmaNet(nn.Module):
    """Standard deviations of every step (Eq. 7); the architecture of a flow head, starting between its bounds.

    head: the flow head that it mirrors; called as it is, with (x_t, t, context, state), and with its last layer `out`.
    """

    def __init__(self, head: nn.Module, config: SigmaConfig, names: Sequence[str]) -> None:
        """names: of an action's numbers. ValueError for a number to be tried out that is none of them."""
        super().__init__()
        self.config = config
        self.head = copy.deepcopy(head).requires_grad_(True)
        nn.init.zeros_(self.head.out.weight)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(self.head.out.bias)  # type: ignore[union-attr, arg-type]
        for number in config.numbers:
            if number not in names:
                raise ValueError(f"sigma.numbers: no {number!r}{did_you_mean(number, list(names))}")
        tried = [not config.numbers or name in config.numbers for name in names]
        self.register_buffer("_tried", torch.tensor(tried), persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """[B, T, A] within the bounds, 0 for a number that is not tried out; log-linear in a squashed output, as in
        ReinFlow (arXiv 2505.22094).
        """
        seen = x_t if self.config.sees_actions else torch.zeros_like(x_t)
        place = 0.5 * (torch.tanh(self.head(seen, t, context, state)) + 1.0)
        low, high = math.log(self.config.low), math.log(self.config.high)
        return torch.exp(low + (high - low) * place) * self._tried


@dataclass(frozen=True, eq=False)
class Chain:
    """What happened between noise and action."""

    x: Tensor
    """[K + 1, B, T, A], x[0] the noise, x[K] the chunk. No gradient."""
    correlation: float = 0.0
    """Of the steps' noise between neighbouring actions."""

    @property
    def actions(self) -> Tensor:
        """[B, T, A], normalised."""
        return self.x[-1]

    @property
    def steps(self) -> int:
        """K."""
        return len(self.x) - 1


@torch.no_grad()
def sample(velocity: Velocity, sigma: Deviation, noise: Tensor, draws: Tensor, *, correlation: float = 0.0) -> Chain:
    """Play the chain from `noise` [B, T, A] with standard normal `draws` [K, B, T, A]."""
    x, steps = [noise], len(draws)
    for k, draw in enumerate(coloured(draws, correlation)):
        t = torch.full((len(noise),), k / steps, device=noise.device, dtype=noise.dtype)
        x.append(_mean(velocity, x[-1], t, steps) + sigma(x[-1], t) * draw)
    return Chain(torch.stack(x), correlation)


def log_prob(
    velocity: Velocity,
    sigma: Deviation,
    chain: Chain,
    over_steps: OverSteps = OverSteps.MEAN,
    *,
    natural: bool = False,
) -> Tensor:
    """Log-density of every number of the chunk given those before it, [B, T, A]: Eq. 8 is its sum over a chunk.

    Nothing for what is not tried out (a deviation of 0). With gradients; natural: those of the mean are multiplied by
    the noise's covariance, in units of its mean variance.
    """
    total = torch.zeros_like(chain.actions)
    for k in range(chain.steps):
        x, after = chain.x[k], chain.x[k + 1]
        t = torch.full((x.shape[0],), k / chain.steps, device=x.device, dtype=x.dtype)
        std = sigma(x, t)
        tried = std > 0.0
        std = std.where(tried, 1.0)
        mean = _mean(velocity, x, t, chain.steps)
        square = whitened((after - (mean.detach() if natural else mean)) / std, chain.correlation) ** 2
        if natural:  # the same value, but the mean is pulled to where the noise went, as far as it went
            apart = (after - mean) ** 2 / (std[tried] ** 2).mean().detach()
            square = square + apart - apart.detach()
        density = -0.5 * square - std.log() - _LOG_ROOT_2PI
        density[:, 1:] -= 0.5 * math.log1p(-(chain.correlation**2))
        total = total + density.where(tried, 0.0)
    return total / chain.steps if over_steps is OverSteps.MEAN else total


def entropy(sigma: Deviation, chain: Chain) -> Tensor:
    """Mean entropy [nats] of a number of a step by itself, over what is tried out: [B]. With gradients."""
    parts = []
    for k in range(chain.steps):
        t = torch.full((chain.x.shape[1],), k / chain.steps, device=chain.x.device, dtype=chain.x.dtype)
        std = sigma(chain.x[k], t).flatten(1)
        tried = std > 0.0
        parts.append(std.where(tried, 1.0).log().sum(1) / tried.sum(1))
    return torch.stack(parts).mean(0) + _LOG_ROOT_2PI + 0.5


def coloured(white: Tensor, correlation: float) -> Tensor:
    """Independent draws [..., T, A] of variance 1 -> the same, correlated over T, each still of variance 1."""
    if not correlation:
        return white
    e = [white[..., 0, :]]
    for t in range(1, white.shape[-2]):
        e.append(correlation * e[-1] + math.sqrt(1.0 - correlation**2) * white[..., t, :])
    return torch.stack(e, dim=-2)


def whitened(e: Tensor, correlation: float) -> Tensor:
    """The inverse of `coloured`."""
    if not correlation:
        return e
    later = (e[..., 1:, :] - correlation * e[..., :-1, :]) / math.sqrt(1.0 - correlation**2)
    return torch.cat([e[..., :1, :], later], dim=-2)


def _mean(velocity: Velocity, x: Tensor, t: Tensor, steps: int) -> Tensor:
    """Eq. 5."""
    return x + velocity(x, t) / steps
