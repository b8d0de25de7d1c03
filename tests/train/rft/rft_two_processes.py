"""One of several processes that fine-tune together: `torchrun --nproc-per-node 2 rft_two_processes.py RUN`.

A small policy with R1, in float64: only the order of arithmetic differs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla_rft_train.data.normalize import NormStats
from vla_rft_train.loop import parallel
from vla_rft_train.models.making import make_policy
from vla_rft_train.models.policy import Shapes
from vla_rft_train.policy_presets import policy_run
from vla_rft_train.released import Released
from vla_rft_train.rft.presets import rft_run
from vla_rft_train.rft.rewards import Design, Reward
from vla_rft_train.rft.stage import RftStage
from vla_rft_train.rft.start_states import PreparedStarts
from vla_rft_train.rft.trainer import RftTrainer

SHAPES = Shapes(horizon=3, action_dim=3, state_dim=2)


class Starts(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < 23:
            raise IndexError(index)
        random = torch.Generator().manual_seed(index)
        return {
            "id": torch.tensor(index),
            "image": torch.rand(3, 32, 32, generator=random, dtype=torch.float64),
            "state": torch.rand(2, generator=random, dtype=torch.float64),
            "prompt_tokens": torch.zeros(0, dtype=torch.int64),
            "actions": torch.rand(3, 3, generator=random, dtype=torch.float64),
        }


def unit(name: str, dim: int) -> NormStats:
    zeros, ones = (0.0,) * dim, (1.0,) * dim
    return NormStats(tuple(f"{name}.{i}" for i in range(dim)), zeros, ones, (-1.0,) * dim, ones, zeros)


def train(run: Path) -> Path:
    """Four steps of eight start states in two micro-batches, each learned from twice."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    debug = rft_run("debug")
    loop = replace(
        debug.loop,
        steps=4,
        batch=8,
        accumulate=2,
        lr=1e-2,
        ema=0.9,
        sample_every=0,
        save_every=9,
    )
    config = replace(debug, epochs=2, sigma_lr=1e-2, reward=replace(debug.reward, design=Design.ACTION), loop=loop)
    policy_config = policy_run("debug")
    policy = make_policy(policy_config.policy, SHAPES)
    torch.nn.init.normal_(policy.head.out.weight)  # type: ignore[union-attr, arg-type]
    stats = {"state": unit("state", 2), "action": unit("action", 3)}
    starts = PreparedStarts(Starts(), Starts(), None, {})  # type: ignore[arg-type]
    parent = Released(policy.eval(), policy_config, None, stats, "")
    return RftTrainer(RftStage(config, parent, None, Reward(config.reward), starts, {}), loop, run).train()


if __name__ == "__main__":
    train(Path(sys.argv[1]))
    parallel.leave()
