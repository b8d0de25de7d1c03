"""StochasticPolicy: a trained policy whose flow head and sigma net are fine-tuned, everything before them frozen.

The frozen part looks once per start state; chains and log-densities of its whole group use that one context. It is
always in evaluation mode, dropout off, so that the ratio is 1 before the first update; and head, sigma net and
log-densities compute in the parameters' own precision, float32, outside autocast.

Legend: S start states, N rollouts of each, B = S * N chunks, K steps, T actions, A numbers per action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rft_train.models import flow
from vla_rft_train.models.policy import Policy
from vla_rft_train.rft import grpo, sde
from vla_rft_train.rft.grpo import GrpoConfig
from vla_rft_train.rft.sde import Chain, ChainConfig, SigmaConfig, SigmaNet
from vla_rft_train.stages import as_float


@dataclass(frozen=True, eq=False)
class Experience:
    """What was played from S start states, and what it was worth. No gradients."""

    context: Tensor
    """[S, ...] what the frozen part saw."""
    state: Tensor
    """[S, state_dim]"""
    demonstrated: Tensor
    """[S, T, A]"""
    chain: Chain
    """Of B chunks, a group's one after the other."""
    old: Tensor
    """[B, T, A] log-densities when it was played."""
    flow_noise: Tensor
    """[B, T, A] and"""
    flow_time: Tensor
    """[B] of the auxiliary flow-matching loss."""
    rewards: Tensor
    """[S, N]"""
    advantages: Tensor
    """[B]"""


class StochasticPolicy(nn.Module):
    """Policy and sigma net. Called with an experience it returns Eq. 13 and what is worth knowing about it."""

    def __init__(
        self, policy: Policy, chain: ChainConfig, sigma: SigmaConfig, objective: GrpoConfig, names: Sequence[str]
    ) -> None:
        """names: of an action's numbers."""
        super().__init__()
        self.policy = policy.requires_grad_(False)
        self.policy.head.requires_grad_(True)
        self.sigma = SigmaNet(policy.head, sigma, names)
        self.names = tuple(names)
        self.config, self.objective = chain, objective
        self.eval()

    def train(self, mode: bool = True) -> StochasticPolicy:
        """It has no training mode."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The context [S, ...] of a batch of `StartStates`."""
        context = self.policy.encode(as_float(batch["image"]), batch["prompt_tokens"], batch["state"])
        return context.to(batch["state"].dtype)

    def parts(self, context: Tensor, state: Tensor, times: int) -> tuple[sde.Velocity, sde.Deviation]:
        """v_θ and σ_ψ of `times` chunks from each of S start states, all of a group at one time t."""

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            return self.policy.velocity(x_t, t[::times], context, state)

        def sigma(x_t: Tensor, t: Tensor) -> Tensor:
            seen = x_t if self.sigma.config.sees_actions else x_t[::times]
            deviation: Tensor = self.sigma(seen, t[::times], context, state)  # without x_k the same for a whole group
            return deviation.repeat_interleave(len(x_t) // len(deviation), dim=0)

        return velocity, sigma

    @torch.no_grad()
    def act(self, context: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """Chunks [S, T, A] as evaluation and export sample them: without noise on the way."""
        return flow.integrate(self.parts(context, state, 1)[0], noise, self.config.num_steps)

    @torch.no_grad()
    def play(self, context: Tensor, state: Tensor, draws: Draws) -> tuple[Chain, Tensor]:
        """A group of chains from every start state, and their log-densities [B, T, A]."""
        velocity, sigma = self.parts(context, state, draws.group)
        chain = sde.sample(velocity, sigma, draws.noise, draws.steps, correlation=self.config.correlation)
        return chain, sde.log_prob(velocity, sigma, chain, self.config.over_steps)

    def forward(self, seen: Experience) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 13 and figures, scalars."""
        config, group = self.objective, len(seen.old) // len(seen.context)
        velocity, sigma = self.parts(seen.context, seen.state, group)
        now = sde.log_prob(velocity, sigma, seen.chain, self.config.over_steps, natural=self.config.natural)
        ratio = grpo.ratios(now, seen.old, config)
        policy_loss = grpo.surrogate(ratio, seen.advantages, config)
        entropy = sde.entropy(sigma, seen.chain).mean()
        mse = self._flow_loss(seen, group) if config.mse > 0.0 else torch.zeros_like(policy_loss)
        loss = grpo.objective(policy_loss, mse, entropy, config)
        figures = {
            "policy_loss": policy_loss,
            "mse": mse,
            "entropy": entropy,
            "ratio_mean": ratio.mean(),
            "ratio_min": ratio.min(),
            "ratio_max": ratio.max(),
            "clip_fraction": grpo.clipped_share(ratio, config),
            "kl": grpo.kl_estimate(now, seen.old),
        }
        return loss, {name: value.detach() for name, value in figures.items()}

    def _flow_loss(self, seen: Experience, group: int) -> Tensor:
        """Eq. 4 over as many noises and times as there are rollouts."""
        context, state, actions = (
            x.repeat_interleave(group, dim=0) for x in (seen.context, seen.state, seen.demonstrated)
        )
        x_t, u_t = flow.interpolate(seen.flow_noise, actions, seen.flow_time)
        return F.mse_loss(self.policy.velocity(x_t, seen.flow_time, context, state), u_t)

    @torch.no_grad()
    def sigmas(self, context: Tensor, state: Tensor) -> Tensor:
        """[K, S, T, A] what σ_ψ gives at every step; with x_k as an input, at x_k = 0."""
        shapes, steps = self.policy.shapes, self.config.num_steps
        x = state.new_zeros(len(state), shapes.horizon, shapes.action_dim)
        sigma = self.parts(context, state, 1)[1]
        return torch.stack([sigma(x, x.new_full((len(x),), k / steps)) for k in range(steps)])


@dataclass(frozen=True, eq=False)
class Draws:
    """All randomness of a step, by start state: the same in any batch, on any number of processes."""

    group: int
    noise: Tensor
    """[B, T, A] x_0."""
    steps: Tensor
    """[K, B, T, A] of the steps between."""
    flow_noise: Tensor
    """[B, T, A]"""
    flow_time: Tensor
    """[B]"""

    @classmethod
    def of(
        cls, ids: Sequence[int], policy: StochasticPolicy, *, group: int, key: tuple[int, int], like: Tensor
    ) -> Draws:
        """key: seed and step. like: says the precision and the device."""
        config, shapes = policy.config, policy.policy.shapes
        chunk, made = (shapes.horizon, shapes.action_dim), []
        for state in ids:
            generator = torch.Generator().manual_seed(hash((*key, state)) % 2**63)
            noise = torch.randn(1 if config.shared_noise else group, *chunk, generator=generator, dtype=like.dtype)
            steps = torch.randn(config.num_steps, group, *chunk, generator=generator, dtype=like.dtype)
            flow_noise = torch.randn(group, *chunk, generator=generator, dtype=like.dtype)
            time = torch.rand(group, generator=generator, dtype=like.dtype) ** (1.0 / flow.TIME_ALPHA)
            noise = config.noise_scale * noise
            made.append((noise.expand(group, *chunk), steps, flow_noise, time))
        noises, steps_of, flow_noises, times = zip(*made, strict=True)
        parts = torch.cat(noises), torch.cat(steps_of, dim=1), torch.cat(flow_noises), torch.cat(times)
        return cls(group, *(part.to(like.device) for part in parts))
