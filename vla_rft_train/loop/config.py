"""LoopConfig: how long, how fast and in what precision a stage is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """One stage's training."""

    steps: int
    """Optimiser steps."""
    batch: int
    """Samples per step, over all GPUs and micro-batches."""
    lr: float
    """Peak learning rate."""
    warmup: int = 0
    """Steps of linear warm-up from 0."""
    decay: Literal["constant", "cosine", "linear"] = "constant"
    """Of the learning rate after the warm-up, down to `final_lr` of the peak."""
    final_lr: float = 0.0
    """Fraction of the peak at the last step."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    """Largest norm of the gradient of all trained parameters."""
    accumulate: int = 1
    """Micro-batches per step."""
    ema: float = 0.0
    """Decay of the moving average of the weights per step; 0 = none."""
    autocast: bool = True
    """bfloat16 autocast on a GPU; parameters stay float32. A CPU computes in float32 anyway."""
    compile: bool = False
    """torch.compile the model."""
    recompute: bool = False
    """Gradient checkpointing: less memory, a third more time."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """Under torchrun with more than one process."""
    seed: int = 0
    workers: int = 0
    """Processes that load data, per GPU; 0 = the training process itself."""
    log_every: int = 10
    save_every: int = 500
    sample_every: int = 500
    """Steps between pictures; 0 = none."""
    keep: int = 2
    """Checkpoints kept beside the last; older ones are removed."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.accumulate, self.log_every, self.save_every, self.keep) < 1:
            raise ValueError(
                "steps, batch, accumulate, log_every, save_every and keep must be at least 1, got "
                f"{self.steps}, {self.batch}, {self.accumulate}, {self.log_every}, {self.save_every}, {self.keep}"
            )
        if not (self.lr > 0.0 and self.clip > 0.0 and 0.0 <= self.ema < 1.0 and 0 <= self.warmup <= self.steps):
            raise ValueError(
                f"lr and clip must be positive, ema within [0, 1), warmup within the {self.steps} steps; got "
                f"lr {self.lr}, clip {self.clip}, ema {self.ema}, warmup {self.warmup}"
            )

    def lr_at(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.decay == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        left = 0.5 * (1.0 + math.cos(math.pi * done)) if self.decay == "cosine" else 1.0 - done
        return self.lr * (self.final_lr + (1.0 - self.final_lr) * left)
