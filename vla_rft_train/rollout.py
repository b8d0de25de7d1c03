"""The rollout engine: what frames would follow if a group of action sequences were played from each start state.

Autoregressive decoding with a static cache. The prefix of a start state (context, state, frame 0) is computed once and
its keys and values are shared by the whole group; only what differs, actions and predicted tokens, is kept per rollout.
Action tokens are forced, and sampling is restricted to dynamics codes. On a GPU a greedy rollout is one CUDA graph.

Legend: S start states, N rollouts of a group, T frames, Kd dynamics tokens per frame, P prefix positions, L suffix
positions so far, H heads of keys and values, R queries that share one, B = S · H · N, D head width, E width, n new
positions of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from vla_rft_train.models.world_model import WorldModel, WorldModelConfig


class Sampling(StrEnum):
    """How the next token is chosen."""

    GREEDY = "greedy"
    """The most probable code: rollouts differ by their actions alone."""
    SHARED = "shared"
    """Sampled; all rollouts of a start state share one draw per token."""
    INDEPENDENT = "independent"
    """Sampled with a draw of its own per rollout (the public code; leaves little signal in R3)."""


class Precision(StrEnum):
    """What numbers are computed in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How rollouts are decoded."""

    precision: Precision = Precision.FLOAT32
    """Of stage II's world model and of the pictures decoded for its rewards; what is learned stays float32."""
    sampling: Sampling = Sampling.GREEDY
    temperature: float = 1.0
    top_p: float = 1.0
    """Sample among the most probable codes that make up this share; 1 = all."""
    seed: int = 0
    """With a start state's id it keys the draws: the same state gives the same draws in any batch."""

    def __post_init__(self) -> None:
        if not self.temperature > 0.0 or not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"temperature must be positive and top_p within (0, 1], got {self}")


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of S start states, computed once."""

    keys: list[Tensor]
    """Per layer [S, H, D, P], rotated: transposed, as every step multiplies with them."""
    values: list[Tensor]
    """Per layer [S, H, P, D]."""

    @property
    def states(self) -> int:
        """S."""
        return self.keys[0].shape[0]


class _Suffix:
    """Keys and values behind the prefix, per layer: of what is complete, and of the frame that grows.

    What is complete lies in one piece: products with it are bound by memory, and with a slice of a larger buffer they
    take two to four times as long on a CPU.
    """

    def __init__(self, layers: int, batch: int, per_frame: int, like: Tensor, width: int) -> None:
        shape = (2, batch, per_frame, width)
        self._complete = [like.new_empty(2, batch, 0, width) for _ in range(layers)]
        self._growing = [like.new_empty(shape) for _ in range(layers)]
        self._filled = 0

    def complete_frame(self) -> None:
        """What grew until now is complete."""
        grown = [part[:, :, : self._filled] for part in self._growing]
        self._complete = [torch.cat(pair, dim=2) for pair in zip(self._complete, grown, strict=True)]
        self._filled = 0

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add n positions [B, n, D]: (keys and values of what is complete, and of what grows), [2, B, L, D] each."""
        end = self._filled + keys.shape[1]
        self._growing[layer][0, :, self._filled : end] = keys
        self._growing[layer][1, :, self._filled : end] = values
        return self._complete[layer], self._growing[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """All layers have put their `count` positions."""
        self._filled += count


class _Layer:
    """A decoder layer's weights as few matrices, with what only scales folded in: norms, and queries by 1/sqrt(D)."""

    def __init__(self, layer: LlamaDecoderLayer, config: WorldModelConfig) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        first, second = layer.input_layernorm, layer.post_attention_layernorm
        self._width, self._heads, self._kv_heads = config.head_width, config.heads, config.kv_heads
        self._eps = (first.variance_epsilon, second.variance_epsilon)
        qkv = [attention.q_proj.weight * self._width**-0.5, attention.k_proj.weight, attention.v_proj.weight]
        self._qkv = (torch.cat(qkv) * first.weight).detach()
        self._gate_up = (torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * second.weight).detach()
        self._out, self._down = attention.o_proj.weight, mlp.down_proj.weight

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled and rotated queries [B, n, H·R, D], rotated keys, and values, each [B, n, H, D], from [B, n, E].

        rotation: cosines and signed sines [n, 1, D]; turning by halves and a signed sine is RoPE's rotation.
        """
        parts = F.linear(F.rms_norm(x, x.shape[-1:], eps=self._eps[0]), self._qkv).unflatten(-1, (-1, self._width))
        turned, values = parts.split([self._heads + self._kv_heads, self._kv_heads], dim=2)
        cos, sin = rotation
        turned = torch.addcmul(turned * cos, turned.roll(self._width // 2, -1), sin)
        queries, keys = turned.split([self._heads, self._kv_heads], dim=2)
        return queries, keys, values

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention in a layer: [B, n, E]."""
        x = x + F.linear(mixed, self._out)
        gate, up = F.linear(F.rms_norm(x, x.shape[-1:], eps=self._eps[1]), self._gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self._down)


class RolloutEngine:
    """Decodes with the weights of a `WorldModel`, which it does not change; after they change, make another engine."""

    def __init__(self, model: WorldModel, config: RolloutConfig | None = None) -> None:
        self.model, self.config, self.layout = model, config or RolloutConfig(), model.layout
        self._layers = [_Layer(layer, model.config) for layer in model.llama.layers]
        self._graphs: dict[tuple[int, ...], _Graph] = {}

    @torch.no_grad()
    def prefill(self, context_codes: Tensor, state: Tensor | None, dynamics_codes: Tensor) -> Prefix:
        """Encode S start states: context codes [S, Kc], normalised state [S, state_dim] or None, codes [S, Kd]."""
        x = self.model.embed_prefix(context_codes, state, dynamics_codes)
        rotation = self._rotation(x, x.shape[1])
        keys, values = [], []
        for layer in self._layers:
            q, k, v = (rearrange(t, "s n h d -> s h n d") for t in layer.project(x, rotation))
            keys.append(k.mT.contiguous())
            values.append(v.contiguous())
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=True)
            x = layer.finish(x, rearrange(mixed, "s h n d -> s n (h d)"))
        return Prefix(keys, values)

    @torch.no_grad()
    def rollout(self, prefix: Prefix, actions: Tensor, *, state_ids: Sequence[int] | None = None) -> Tensor:
        """Codes [S, N, T, Kd] of the frames that normalised actions [S, N, T, actions_per_frame, action_dim] lead to.

        state_ids: one per start state, the key of its draws; needed unless decoding is greedy.
        """
        if len(actions) != prefix.states:
            raise ValueError(f"the prefix holds {prefix.states} start states, the actions are for {len(actions)}")
        if actions.is_cuda and self.config.sampling is Sampling.GREEDY:
            shape = tuple(actions.shape)
            if shape not in self._graphs:
                self._graphs[shape] = _Graph(self._decode, prefix, actions)
            return self._graphs[shape](prefix, actions)
        return self._decode(prefix, actions, state_ids)

    def _decode(self, prefix: Prefix, actions: Tensor, state_ids: Sequence[int] | None = None) -> Tensor:
        states, group, frames = actions.shape[:3]
        layout = self.layout
        forced = rearrange(self.model.embed_actions(actions), "s n t k e -> (s n) t k e")
        batch = states * group * self.model.config.kv_heads
        suffix = _Suffix(len(self._layers), batch, layout.per_frame, forced, self.model.config.head_width)
        rotation = self._rotation(forced, layout.length(frames))
        draws = self._draws(states, group, state_ids, forced.device)
        out = torch.empty(states * group, frames, layout.dynamics_tokens, dtype=torch.long, device=forced.device)
        pending: Tensor | None = None
        filled = 0
        for frame in range(frames):
            for token in range(layout.dynamics_tokens):
                if token == 0:
                    suffix.complete_frame()
                    new = forced[:, frame] if pending is None else torch.cat([pending, forced[:, frame]], dim=1)
                else:
                    assert pending is not None
                    new = pending
                hidden = self._step(new, prefix, suffix, filled, rotation)
                filled += new.shape[1]
                code = self._choose(hidden, next(draws) if draws is not None else None, states)
                out[:, frame, token] = code
                pending = self.model.embed_dynamics(code[:, None], token)
        return rearrange(out, "(s n) t k -> s n t k", s=states)

    # --- one step ---------------------------------------------------------------------------------------------

    def _step(self, x: Tensor, prefix: Prefix, suffix: _Suffix, filled: int, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Feed n new positions [S*N, n, E] behind `filled` ones: the last one's hidden state [S*N, E]."""
        new = x.shape[1]
        first = self.layout.prefix + filled
        here = (rotation[0][first : first + new], rotation[1][first : first + new])
        for index, layer in enumerate(self._layers):
            # Heads before rollouts: those of a group stand side by side, and are one product with their prefix.
            q, k, v = layer.project(x, here)
            q = rearrange(q, "(s g) n (h r) d -> (s h g) (r n) d", s=prefix.states, h=k.shape[2]).contiguous()
            k, v = (rearrange(t, "(s g) n h d -> (s h g) n d", s=prefix.states).contiguous() for t in (k, v))
            own = suffix.put(index, k, v)
            mixed = self._attend(q, new, prefix.keys[index].flatten(0, 1), prefix.values[index].flatten(0, 1), own)
            places = {"s": prefix.states, "g": len(x) // prefix.states, "n": new}
            x = layer.finish(x, rearrange(mixed, "(s h g) (r n) d -> (s g) n (h r d)", **places))
        suffix.advance(new)
        return self.model.llama.norm(x[:, -1])

    def _attend(self, q: Tensor, new: int, shared_k: Tensor, shared_v: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of q [B, R·n, D] to its prefix (keys [S·H, D, P], values [S·H, P, D]) and its own: as q.

        own: keys and values of what is complete and of what grows, [2, B, L, D] each.
        """
        shared, rows = len(shared_k), q.shape[1]
        to_prefix = torch.bmm(q.view(shared, -1, q.shape[-1]), shared_k).view(len(q), rows, -1)
        to_own = [torch.bmm(q, keys.mT) for keys, _ in own]
        if new > 1:  # a new position does not see those behind it
            hidden = torch.ones(new, new, dtype=torch.bool, device=q.device).triu(1)
            to_own[-1].unflatten(1, (-1, new))[..., -new:].masked_fill_(hidden, float("-inf"))
        weights = torch.cat([to_prefix, *to_own], dim=-1).softmax(dim=-1)
        on_prefix, *on_own = weights.split([part.shape[-1] for part in (to_prefix, *to_own)], dim=-1)
        mixed = torch.bmm(on_prefix.reshape(shared, -1, on_prefix.shape[-1]), shared_v).view_as(q)
        for on, (_, values) in zip(on_own, own, strict=True):
            mixed = torch.baddbmm(mixed, on, values)
        return mixed

    def _rotation(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of the first `count` positions, [count, 1, D] each."""
        cos, sin = self.model.llama.rotary_emb(x, torch.arange(count, device=x.device)[None])
        low, high = sin[0, :, None].chunk(2, dim=-1)
        return cos[0, :, None], torch.cat([-low, high], dim=-1)

    # --- choosing tokens --------------------------------------------------------------------------------------

    def _choose(self, hidden: Tensor, draw: Tensor | None, states: int) -> Tensor:
        """Codes [S*N] from hidden states [S*N, E]; `draw` is Gumbel noise [S, 1 or N, codes]."""
        logits = F.linear(hidden, self.model.head.weight[: self.layout.codebook_size]).float()
        if draw is None:
            return logits.argmax(dim=-1)
        logits = _nucleus(logits / self.config.temperature, self.config.top_p)
        noisy = rearrange(logits, "(s n) c -> s n c", s=states) + draw
        return noisy.argmax(dim=-1).flatten()

    def _draws(self, states: int, group: int, state_ids: Sequence[int] | None, device: torch.device) -> _Gumbel | None:
        if self.config.sampling is Sampling.GREEDY:
            return None
        if state_ids is None or len(state_ids) != states:
            raise ValueError(f"{self.config.sampling} sampling needs the ids of the {states} start states")
        rows = 1 if self.config.sampling is Sampling.SHARED else group
        return _Gumbel(self.config.seed, state_ids, rows, self.layout.codebook_size, device)


class _Graph:
    """A greedy rollout of one shape as a CUDA graph: hundreds of small steps without the time to launch them."""

    def __init__(self, decode: Callable[[Prefix, Tensor], Tensor], prefix: Prefix, actions: Tensor) -> None:
        self._prefix = Prefix([t.clone() for t in prefix.keys], [t.clone() for t in prefix.values])
        self._actions = actions.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # once outside the graph, as libraries allocate at their first call
            decode(self._prefix, self._actions)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._codes = decode(self._prefix, self._actions)

    def __call__(self, prefix: Prefix, actions: Tensor) -> Tensor:
        """Codes of these start states and actions."""
        for own, given in zip(self._prefix.keys + self._prefix.values, prefix.keys + prefix.values, strict=True):
            own.copy_(given)
        self._actions.copy_(actions)
        self._graph.replay()
        return self._codes.clone()


class _Gumbel:
    """Gumbel noise [S, rows, codes] per token, keyed by seed and start state alone."""

    def __init__(self, seed: int, state_ids: Sequence[int], rows: int, codes: int, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed((seed * 1_000_003 + key) % 2**63) for key in state_ids]
        self._shape, self._device = (rows, codes), device

    def __next__(self) -> Tensor:
        uniform = [torch.rand(self._shape, generator=g, device=self._device) for g in self._generators]
        return -torch.log(-torch.log(torch.stack(uniform).clamp(1e-20, 1.0 - 1e-7)))


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Rule out the codes beyond the most probable ones that make up `top_p`; the first always stays."""
    if top_p >= 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
    outside = before >= top_p
    return logits.masked_fill(outside.scatter(-1, order, outside), float("-inf"))
