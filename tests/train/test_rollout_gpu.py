"""The rollout engine on a GPU: its CUDA graph decodes what the same weights decode on the CPU."""

from __future__ import annotations

import pytest
import torch

from vla_rft_train.models.layout import TokenLayout
from vla_rft_train.models.world_model import WorldModel, WorldModelConfig
from vla_rft_train.rollout import RolloutEngine

LAYOUT = TokenLayout(context_tokens=9, dynamics_tokens=4, codebook_size=20, action_dim=3, action_bins=0)


@pytest.mark.gpu
def test_a_replayed_graph_decodes_each_call_anew() -> None:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig(layers=2, width=32, ffn_width=64, heads=4, max_positions=256), LAYOUT).eval()
    calls = [
        (torch.randint(20, (2, 9)), torch.randint(20, (2, 4)), torch.rand(2, 3, 3, 1, 3) * 2.0 - 1.0) for _ in range(3)
    ]

    def decode(device: str) -> list[torch.Tensor]:
        engine = RolloutEngine(model.to(device))
        return [
            engine.rollout(engine.prefill(c.to(device), None, f.to(device)), a.to(device)).cpu() for c, f, a in calls
        ]

    on_cpu, on_gpu = decode("cpu"), decode("cuda")
    assert all(torch.equal(a, b) for a, b in zip(on_cpu, on_gpu, strict=True))
