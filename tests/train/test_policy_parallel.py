"""Two processes train the vision-language policy as one does, adapters and head alike: DDP and FSDP2 on gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vla_rft_train.loop import checkpoint

pytestmark = pytest.mark.slow

SCRIPT = "policy_two_processes.py"


@pytest.fixture(scope="module")
def alone(run_together: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_together(SCRIPT, tmp_path_factory.mktemp("alone"), 1, "ddp")


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_equal_one(
    alone: Path, tmp_path: Path, how: str, run_together: Any, assert_trained_alike: Any
) -> None:
    log = assert_trained_alike(alone, run_together(SCRIPT, tmp_path, 2, how))
    assert len(log) == 4


def test_what_is_trained_moves_and_what_is_frozen_stays(alone: Path) -> None:
    later, earlier = (checkpoint.load(checkpoint.folder_of(alone.parent, step))[0] for step in (4, 1))
    moved = {name for name, tensor in later.weights.items() if not torch.equal(tensor, earlier.weights[name])}
    for part in ("lora_B", "queries", "projector", "head.blocks", "head.out"):
        assert any(part in name for name in moved), part
    frozen = {name for name in later.weights if "base_layer" in name or "embed" in name}
    assert frozen and not frozen & moved
