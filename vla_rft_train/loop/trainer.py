"""Trainer: the loop that every stage runs in. It knows steps, gradients and checkpoints; a `Stage` knows the rest.

Exact resume: the samples of a step, its random draws and its learning rate are functions of seed and step; weights,
moving average and optimiser state come from the checkpoint.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vla_rft_core.errors import VlaRftError
from vla_rft_train.loop import checkpoint, parallel
from vla_rft_train.loop.checkpoint import Snapshot
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.loop.order import MicroBatches, Order
from vla_rft_train.loop.progress import Progress

STEP = "step"
"""Key of a batch under which the loop tells the model how many steps are done."""


class TrainingError(VlaRftError):
    """Training cannot go on; one sentence."""


class Stage(Protocol):
    """What is trained, on what, and how it is judged."""

    name: str
    model: nn.Module
    """Its parameters that require a gradient are trained. Called with a batch it returns loss and figures."""
    dataset: Dataset[Any]
    """Map-style; its items are collated by torch's default into a dict of tensors."""

    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """What is worth logging about a batch beside the loss; called at log steps only."""

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        """Write pictures of how far it has come."""

    def add_files(self, folder: Path) -> None:
        """Add to a checkpoint what makes it complete: configuration, spec, norm_stats."""

    def provenance(self) -> Mapping[str, Any]:
        """Hashes of dataset and parents, git revision: goes into every checkpoint's manifest."""


