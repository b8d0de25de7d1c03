"""The whole experiment at its smallest scale, as `make experiment` runs it: every step, twice, and its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_rft_train.experiment import page, towel
from vla_rft_train.experiment.scale import scale
from vla_rft_train.experiment.steps import State


def experiment(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vla_rft_train.experiment", "debug", "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_every_step_of_the_debug_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    out = tmp_path / "experiment"
    done = experiment(out, "--jobs", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    plan = towel.towel_plan(scale("debug"), out)
    assert {plan.state(name) for name in plan.steps} == {State.DONE}
    found = json.loads((plan.folder(towel.STUDY) / towel.RESULTS).read_text())
    assert found["complete"] and found["first_seed"] >= 10**6
    assert {method["name"] for method in found["methods"]} == {towel.METHODS[method] for method in towel.TABLE_11}
    text = (out / page.MARKDOWN).read_text()
    assert f"{len(plan.steps)} of {len(plan.steps)} steps are done" in text
    assert "not run" not in text.replace("10 trials", "").split("## Every step")[1]
    again = experiment(out)
    assert again.returncode == 0
    assert all(len(plan.record(name).attempts) == 1 for name in plan.steps)


def test_options_with_blanks_may_follow_the_names_of_steps(tmp_path: Path) -> None:
    steps = ("--dry-run", "--only", "sft-0", "rft-0")
    plain, faster = experiment(tmp_path, *steps), experiment(tmp_path, *steps, "--rft=--loop.lr 1e-4 --augment")
    assert plain.returncode == faster.returncode == 0, faster.stderr
    first, other = (set(re.findall(r"(?:sft|rft)-0-[0-9a-f]{10}", said.stdout)) for said in (plain, faster))
    assert {label[:5] for label in first ^ other} == {"rft-0"} and len(first) == len(other) == 2
