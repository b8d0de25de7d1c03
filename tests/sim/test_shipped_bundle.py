"""The learned policy that ships with the repository: whole, small, and folding, in-process and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.bundle import open_bundle
from deploy.runtime import DEFAULT_BACKEND
from vla_rft_sim import study as studies
from vla_rft_trials.records import Outcome
from vla_rft_trials.trial_log import read_log

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "bundles" / "towel_sim"
LARGEST_BYTES = 20_000_000
SEEDS = range(3)
"""Those of `make demo`."""


def test_it_is_small_and_says_what_it_was_made_of() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < LARGEST_BYTES
    bundle = open_bundle(SHIPPED)
    assert bundle.info.made_from["license"] == "Apache-2.0"
    assert {"data", "checkpoint.dataset", "checkpoint.git", "checkpoint.step"} <= set(bundle.info.made_from)
    assert not bundle.gate_problem(DEFAULT_BACKEND)
    for path in SHIPPED.iterdir():
        if path.suffix in (".json", ".yaml", ".onnx"):
            assert not any(place in path.read_bytes() for place in (b"/tmp/", b"/work/", b"/home/", b".py")), path


def test_it_folds_at_least_one_of_three_towels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    content = yaml.safe_load((ROOT / "launch" / "protocols" / "experiment.yaml").read_text())
    content |= {"policies": [{"name": "shipped", "bundle": str(SHIPPED)}], "trials_per_policy": len(SEEDS)}
    content["placements"] |= {"count": len(SEEDS), "seed": SEEDS.start}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))
    folder = tmp_path / "study"
    assert studies.main(["--protocol", str(tmp_path / "protocol.yaml"), "--out", str(folder), "--workers", "1"]) == 0
    records = read_log(folder / "records.jsonl").records
    assert sorted(record.seed for record in records) == list(SEEDS)
    assert sum(record.outcome is Outcome.SUCCESS for record in records) >= 1


def test_it_is_run_without_torch() -> None:
    code = "from vla_rft_sim.bundle_driver import BundleDriver; from pathlib import Path; import sys\n"
    code += f"BundleDriver(Path({str(SHIPPED)!r})); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
