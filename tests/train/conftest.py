"""Training is tested where torch is installed (`make setup-train`), on demonstrations simulated for these tests."""

from __future__ import annotations

import importlib.util
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
