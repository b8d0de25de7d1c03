"""Two processes fine-tune as one does: start states shared out, draws by start state, gradients reduced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.progress import LOG

SCRIPT = Path(__file__).parent / "rft_two_processes.py"


def run(folder: Path, processes: int) -> Path:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*launcher, SCRIPT, folder], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    newest = checkpoint.newest(folder)
    assert newest is not None
    return newest


def test_two_processes_equal_one(tmp_path: Path) -> None:
    alone, together = run(tmp_path / "alone", 1), run(tmp_path / "together", 2)
    one, two = (checkpoint.load(folder)[0] for folder in (alone, together))
    for ours, theirs in ((one.weights, two.weights), (one.ema, two.ema)):
        assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == torch.float64 or "embed" in name
            torch.testing.assert_close(theirs[name], tensor, rtol=0.0, atol=1e-9, msg=name)
    logs = [
        [json.loads(line) for line in (folder.parent / LOG).read_text().splitlines()] for folder in (alone, together)
    ]
    assert len(logs[0]) == 5
    for name in ("loss", "reward", "ratio_mean", "held_out_error"):
        values = [[line[name] for line in log[1:]] for log in logs]
        assert values[0] == pytest.approx(values[1], abs=1e-9), name
    assert max(abs(line["ratio_mean"] - 1.0) for line in logs[0][1:]) > 1e-3  # it moves between its two epochs
