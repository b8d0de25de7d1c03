"""Two processes fine-tune as one does: start states shared out, draws by start state, gradients reduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCRIPT = "rft/rft_two_processes.py"


def test_two_processes_equal_one(tmp_path: Path, run_together: Any, assert_trained_alike: Any) -> None:
    alone, together = (run_together(SCRIPT, tmp_path / str(processes), processes) for processes in (1, 2))
    figures = ("loss", "reward", "ratio_mean", "held_out_error")
    log = assert_trained_alike(alone, together, figures=figures, atol=1e-9)
    assert len(log) == 5
    assert max(abs(line["ratio_mean"] - 1.0) for line in log[1:]) > 1e-3  # it moves between its two epochs
