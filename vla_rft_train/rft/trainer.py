"""RftTrainer: the training loop with a step of its own: play, then learn from what was played."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from vla_rft_train.loop.progress import Progress
from vla_rft_train.loop.trainer import STEP, Trainer
from vla_rft_train.rft.policy import Experience
from vla_rft_train.rft.stage import RftStage


class RftTrainer(Trainer):
    """Two learning rates, gradients clipped for head and sigma net apart, several updates per step where wanted."""

    stage: RftStage

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        head, sigma = self._groups()
        groups = [{"params": head, "lr": config.lr}, {"params": sigma, "lr": self.stage.run.sigma_lr}]
        return torch.optim.AdamW(groups, betas=config.betas, weight_decay=config.weight_decay)

    def _groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the head and of the sigma net."""
        return list(self.stage.model.policy.head.parameters()), list(self.stage.model.sigma.parameters())

    def _set_rates(self) -> None:
        share = self.config.lr_at(self.step) / self.config.lr
        for group, peak in zip(self.optimizer.param_groups, (self.config.lr, self.stage.run.sigma_lr), strict=True):
            group["lr"] = share * peak

    def _begin(self, progress: Progress) -> None:
        if self.step == 0:
            progress.log(0, self.stage.held_out())

    def _one_step(self, batches: Any) -> tuple[float, float, dict[str, Tensor]]:
        run, config = self.stage.run, self.config
        self._set_rates()
        figures: dict[str, list[Tensor]] = defaultdict(list)
        played = []
        for _ in range(config.accumulate):
            batch = {k: v.to(self.world.device, non_blocking=True) for k, v in next(batches).items()}
            seen, found = self.stage.play(batch | {STEP: torch.tensor(self.step)})
            played.append(seen)
            for name, value in found.items():
                figures[name].append(value)
        size = config.accumulate // run.minibatches
        parts = [played[i : i + size] for i in range(0, len(played), size)] * run.epochs
        with self.stage.clock("update"):
            for part in parts:
                for name, value in self._update(part, batch).items():
                    figures[name].append(value)
        means = {name: self.world.mean(torch.stack(values).mean()) for name, values in figures.items()}
        loss, norm = (float(means.pop(name)) for name in ("loss", "grad_norm"))
        return loss, norm, means | {STEP: torch.tensor(self.step + 1)}

    def _update(self, part: list[Experience], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimiser step over these micro-batches."""
        figures: dict[str, list[Tensor]] = defaultdict(list)
        for micro, seen in enumerate(part):
            with self._unsynced(micro + 1 < len(part)):
                loss, found = self._call(seen)
                (loss / len(part)).backward()
            for name, value in (found | {"loss": loss.detach()}).items():
                figures[name].append(value)
        means = {name: torch.stack(values).mean() for name, values in figures.items()}
        norms = [nn.utils.clip_grad_norm_(group, self.config.clip) for group in self._groups()]
        means |= {"grad_norm_head": norms[0], "grad_norm_sigma": norms[1], "grad_norm": torch.stack(norms).norm()}
        if not all(bool(torch.isfinite(self.world.mean(means[name]))) for name in ("loss", "grad_norm")):
            self._refuse(batch, float(means["loss"]), float(means["grad_norm"]))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        return means
