"""One of several processes that train together: `torchrun --nproc-per-node 2 two_processes.py ddp|fsdp2 RUN`.

The model is a small world model with a loss over made-up codes, in float64: only the order of arithmetic differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_rft_train.loop import parallel
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.loop.trainer import Trainer
from vla_rft_train.models.layout import TokenLayout
from vla_rft_train.models.world_model import WorldModel, WorldModelConfig

LAYOUT = TokenLayout(context_tokens=4, dynamics_tokens=4, codebook_size=12, action_dim=3, action_bins=0, state_dim=2)


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.world_model = WorldModel(
            WorldModelConfig(layers=2, width=16, ffn_width=32, heads=2, max_positions=64, slots=True), LAYOUT
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.world_model.loss(batch["context"], batch["codes"], batch["actions"], batch["state"])


class Codes(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(index)
        return {
            "context": torch.randint(12, (4,), generator=random),
            "codes": torch.randint(12, (3, 4), generator=random),
            "actions": torch.rand(2, 1, 3, generator=random, dtype=torch.float64),
            "state": torch.rand(2, generator=random, dtype=torch.float64),
        }


class Stage:
    """The least that a `Trainer` needs: a loss and a dataset."""

    name = "two_processes"

    def __init__(self, model: nn.Module, dataset: torch.utils.data.Dataset[Any]) -> None:
        self.model, self.dataset = model, dataset

    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return {}

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        raise AssertionError("nothing is drawn")

    def add_files(self, folder: Path) -> None:
        pass

    def provenance(self) -> Mapping[str, Any]:
        return {}


def train(make: Callable[[], Stage], *, how: str, run: Path, **settings: Any) -> None:
    """Steps of eight samples in two micro-batches, in float64."""
    torch.set_default_dtype(torch.float64)
    config = LoopConfig(
        batch=8, lr=1e-2, accumulate=2, ema=0.9, sample_every=0, log_every=1, parallel=how, **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    Trainer(make(), config, run).train()
    parallel.leave()


if __name__ == "__main__":
    train(lambda: Stage(Loss(), Codes()), how=sys.argv[1], run=Path(sys.argv[2]), steps=5)
