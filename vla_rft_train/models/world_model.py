"""The world model (section 3.2, Eq. 3): a LLaMA that predicts the dynamics tokens of the frames that actions lead to.

Trained by next-token prediction over the sequence of `layout`; the loss counts the dynamics tokens of the predicted
frames only (context, frame 0, state and actions are given). Actions come in the unit and range of the checkpoint's
norm_stats: as discrete tokens (the paper) or as one continuous embedding per frame. It never sees pixels.

Legend: B batch, T predicted frames, Kc Kd tokens, A numbers per frame's actions, L positions, E width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from vla_rft_train.models.layout import TokenLayout


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Sizes of the transformer; the defaults are the paper's Table 5."""

    layers: int = 12
    width: int = 768
    ffn_width: int = 3072
    heads: int = 12
    heads_per_kv: int = 1
    """Query heads that share one head of keys and values (1: the paper). More makes rollouts faster: a step of decoding
    is bound by reading keys and values."""
    max_positions: int = 8192
    slots: bool = False
    """Learned embeddings of a token's place within its frame beside RoPE; helps small models, not in the paper."""
    dropout: float = 0.0
    """Of the embeddings, in training."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is not a multiple of the {self.heads} heads")
        if self.heads_per_kv < 1 or self.heads % self.heads_per_kv:
            raise ValueError(f"heads: {self.heads} is not a multiple of heads_per_kv = {self.heads_per_kv}")

    @property
    def head_width(self) -> int:
        """Numbers of one head."""
        return self.width // self.heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads // self.heads_per_kv


class WorldModel(nn.Module):
    """Token sequences to next-token logits."""

    def __init__(self, config: WorldModelConfig, layout: TokenLayout) -> None:
        super().__init__()
        self.config, self.layout = config, layout
        self.llama = LlamaModel(
            LlamaConfig(
                vocab_size=layout.vocab_size,
                bos_token_id=layout.bos_id,
                eos_token_id=layout.eos_id,
                hidden_size=config.width,
                intermediate_size=config.ffn_width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                max_position_embeddings=config.max_positions,
                hidden_act="silu",
                use_cache=False,
                attn_implementation="sdpa",
            )
        )
        self.head = nn.Linear(config.width, layout.vocab_size, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)
        self.action_in = _projection(
            layout.action_dim * layout.actions_per_frame, config.width, layout.action_bins == 0
        )
        self.state_in = _projection(layout.state_dim, config.width, layout.state_dim > 0)
        self.slot = nn.Embedding(layout.prefix + layout.per_frame, config.width) if config.slots else None
        if self.slot is not None:
            nn.init.normal_(self.slot.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)

    # --- embeddings -------------------------------------------------------------------------------------------

    def embed_prefix(self, context_codes: Tensor, state: Tensor | None, dynamics_codes: Tensor) -> Tensor:
        """Context codes [B, Kc], normalised state [B, S] (None where the layout has none), frame 0's codes [B, Kd].

        Returns [B, prefix, E].
        """
        parts = [self._token(context_codes + self.layout.context_id)]
        if self.state_in is not None:
            if state is None:
                raise ValueError(f"this world model wants a state of {self.layout.state_dim} numbers")
            parts.append(self.state_in(state.to(self.head.weight.dtype))[:, None])
        return self._slotted(torch.cat([*parts, self._token(dynamics_codes)], dim=1), 0)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Normalised actions of N frames, [..., N, actions_per_frame, action_dim] -> [..., N, action tokens, E]."""
        flat = actions.flatten(-2)
        if self.action_in is not None:
            embedded = self.action_in(flat.to(self.head.weight.dtype))[..., None, :]
        else:
            embedded = self._token(action_ids(flat, self.layout))
        return self._slotted(embedded, self.layout.prefix)

    def embed_dynamics(self, codes: Tensor, first: int = 0) -> Tensor:
        """Codes [..., n] at places first.. of their frame -> [..., n, E]."""
        return self._slotted(self._token(codes), self.layout.prefix + self.layout.action_tokens + first)

    def _token(self, ids: Tensor) -> Tensor:
        return self.llama.embed_tokens(ids)

    def _slotted(self, embedded: Tensor, first: int) -> Tensor:
        if self.slot is None:
            return embedded
        return embedded + self.slot.weight[first : first + embedded.shape[-2]]

    # --- train ------------------------------------------------------------------------------------------------

    def forward(self, context_codes: Tensor, codes: Tensor, actions: Tensor, state: Tensor | None = None) -> Tensor:
        """Logits [B, T, Kd, codebook] of every dynamics token of frames 1..T, each given all before it.

        context_codes [B, Kc], codes [B, 1 + T, Kd], actions normalised [B, T, actions_per_frame, action_dim],
        state normalised [B, S] or None.
        """
        time = codes.shape[1] - 1
        prefix = self.embed_prefix(context_codes, state, codes[:, 0])
        steps = torch.cat([self.embed_actions(actions), self.embed_dynamics(codes[:, 1:])], dim=2)
        sequence = torch.cat([prefix, rearrange(steps, "b t k e -> b (t k) e")], dim=1)
        hidden = self.llama(inputs_embeds=self.dropout(sequence)).last_hidden_state
        # A position predicts the next one: what predicts a dynamics token stands one place before it.
        tail = rearrange(hidden[:, self.layout.prefix :], "b (t k) e -> b t k e", t=time)
        predicts = tail[:, :, self.layout.action_tokens - 1 : -1]
        return F.linear(predicts, self.head.weight[: self.layout.codebook_size])

    def loss(self, context_codes: Tensor, codes: Tensor, actions: Tensor, state: Tensor | None = None) -> Tensor:
        """Eq. 3, per token: mean cross-entropy [nats] over the dynamics tokens of the predicted frames."""
        logits = self(context_codes, codes, actions, state)
        return F.cross_entropy(logits.flatten(0, 2).float(), codes[:, 1:].flatten())


def action_ids(actions: Tensor, layout: TokenLayout) -> Tensor:
    """Normalised actions in [-1, 1] (clipped) -> ids of their bins, of the same shape."""
    bins = ((actions.clamp(-1.0, 1.0) + 1.0) * (0.5 * layout.action_bins)).long()
    return bins.clamp(max=layout.action_bins - 1) + layout.action_id


def _projection(inputs: int, width: int, wanted: bool) -> nn.Sequential | None:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width)) if wanted else None
