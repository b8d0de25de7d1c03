"""Training is tested where torch is installed (`make setup-train`), on demonstrations simulated for these tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@dataclass(frozen=True)
class Made:
    """What two simulated demonstrations and their branches give to train on."""

    dataset: Path
    branches: Path
    """With twins."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two demonstrations, exported, and 24 branches with their twins."""
    from vla_rft_episodes.__main__ import main as episodes
    from vla_rft_sim import branch, collect
    from vla_rft_sim.gl import BACKEND

    if BACKEND == "disable":
        pytest.skip("no off-screen OpenGL: install libegl1 libgl1-mesa-dri")
    root = tmp_path_factory.mktemp("made")
    demos, dataset, branches = root / "demos", root / "dataset", root / "branches"
    assert collect.main(["--count", "2", "--seed", "5", "--out", str(demos)]) == 0
    assert episodes(["export", str(demos), "--out", str(dataset)]) == 0
    assert branch.main([str(demos), "--count", "24", "--twins", "--out", str(branches)]) == 0
    return Made(dataset, branches)


# --- several processes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def run_together() -> Callable[[str, Path, str, int], Path]:
    """`run_together(script, run folder, "ddp" or "fsdp2", processes)`: the newest checkpoint of a torchrun."""

    from vla_rft_train.loop import checkpoint

    def run(script: str, folder: Path, how: str, processes: int) -> Path:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, str(Path(__file__).with_name(script)), how, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        newest = checkpoint.newest(folder)
        assert newest is not None
        return newest

    return run


@pytest.fixture(scope="session")
def assert_trained_alike() -> Callable[[Path, Path, int], None]:
    """`(checkpoint, checkpoint, steps)`: weights, averages and logged losses agree to 1e-6 in float64."""

    import torch

    from vla_rft_train.loop import checkpoint
    from vla_rft_train.loop.progress import LOG

    def check(alone: Path, together: Path, steps: int) -> None:
        one, two = (checkpoint.load(folder)[0] for folder in (alone, together))
        for ours, theirs in ((one.weights, two.weights), (one.ema, two.ema)):
            assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
            assert all(tensor.dtype == torch.float64 for tensor in ours.values() if tensor.is_floating_point())
            for name, tensor in ours.items():
                torch.testing.assert_close(theirs[name], tensor, rtol=0.0, atol=1e-6, msg=name)
        logs = [(folder.parent / LOG).read_text().splitlines() for folder in (alone, together)]
        losses = [[json.loads(line)["loss"] for line in log] for log in logs]
        assert losses[0] == pytest.approx(losses[1], abs=1e-6) and len(losses[0]) == steps

    return check
