"""Two processes train what one trains: DDP and FSDP2 on gloo, gradients accumulated, weights and averages gathered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SCRIPT = "two_processes.py"


@pytest.fixture(scope="module")
def alone(run_together: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_together(SCRIPT, tmp_path_factory.mktemp("alone"), 1, "ddp")


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_equal_one(
    alone: Path, tmp_path: Path, how: str, run_together: Any, assert_trained_alike: Any
) -> None:
    log = assert_trained_alike(alone, run_together(SCRIPT, tmp_path, 2, how))
    assert len(log) == 5
