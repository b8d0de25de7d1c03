"""The closed-loop gate, the benchmark and the splicing study: what they find, write down, and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import benchmark, splice_study, verify
from deploy.backends import load_backend
from deploy.bundle import open_bundle
from deploy.splice_study import Path3, judge
from vla_rft_core.cell import ChunkOutcome, find_cell
from vla_rft_core.types import ActionChunk, Observation, SetPoint, Source

SPEC = find_cell("vla_rft_sim:towel_cell").spec
HOME = SetPoint(SPEC.home.T_base_tcp, SPEC.home.width)


class FakeCell:
    """A towel that counts as folded once it has been given chunks; its own world and truth."""

    spec = SPEC
    holding = ""
    grasped_vertices, edge_gap = 0, 0.1

    def __init__(self, height: float = 0.2) -> None:
        self.world, self._height, self._chunks, self._now_ns = self, height, 0, 0
        self.closed = False

    @property
    def success(self) -> bool:
        return self._chunks > 0

    def truth(self) -> FakeCell:
        return self

    def reset(self, seed: int) -> None:
        self._chunks = 0

    def activate(self, source: Source) -> None:
        assert source is Source.POLICY

    def observe(self) -> Observation:
        state = np.zeros(10, np.float32)
        state[[0, 2, 3, 7]] = 0.5, self._height, -1.0, 1.0
        image = np.zeros((480, 640, 3), np.uint8)
        return Observation(self._now_ns, {"front": image}, {"front": 0}, state, self._now_ns, HOME, "fold")

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        self._chunks += 1
        return ChunkOutcome(sequence=chunk.sequence, accepted=True, reason="", targets_late=0, age_ns=0)

    def wait(self, duration_ns: int) -> None:
        self._now_ns += duration_ns

    def close(self) -> None:
        self.closed = True


def gate_of(bundle: Path, checkpoint: Path, cell: FakeCell, **changes: Any) -> Any:
    opened = open_bundle(bundle)
    settings = {"pairs": 29, "first_seed": 0, "latency": 1} | changes
    return verify.run_gate(opened, load_backend("onnxruntime-cpu", opened), checkpoint, cell, **settings)  # type: ignore[arg-type]


def test_a_gate_without_a_lost_pair_passes(bundle: Path, conv_checkpoint: Path) -> None:
    gate = gate_of(bundle, conv_checkpoint, FakeCell())
    assert gate.passed and (gate.pairs, gate.lost, gate.won) == (29, 0, 0) and 0.09 < gate.bound < 0.10
    assert (gate.successes, gate.reference_successes) == (29, 29) and set(gate.parts) == {"encode.onnx", "flow.onnx"}


def test_a_bundle_that_gives_no_answer_loses_its_pairs(bundle: Path, conv_checkpoint: Path) -> None:
    """PyTorch answers whatever it is shown; on the robot a state far from training gets no chunk."""
    gate = gate_of(bundle, conv_checkpoint, FakeCell(height=3.0))
    assert not gate.passed and gate.lost == 29 and gate.successes == 0 and gate.bound == pytest.approx(1.0)


def test_a_gate_of_few_pairs_is_none(bundle: Path, conv_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="needs at least 29, got 28"):
        gate_of(bundle, conv_checkpoint, FakeCell(), pairs=28)


@pytest.mark.parametrize(("height", "code"), [(0.2, 0), (3.0, 1)])
def test_the_command_writes_the_gate_down_whatever_it_says(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, height: float, code: int
) -> None:
    cell, before = FakeCell(height), open_bundle(bundle).digest
    monkeypatch.setattr(verify, "from_factory", lambda factory: cell)
    assert verify.main([str(bundle), "--json"]) == code
    said = capsys.readouterr()
    facts, after = json.loads(said.out), open_bundle(bundle)
    assert facts["bundle"] == after.digest != before and cell.closed
    assert after.info.gates["onnxruntime-cpu"].passed is (code == 0)
    assert bool(after.gate_problem("onnxruntime-cpu")) is bool(code) and after.gate_problem("torch-eager")
    assert facts["parity"]["onnxruntime-cpu"]["actions"]["max_error"] < 1e-5
    assert "no NVIDIA driver" in facts["parity"]["tensorrt"] or "tensorrt" in facts["parity"]["tensorrt"]
    assert ("29 of 29 pairs lost" in said.err) is bool(code)


def test_parity_alone_leaves_the_manifest(bundle: Path, capsys: Any) -> None:
    before = open_bundle(bundle).digest
    assert verify.main([str(bundle), "--no-gate"]) == 0
    assert open_bundle(bundle).digest == before and "torch-eager" in capsys.readouterr().out
    assert verify.main([str(bundle), "--checkpoint", str(bundle)]) == 1
    assert capsys.readouterr().err.startswith("verify: ")


def test_the_benchmark_compares_with_eager_and_with_the_floor(made_bundle: Path, capsys: Any) -> None:
    assert benchmark.main([str(made_bundle), "--runs", "12", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    for backend in ("onnxruntime-cpu", "torch-eager"):
        stages = facts[backend]["ms"]
        assert set(stages) == {"preprocess", "encode", "flow", "postprocess", "network", "total", "processor"}
        assert all(0.0 <= of["p50"] <= of["p95"] <= of["p99"] for of in stages.values())
        parts = sum(stages[name]["p50"] for name in ("preprocess", "encode", "flow", "postprocess"))
        assert stages["total"]["p99"] >= 0.5 * parts > 0.0
    eager, ours = (facts[name]["ms"]["total"]["p50"] for name in ("torch-eager", "onnxruntime-cpu"))
    assert facts["ratio"] == pytest.approx(eager / ours, abs=0.01)
    floor = facts["floor"]
    assert 0.0 < floor["ms"] < ours and floor["parts"]["encode"]["flop"] > 1e5
    assert facts["cold_start"]["seconds"] > facts["cold_start"]["loading_s"] > 0.0
    assert facts["cold_start"]["memory_mb"] > 10.0
    assert benchmark.main([str(made_bundle / "nothing")]) == 1
    assert "is not a finished bundle" in capsys.readouterr().err


def path(step_at_boundary: float) -> Path3:
    """Constant acceleration, with one more step of the velocity where the second chunk begins."""
    times = 0.01 * np.arange(200)
    velocity = 0.05 * times + step_at_boundary * (times >= 1.0) + 0.01 * (times >= 1.5)
    positions = np.zeros((200, 3))
    positions[:, 0] = np.cumsum(0.01 * velocity)
    starts = np.zeros(200, bool)
    starts[100] = True
    return Path3(times, positions, positions, starts)


@pytest.mark.parametrize(("step", "ratio"), [(0.01, 1.0), (0.03, 3.0), (0.0, 0.0)])
def test_jerk_where_chunks_meet_is_told_from_jerk_inside(step: float, ratio: float) -> None:
    found = judge([path(step)], mode="hard", latency_ms=0, within=10, refused=0)
    assert found.ratio == pytest.approx(ratio, abs=0.02) and found.wanted_ratio == found.ratio
    assert found.boundaries == 1 and found.peak_inside == pytest.approx(0.01 / 0.01**2, rel=1e-3)


def test_the_study_refuses_what_is_no_bundle(tmp_path: Path, capsys: Any) -> None:
    assert splice_study.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "is not a finished bundle" in capsys.readouterr().err