class Trainer:
    """Trains one stage in a run folder, from its newest checkpoint when there is one."""

    def __init__(self, stage: Stage, config: LoopConfig, run: Path) -> None:
        self.stage, self.config, self.run = stage, config, run
        self.world = parallel.join()
        if config.recompute:
            parallel.recompute_blocks(stage.model)
        self.model = parallel.spread(stage.model, self.world, config.parallel)
        self._call = torch.compile(self.model) if config.compile else self.model
        self.optimizer = self._make_optimizer()
        self.step = 0
        self._ema = {n: p.detach().clone() for n, p in self.model.named_parameters()} if config.ema else None
        self._stop = False
        newest = checkpoint.newest(run)
        if newest is not None:
            self._resume(newest)

    def train(self) -> Path:
        """Until the last step, or SIGTERM or Ctrl-C, which save first: the folder of the last checkpoint."""
        config = self.config
        order = Order(length=len(self.stage.dataset), batch=config.batch, seed=config.seed)  # type: ignore[arg-type]
        batches = iter(self._loader(order))
        with ExitStack() as stack:
            stack.callback(self._listen())
            progress = stack.enter_context(Progress(self.stage.name, self.run, config, shown=self.world.first))
            progress.start(self.step)
            self._begin(progress)
            while self.step < config.steps and not self._stopped():
                loss, norm, batch = self._one_step(batches)
                self.step += 1
                if self.step % config.log_every == 0 or self.step == config.steps:
                    facts = {"loss": loss, "grad_norm": norm, "lr": config.lr_at(self.step - 1)}
                    progress.log(self.step, facts | self.stage.figures_of(batch))
                progress.advance(self.step)
                if config.sample_every and self.step % config.sample_every == 0:
                    self._draw()
                if self.step % config.save_every == 0:
                    self.save()
        return self.save()

    # --- what another loop may do differently -----------------------------------------------------------------

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, trained = self.config, [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=_can_fuse(trained)
        )

    def _set_rates(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step)

    def _begin(self, progress: Progress) -> None:
        """Before the first step of this call."""

    # --- a step -----------------------------------------------------------------------------------------------

    def _one_step(self, batches: Any) -> tuple[float, float, Mapping[str, Tensor]]:
        config = self.config
        torch.manual_seed(hash((config.seed, self.step, self.world.rank)) % 2**63)
        self._set_rates()
        self.model.train()
        total = torch.zeros((), device=self.world.device)
        batch: Mapping[str, Tensor] = {}
        for micro in range(config.accumulate):
            batch = {k: v.to(self.world.device, non_blocking=True) for k, v in next(batches).items()}
            batch[STEP] = torch.tensor(self.step, device=self.world.device)
            with self._unsynced(micro + 1 < config.accumulate), self._precision():
                loss = self._call(batch)
                (loss / config.accumulate).backward()
            total += loss.detach() / config.accumulate
        norm = nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], config.clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        mean = self.world.mean(total)
        if not torch.isfinite(mean) or not torch.isfinite(norm):
            self._refuse(batch, float(mean), float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        return float(mean), float(norm), batch

    def _unsynced(self, wanted: bool) -> Any:
        return parallel.without_sync(self.model, wanted)

    def _precision(self) -> Any:
        if self.config.autocast and self.world.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        if self._ema is not None:
            decay = min(self.config.ema, (1.0 + self.step) / (10.0 + self.step))
            for name, parameter in self.model.named_parameters():
                self._ema[name].lerp_(parameter.detach(), 1.0 - decay)

    def _refuse(self, batch: Mapping[str, Tensor], loss: float, norm: float) -> None:
        """Keep the batch that did it, and stop; the last checkpoint is untouched."""
        path = self.run / f"not-finite-step-{self.step}-rank-{self.world.rank}.safetensors"
        checkpoint.save_file({k: v.detach().cpu().contiguous() for k, v in batch.items()}, path)
        raise TrainingError(f"step {self.step}: loss {loss}, gradient norm {norm}; its batch is in {path}")

    # --- data, checkpoints, signals ---------------------------------------------------------------------------

    def _loader(self, order: Order) -> DataLoader[Any]:
        config = self.config
        batches = MicroBatches(
            order,
            first_step=self.step,
            steps=config.steps,
            ranks=self.world.size,
            rank=self.world.rank,
            accumulate=config.accumulate,
        )
        return DataLoader(
            self.stage.dataset,
            batch_sampler=batches,
            num_workers=config.workers,
            pin_memory=self.world.device.type == "cuda",
            persistent_workers=False,
        )

    def save(self) -> Path:
        """Write the checkpoint of the present step; all processes call it."""
        weights, optimizer = parallel.full_state(self.model, self.optimizer)
        ema = None
        if self._ema is not None:
            ema = {n: t.full_tensor() if hasattr(t, "full_tensor") else t for n, t in self._ema.items()}
        target = checkpoint.folder_of(self.run, self.step)
        if self.world.first:
            metadata = {"stage": self.stage.name} | dict(self.stage.provenance())
            snapshot = Snapshot(self.step, weights, optimizer, _unprefixed(ema))
            checkpoint.save(
                self.run, snapshot, metadata=metadata, add_files=self.stage.add_files, keep=self.config.keep
            )
        self.world.wait()
        return target

    def _resume(self, folder: Path) -> None:
        snapshot, found = checkpoint.load(folder)
        if found.metadata["stage"] != self.stage.name:
            raise TrainingError(f"{folder}: is of stage {found.metadata['stage']!r}, this is {self.stage.name!r}")
        parallel.load_full_state(self.model, snapshot.weights, self.optimizer, snapshot.optimizer)
        if self._ema is not None and snapshot.ema is not None:
            for name, tensor in _unprefixed(self._ema).items():  # type: ignore[union-attr]
                tensor.copy_(snapshot.ema[name])
        self.step = snapshot.step

    def _draw(self) -> None:
        if self.world.first and self.world.size == 1:
            self.model.eval()
            with torch.no_grad():
                self.stage.draw(self.stage.model, self.run / "pictures", self.step)

    def _listen(self) -> Any:
        """SIGTERM and SIGINT end the loop after the present step; returns what restores the old handlers."""

        def stop(number: int, frame: object) -> None:
            if self._stop:
                sys.exit(128 + number)
            self._stop = True

        old = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        return lambda: [signal.signal(number, handler) for number, handler in old.items()]

    def _stopped(self) -> bool:
        """Any process was told to stop: all of them stop after the same step."""
        told = torch.tensor(float(self._stop), device=self.world.device)
        return bool(self.world.mean(told) > 0.0)


def _unprefixed(named: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """By the names that the model itself has: without those of DDP and of recomputed blocks."""
    if named is None:
        return None
    return {name.removeprefix("module.").replace(parallel.RECOMPUTED, ""): t for name, t in named.items()}


def _can_fuse(parameters: list[Tensor]) -> bool:
    return all(p.is_floating_point() and p.device.type in ("cuda", "cpu") for p in parameters)
