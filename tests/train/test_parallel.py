"""Two processes train what one trains: DDP and FSDP2 on gloo, gradients accumulated, weights and averages gathered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.progress import LOG

SCRIPT = Path(__file__).parent / "two_processes.py"


def run(folder: Path, how: str, processes: int) -> Path:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*launcher, SCRIPT, how, folder], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    newest = checkpoint.newest(folder)
    assert newest is not None
    return newest


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("alone"), "ddp", 1)


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_equal_one(alone: Path, tmp_path: Path, how: str) -> None:
    together = run(tmp_path, how, 2)
    one, two = (checkpoint.load(folder)[0] for folder in (alone, together))
    for ours, theirs in ((one.weights, two.weights), (one.ema, two.ema)):
        assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == torch.float64
            torch.testing.assert_close(theirs[name], tensor, rtol=0.0, atol=1e-6, msg=name)
    losses = [
        [json.loads(line)["loss"] for line in (folder.parent / LOG).read_text().splitlines()]
        for folder in (alone, together)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) and len(losses[0]) == 5
