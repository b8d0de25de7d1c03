"""The straightforward way to roll out, as a reference to measure against: Hugging Face's `generate`, frame by frame.

Every rollout is a sequence of its own: the context is repeated for each, and every frame is generated from the whole
prompt so far. The weights are those of a `WorldModel`; the tokens are the engine's, only slower.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM

from vla_rft_train.models.world_model import WorldModel


class WorldModelForCausalLM(LlamaForCausalLM):
    """A world model as `generate` wants it: prompts are embedded already, new tokens get their place's embedding."""

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__(world_model.llama.config)
        self.model, self.world_model = world_model.llama, world_model
        self.lm_head = world_model.head
        self.prompt_length = 0
        """Of the frame that is being generated."""

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **rest: Any) -> Any:
        """Logits of the next token; ids that are no dynamics codes are ruled out."""
        if inputs_embeds is None:
            assert input_ids is not None
            place = rest["past_key_values"].get_seq_length() - self.prompt_length
            inputs_embeds = self.world_model.embed_dynamics(input_ids, place)
        out = super().forward(inputs_embeds=inputs_embeds, **rest)
        out.logits[..., self.world_model.layout.codebook_size :] = float("-inf")
        return out


@torch.no_grad()
def generate_per_frame(
    world_model: WorldModel, context_codes: Tensor, state: Tensor | None, first: Tensor, actions: Tensor
) -> Tensor:
    """Greedy codes [S, N, T, Kd], as `RolloutEngine.rollout` returns them; the same arguments as it and its prefill."""
    states, group, frames = actions.shape[:3]
    model, layout = WorldModelForCausalLM(world_model).eval(), world_model.layout
    greedy = GenerationConfig(
        max_new_tokens=layout.dynamics_tokens, min_new_tokens=layout.dynamics_tokens, do_sample=False, pad_token_id=0
    )

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(group, dim=0)

    prompt = world_model.embed_prefix(repeat(context_codes), None if state is None else repeat(state), repeat(first))
    forced = rearrange(world_model.embed_actions(actions), "s n t k e -> (s n) t k e")
    made = []
    for frame in range(frames):
        prompt = torch.cat([prompt, forced[:, frame]], dim=1)
        model.prompt_length = prompt.shape[1]
        codes = model.generate(inputs_embeds=prompt, generation_config=greedy)
        made.append(codes[:, : layout.dynamics_tokens])
        prompt = torch.cat([prompt, world_model.embed_dynamics(made[-1])], dim=1)
    return rearrange(torch.stack(made, dim=1), "(s n) t k -> s n t k", s=states)
