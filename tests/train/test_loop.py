"""The training loop: the order of data, learning rates, exact resume, and what a checkpoint holds."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vla_rft_core.errors import ManifestError
from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.loop.order import MicroBatches, Order
from vla_rft_train.loop.progress import LOG
from vla_rft_train.loop.trainer import Trainer, TrainingError


class Fit(nn.Module):
    """A model whose forward is its loss, with dropout so that a resume must repeat random draws."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return (self.layers(batch["x"]) - batch["y"]).square().mean()


class Line(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 37

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.sin(torch.arange(4.0) * (index + 1))
        return {"x": x, "y": x.sum(0, keepdim=True) if index != self.bad else torch.tensor([float("nan")])}

    bad = -1


class FitStage:
    name = "fit"

    def __init__(self) -> None:
        self.model = Fit()
        self.dataset = Line()
        self.drawn: list[int] = []

    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return {"x_mean": float(batch["x"].mean())}

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        self.drawn.append(step)

    def add_files(self, folder: Path) -> None:
        (folder / "config.yaml").write_text("width: 8\n")

    def provenance(self) -> Mapping[str, Any]:
        return {"dataset": "abc"}


CONFIG = LoopConfig(
    steps=12, batch=8, lr=1e-2, warmup=3, decay="cosine", weight_decay=0.01, accumulate=2, ema=0.9, log_every=4,
    save_every=4, sample_every=6,
)  # fmt: skip


def weights(run: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    newest = checkpoint.newest(run)
    assert newest is not None
    snapshot, _ = checkpoint.load(newest)
    assert snapshot.ema is not None
    return snapshot.weights, snapshot.ema


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    stage = FitStage()
    Trainer(stage, CONFIG, tmp_path / "whole").train()
    assert stage.drawn == [6, 12]

    trainer = Trainer(FitStage(), CONFIG, tmp_path / "parts")
    one_step = trainer._one_step

    def stop_after_seven(batches: Any) -> Any:
        if trainer.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return one_step(batches)

    trainer._one_step = stop_after_seven  # type: ignore[method-assign]
    trainer.train()
    assert checkpoint.steps_in(tmp_path / "parts") == [4, 7]
    Trainer(FitStage(), CONFIG, tmp_path / "parts").train()

    for whole, parts in zip(weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True):
        assert whole.keys() == parts.keys()
        for name in whole:
            assert torch.equal(whole[name], parts[name]), name


def test_the_log_and_the_manifest_say_what_happened(tmp_path: Path) -> None:
    folder = Trainer(FitStage(), CONFIG, tmp_path).train()
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(line["loss"] > 0.0 for line in lines)
    assert [line["lr"] for line in lines] == [CONFIG.lr_at(step) for step in (3, 7, 11)]
    assert {"grad_norm", "lr", "x_mean", "seconds"} <= lines[0].keys()
    _, manifest = checkpoint.load(folder)
    assert manifest.metadata["stage"] == "fit"
    assert manifest.metadata["dataset"] == "abc"
    assert set(manifest.files) == {"config.yaml", "model.safetensors", "ema.safetensors", "optimizer.safetensors"}
    assert len(checkpoint.steps_in(tmp_path)) == CONFIG.keep + 1


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = Trainer(FitStage(), CONFIG, tmp_path).train()
    path = folder / checkpoint.MODEL
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ManifestError, match=r"model\.safetensors: was altered"):
        Trainer(FitStage(), CONFIG, tmp_path)


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    Trainer(FitStage(), CONFIG, tmp_path).train()
    other = FitStage()
    other.name = "other"
    with pytest.raises(TrainingError, match="is of stage 'fit', this is 'other'"):
        Trainer(other, CONFIG, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path: Path) -> None:
    stage = FitStage()
    stage.dataset.bad = int(Order(length=37, batch=8, seed=0).step(2)[-1])
    with pytest.raises(TrainingError, match="step 2: loss nan"):
        Trainer(stage, CONFIG, tmp_path).train()
    (saved,) = tmp_path.glob("not-finite-step-2-*.safetensors")
    assert torch.isnan(checkpoint.load_file(saved)["y"]).sum() == 1


def test_every_sample_comes_once_per_epoch_whatever_the_ranks() -> None:
    order = Order(length=10, batch=4, seed=7)
    first = np.concatenate([order.step(i) for i in range(5)])
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    assert not np.array_equal(first[:10], first[10:])
    parts = [list(MicroBatches(order, first_step=1, steps=3, ranks=2, rank=rank, accumulate=2)) for rank in range(2)]
    assert [len(p) for p in parts] == [4, 4]
    together = sorted(i for lists in zip(*parts, strict=True) for part in lists[:2] for i in part)
    assert together == sorted(np.concatenate([order.step(1), order.step(2)]).tolist())


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="6 cannot be shared evenly by 4 ranks"):
        MicroBatches(Order(length=10, batch=6, seed=0), first_step=0, steps=1, ranks=4, rank=0, accumulate=1)


def test_warm_up_and_decay_take_effect() -> None:
    config = LoopConfig(steps=10, batch=1, lr=2.0, warmup=4, decay="linear", final_lr=0.1)
    rates = [config.lr_at(step) for step in range(11)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[10] == pytest.approx(0.2)
    cosine = LoopConfig(steps=10, batch=1, lr=2.0, decay="cosine")
    assert cosine.lr_at(5) == pytest.approx(1.0)


def test_recomputed_blocks_change_memory_only(tmp_path: Path) -> None:
    class Blocks(Fit):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.SiLU())
            self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 1)])

        def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
            h = self.layers(batch["x"])
            for block in self.blocks:
                h = block(h)
            return (h - batch["y"]).square().mean()

    runs = []
    for recompute in (False, True):
        stage = FitStage()
        torch.manual_seed(1)
        stage.model = Blocks()
        run = tmp_path / str(recompute)
        Trainer(stage, replace(CONFIG, recompute=recompute), run).train()
        runs.append(weights(run))
    for kept, recomputed in zip(*runs, strict=True):
        assert kept.keys() == recomputed.keys()
        for name in kept:
            torch.testing.assert_close(kept[name], recomputed[name], rtol=0.0, atol=1e-6)
