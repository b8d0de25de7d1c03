"""`torchrun --nproc-per-node 2 policy_two_processes.py ddp|fsdp2 RUN`: the vision-language policy in small."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from two_processes import Stage, train

from vla_rft_train.data.augment import AugmentConfig
from vla_rft_train.models import flow
from vla_rft_train.models.flow_head import DitConfig
from vla_rft_train.models.policy import Shapes
from vla_rft_train.models.towers import VitConfig
from vla_rft_train.models.vla import LanguageConfig, VlaConfig, VlaPolicy
from vla_rft_train.policy_presets import PolicyLossConfig
from vla_rft_train.policy_stage import PolicyTraining

SHAPES = Shapes(horizon=3, action_dim=2, state_dim=2)
CONFIG = VlaConfig(
    image_size=32,
    towers=(VitConfig(name="vit_tiny_patch16_224", weights="", depth=2),),
    language=LanguageConfig(
        source="", layers=2, width=16, heads=2, kv_heads=1, ffn_width=32, vocab_size=20, max_positions=64
    ),
    head=DitConfig(depth=2, width=16, heads=2),
    queries=3,
    lora_rank=2,
    lora_alpha=4,
)


class Loss(PolicyTraining):
    """Noise and time come with the batch: each process draws its own otherwise."""

    def _flow_loss(self, actions: Tensor, context: Tensor, state: Tensor) -> Tensor:
        t = actions.abs().mean(dim=(1, 2)).clamp(max=1.0)
        x_t, u_t = flow.interpolate(actions.flip(1).cos(), actions, t)
        return (self.policy.velocity(x_t, t, context, state) - u_t).square().mean()


class Windows(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(index)
        return {
            "images": torch.rand(1, 3, 32, 32, generator=random, dtype=torch.float64),
            "states": torch.rand(1, 2, generator=random, dtype=torch.float64),
            "actions": torch.rand(3, 2, generator=random, dtype=torch.float64),
            "prompt_tokens": torch.randint(0, 20, (4,), generator=random),
        }


def make_stage() -> Stage:
    torch.manual_seed(0)
    return Stage(Loss(VlaPolicy(CONFIG, SHAPES), PolicyLossConfig(), AugmentConfig()), Windows())


if __name__ == "__main__":
    train(make_stage, how=sys.argv[1], run=Path(sys.argv[2]), steps=4, save_every=1, keep=9)
