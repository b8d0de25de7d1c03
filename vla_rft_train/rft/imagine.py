"""Imagination: the frozen world model as the environment of stage II (Eq. 10). Actions in, frames out.

The demonstration's actions are one more sequence of each start state's batch: rolled out once, autoregressively, by the
same engine and with the same draws as the group (the reference of R3). A frame that several rollouts have in common,
code by code, is decoded once; equal codes therefore give equal pictures, to the last bit.

Legend: S start states, N rollouts of each, T actions, F frames, k actions per frame, A numbers per action, Kd tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from vla_rft_train.data.normalize import NormStats
from vla_rft_train.models.tokenizer import CompressiveTokenizer, Context
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.presets import TokenizerRun, WorldModelRun
from vla_rft_train.released import Released
from vla_rft_train.rft.rewards import Frames
from vla_rft_train.rollout import Precision, Prefix, RolloutConfig, RolloutEngine
from vla_rft_train.stages import as_float

DECODED = 256
"""Frames decoded at once."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Codes of a group and of its reference."""

    context: Context
    """Of the S first frames."""
    codes: Tensor
    """[S, N + 1, F, Kd], the reference last."""


class Imagination:
    """World model, its tokenizer, and the way from the policy's actions to theirs."""

    def __init__(
        self,
        world_model: Released[WorldModel, WorldModelRun],
        tokenizer: Released[CompressiveTokenizer, TokenizerRun],
        *,
        policy_actions: NormStats,
        config: RolloutConfig,
        device: torch.device,
    ) -> None:
        """policy_actions: statistics by which the policy's actions are normalised; the world model has its own."""
        if policy_actions.names != world_model.stats["action"].names:
            raise ValueError(
                f"the policy acts in {', '.join(policy_actions.names)}, the world model knows "
                f"{', '.join(world_model.stats['action'].names)}"
            )
        self._dtype = torch.bfloat16 if config.precision is Precision.BFLOAT16 else torch.float32
        self.tokenizer = tokenizer.model.to(device, memory_format=torch.channels_last)  # convolutions: a quarter faster
        self.world_model = world_model.model.to(device, self._dtype)
        self.engine = RolloutEngine(self.world_model, config)
        self._theirs, self.world_model_stats = policy_actions, world_model.stats

    @torch.no_grad()
    def rollouts(self, batch: Mapping[str, Tensor], actions: Tensor) -> Rollouts:
        """What the policy's actions [S, N, T, A], and the demonstration's, lead to from a batch of `StartStates`."""
        context, prefix = self._begin(as_float(batch["frames"][:, 0]), batch["world_state"])
        sequences = torch.cat([actions, batch["actions"][:, None]], dim=1)
        played = self.world_actions(sequences, batch["world_actions"])
        return Rollouts(context, self.engine.rollout(prefix, played, state_ids=batch["id"].tolist()))

    def _begin(self, first: Tensor, state: Tensor) -> tuple[Context, Prefix]:
        """Where rollouts of frames [S, 3, H, W] and states [S, Sd] begin; a world model without a state ignores it."""
        context, codes = self.tokenizer.encode_window(first[:, None])
        return context, self.engine.prefill(
            context.codes, state if self.world_model.layout.state_dim else None, codes[:, 0]
        )

    def first_chunk(self, batch: Mapping[str, Tensor], horizon: int) -> dict[str, Tensor]:
        """A batch of `StartStates` without what lies beyond a chunk of `horizon` actions."""
        frames = horizon // self.world_model.layout.actions_per_frame
        return {**batch, "world_actions": batch["world_actions"][:, :frames]}

    @torch.no_grad()
    def window(self, first: Tensor, state: Tensor, actions: Tensor, ids: Sequence[int]) -> Tensor:
        """Frames [B, F, 3, H, W] that physical actions [B, F * k, A] lead to from frames [B, 3, H, W], each by itself.

        state: [B, Sd], physical. ids: of each, the key of its draws.
        """
        stats, layout = self.world_model_stats, self.world_model.layout
        context, prefix = self._begin(first, stats["state"].normalize(state))
        per_frame = rearrange(stats["action"].normalize(actions), "b (f k) a -> b 1 f k a", k=layout.actions_per_frame)
        return self.decode(Rollouts(context, self.engine.rollout(prefix, per_frame, state_ids=ids)))[:, 0]

    def decode(self, rollouts: Rollouts) -> Tensor:
        """Frames [S, M, F, 3, H, W] in [0, 1], float32."""
        with torch.autocast(rollouts.codes.device.type, self._dtype, enabled=self._dtype is not torch.float32):
            return decode(self.tokenizer, rollouts).float()

    def physical(self, world_actions: Tensor) -> Tensor:
        """The world model's normalised actions [..., A] in metres and radians."""
        return self.world_model_stats["action"].unnormalize(world_actions)

    def world_actions(self, actions: Tensor, demonstrated: Tensor) -> Tensor:
        """Chunks [S, N, T, A] of the policy as the world model takes them, [S, N, F, k, A].

        demonstrated: [S, F, k, A], the world model's; what lies beyond the chunk is played after it.
        """
        per_frame = demonstrated.shape[2]
        own = self.world_model_stats["action"].normalize(self._theirs.unnormalize(actions))
        own = rearrange(own, "s n (f k) a -> s n f k a", k=per_frame)
        later = demonstrated[:, None, own.shape[2] :].expand(-1, actions.shape[1], -1, -1, -1)
        return torch.cat([own, later], dim=2)

    @torch.no_grad()
    def frames(self, batch: Mapping[str, Tensor], rollouts: Rollouts) -> Frames:
        """Pictures of everything that was rolled out."""
        decoded = self.decode(rollouts)
        recorded = as_float(batch["frames"])
        return Frames(recorded[:, 0], decoded[:, :-1], decoded[:, -1], recorded[:, 1:])


def distinct(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [S, M, F, Kd] -> (state and codes of every frame that occurs [n, 1 + Kd], where each is used [S, M, F])."""
    states = torch.arange(len(codes), device=codes.device).view(-1, 1, 1, 1).expand(*codes.shape[:3], 1)
    rows, place = torch.unique(torch.cat([states, codes], dim=3).flatten(0, 2), dim=0, return_inverse=True)
    return rows, place.view(codes.shape[:3])


def decode(tokenizer: CompressiveTokenizer, rollouts: Rollouts) -> Tensor:
    """Frames [S, M, F, 3, H, W] in [0, 1] of codes [S, M, F, Kd]."""
    rows, place = distinct(rollouts.codes)
    pictures = [
        tokenizer.decode_dynamics(part[:, None, 1:], rollouts.context.take(part[:, 0]))[:, 0]
        for part in rows.split(DECODED)
    ]
    return torch.cat(pictures).clamp(0.0, 1.0)[place]
