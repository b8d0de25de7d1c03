"""Training is tested where torch is installed (`make setup-train`), on demonstrations simulated for these tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class RunTogether(Protocol):
    """A torchrun of a script of this folder with words and the run's folder: the newest checkpoint."""

    def __call__(self, script: str, folder: Path, processes: int, *words: str) -> Path: ...


class AssertTrainedAlike(Protocol):
    """Weights, averages and logged figures of two checkpoints agree, in float64; returns the first one's log."""

    def __call__(
        self, alone: Path, together: Path, *, figures: tuple[str, ...] = ("loss",), atol: float = 1e-6
    ) -> list[dict[str, Any]]: ...


@pytest.fixture(scope="session")
def run_together() -> RunTogether:
    from vla_rft_train.loop import checkpoint

    def run(script: str, folder: Path, processes: int, *words: str) -> Path:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, str(Path(__file__).parent / script), *words, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        newest = checkpoint.newest(folder)
        assert newest is not None
        return newest

    return run


@pytest.fixture(scope="session")
def assert_trained_alike() -> AssertTrainedAlike:
    import torch

    from vla_rft_train.loop import checkpoint
    from vla_rft_train.loop.progress import LOG

    def check(
        alone: Path, together: Path, *, figures: tuple[str, ...] = ("loss",), atol: float = 1e-6
    ) -> list[dict[str, Any]]:
        one, two = (checkpoint.load(folder)[0] for folder in (alone, together))
        for ours, theirs in ((one.weights, two.weights), (one.ema, two.ema)):
            assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
            assert {tensor.dtype for name, tensor in ours.items() if "embed" not in name} == {torch.float64}
            for name, tensor in ours.items():
                torch.testing.assert_close(theirs[name], tensor, rtol=0.0, atol=atol, msg=name)
        logs = [
            [json.loads(line) for line in (folder.parent / LOG).read_text().splitlines()]
            for folder in (alone, together)
        ]
        for name in figures:
            values = [[line[name] for line in log if name in line] for log in logs]
            assert values[0] and values[0] == pytest.approx(values[1], abs=atol), name
        return logs[0]

    return check
