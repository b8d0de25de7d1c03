"""VlaPolicy, the paper's: vision towers -> projector -> language model with action queries -> bridge -> DiT head.

The language model reads [patches][prompt][queries]; what it makes of patches and queries is the context. Towers and
language model are trained by LoRA, everything else in full. Time and noise never enter it: it runs once per
observation, the head K times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vla_rft_train import torchvision_ops
from vla_rft_train.data.augment import center_crop
from vla_rft_train.models.flow import Velocity
from vla_rft_train.models.flow_head import DitConfig, DitHead
from vla_rft_train.models.policy import Policy, Shapes
from vla_rft_train.models.towers import VisionTowers, VitConfig

LORA_TARGETS = r".*\.(attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2|[qkvo]_proj|gate_proj|up_proj|down_proj)"
"""Every linear map of the transformers' blocks, by name."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A Qwen2.5 language model (the paper's Table 6: 0.5B)."""

    source: str = "Qwen/Qwen2.5-0.5B"
    """Hub id or local folder of the weights; empty = random ones of the sizes below."""
    layers: int = 24
    width: int = 896
    heads: int = 14
    kv_heads: int = 2
    ffn_width: int = 4864
    vocab_size: int = 151_936
    max_positions: int = 32_768


@dataclass(frozen=True, kw_only=True)
class VlaConfig:
    """The vision-language-action policy."""

    image_size: int = 224
    towers: tuple[VitConfig, ...] = field(
        default_factory=lambda: (
            VitConfig(name="vit_large_patch14_reg4_dinov2.lvd142m"),
            VitConfig(name="vit_so400m_patch14_siglip_224.webli"),
        )
    )
    language: LanguageConfig = field(default_factory=LanguageConfig)
    head: DitConfig = field(default_factory=DitConfig)
    queries: int = 64
    """Learned action queries."""
    bridge: Literal["last", "all"] = "last"
    """Whether the head sees the language model's last layer (the paper) or all of them (VLA-Adapter)."""
    lora_rank: int = 64
    """0 = towers and language model are not trained."""
    lora_alpha: int = 128
    tokenizer: str = "Qwen/Qwen2.5-0.5B"
    """Hub id or local folder, or "bytes"."""
    prompt_length: int = 64
    """Tokens of the question, padding included."""
    crop_area: float = 1.0
    """Area of the image's middle that is looked at in evaluation: that of the random crops of the training."""


class VlaPolicy(Policy):
    """`encode`'s context is [B, L, N, C]: L = 1 or all layers, N patches and queries, C the language model's width."""

    def __init__(self, config: VlaConfig, shapes: Shapes) -> None:
        super().__init__()
        self.config, self.shapes = config, shapes
        self.towers = VisionTowers(config.towers, config.image_size)
        self.language = _language_model(config.language)
        width = self.language.config.hidden_size
        seen = self.towers.width
        self.projector = nn.Sequential(
            nn.Linear(seen, 4 * seen), nn.GELU(), nn.Linear(4 * seen, width), nn.GELU(), nn.Linear(width, width)
        )
        self.queries = nn.Parameter(torch.zeros(config.queries, width))
        self.head = DitHead(
            config.head,
            horizon=shapes.horizon,
            action_dim=shapes.action_dim,
            state_dim=shapes.state_dim,
            context_dim=width,
        )
        for backbone in (self.towers, self.language):
            backbone.requires_grad_(False)
            if config.lora_rank:
                _add_lora(backbone, config)

    def encode(self, images: Tensor, prompt_tokens: Tensor, state: Tensor) -> Tensor:
        """prompt_tokens: -1 is padding. The state enters the head only (as in the paper's code)."""
        if self.config.crop_area < 1.0 and not self.training:
            images = center_crop(images, self.config.crop_area)
        patches = self.projector(self.towers(images))
        prompt = self.language.get_input_embeddings()(prompt_tokens.clamp(min=0))
        queries = self.queries.expand(len(images), -1, -1)
        count = self.towers.patches
        seen = [prompt_tokens.new_ones(len(images), n) for n in (count, self.config.queries)]
        mask = torch.cat([seen[0], (prompt_tokens >= 0).long(), seen[1]], dim=1)
        every = self.config.bridge == "all"
        out = self.language(
            inputs_embeds=torch.cat([patches, prompt, queries.to(patches.dtype)], dim=1),
            attention_mask=mask,
            output_hidden_states=every,
            use_cache=False,
        )
        layers = torch.stack(out.hidden_states[1:], dim=1) if every else out.last_hidden_state[:, None]
        return torch.cat([layers[:, :, :count], layers[:, :, -self.config.queries :]], dim=2)

    def velocity(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """v_t [B, T, A]."""
        v_t: Tensor = self.head(x_t, t, context, state)
        return v_t

    def conditioned(self, context: Tensor, state: Tensor) -> Velocity:
        """Keys and values of the context once for all steps."""
        return self.head.conditioned(context, state)


def _language_model(config: LanguageConfig) -> Any:
    torchvision_ops.install()
    from transformers import AutoModel, Qwen2Config, Qwen2Model

    if config.source:
        try:
            model = AutoModel.from_pretrained(config.source, dtype=torch.float32)
        except OSError as error:
            raise ValueError(f"language model {config.source!r}: {str(error).splitlines()[0]}") from None
        found = (model.config.num_hidden_layers, model.config.hidden_size)
        if found != (config.layers, config.width):
            raise ValueError(
                f"language model {config.source!r}: has {found[0]} layers of width {found[1]}, the preset expects "
                f"{config.layers} of {config.width}"
            )
        return model
    return Qwen2Model(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.ffn_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.max_positions,
            rope_theta=1_000_000.0,
            tie_word_embeddings=True,
        )
    )


def _add_lora(backbone: nn.Module, config: VlaConfig) -> None:
    """Adapters in place; the backbone's own weights stay frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=LORA_TARGETS, init_lora_weights="gaussian"
    )
    inject_adapter_in_model(lora, backbone)
