"""Two processes train what one trains: DDP and FSDP2 on gloo, gradients accumulated, weights and averages gathered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[[str, Path, str, int], Path]
SCRIPT = "two_processes.py"


@pytest.fixture(scope="module")
def alone(run_together: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_together(SCRIPT, tmp_path_factory.mktemp("alone"), "ddp", 1)


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_equal_one(
    alone: Path, tmp_path: Path, how: str, run_together: Run, assert_trained_alike: Callable[[Path, Path, int], None]
) -> None:
    assert_trained_alike(alone, run_together(SCRIPT, tmp_path, how, 2), 5)
