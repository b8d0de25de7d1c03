"""A fine-tuning in small, from the shipped checkpoints on simulated demonstrations; several tests share it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vla_rft_train.loop.trainer import STEP
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.rft.presets import RftRun, rft_run
from vla_rft_train.rft.stage import RftStage

CPU = torch.device("cpu")


def config(made, *, steps: int = 2, **changes) -> RftRun:
    run = rft_run("debug")
    names = {name: str(SHIPPED / name) for name in ("policy", "world_model", "tokenizer")}
    data = replace(run.data, dataset=str(made.dataset), **changes.pop("data", {}))
    return replace(run, data=data, loop=replace(run.loop, steps=steps, **changes.pop("loop", {})), **names | changes)


def batch_of(stage: RftStage, *indices: int) -> dict[str, Tensor]:
    return torch.utils.data.default_collate([stage.dataset[i] for i in indices]) | {STEP: torch.tensor(0)}
