"""Is the reward true: correlations with what really happened, and the study from played chunks to its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_rft_sim import perturbed
from vla_rft_train.rft import reward_truth
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.rft.reward_truth import agreement


def test_agreement_of_orders() -> None:
    happened = np.random.default_rng(0).normal(size=(30, 8))
    same = agreement(np.exp(happened), happened)
    assert (same.overall, same.within, same.within_low) == pytest.approx((1.0, 1.0, 1.0)) and same.starts == 30
    against = agreement(-happened, happened)
    assert (against.overall, against.within) == pytest.approx((-1.0, -1.0))


def test_agreement_within_a_start_state_is_not_that_over_all() -> None:
    """A reward that only knows which start state is easy says nothing about the chunks of one."""
    random = np.random.default_rng(1)
    easy = 10.0 * random.normal(size=(200, 1))
    found = agreement(easy + random.normal(size=(200, 8)), easy + random.normal(size=(200, 8)))
    assert found.overall > 0.9 and abs(found.within) < 0.15
    assert found.within_low < found.within < found.within_high


def test_start_states_without_a_difference_do_not_count() -> None:
    said = np.arange(8.0)[None].repeat(3, axis=0)
    happened = np.array([[0.0] * 8, [1.0] * 8, [0.0] * 4 + [1.0] * 4])
    found = agreement(said, happened)
    assert found.starts == 1 and found.within > 0.8
    nothing = agreement(said, np.ones((3, 8)))
    assert nothing.starts == 0 and np.isnan(nothing.within) and np.isnan(nothing.overall_low)


class TestStudy:
    def test_from_played_chunks_to_the_page(self, made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        chunks = tmp_path / "chunks"
        demos = made.dataset.parent / "demos"
        sizes = ["--starts", "3", "--chunks", "3", "--workers", "1"]
        assert perturbed.main([str(demos), "--out", str(chunks), *sizes]) == 0
        out = tmp_path / "page"
        models = ["--world-model", str(SHIPPED / "world_model"), "--tokenizer", str(SHIPPED / "tokenizer")]
        assert reward_truth.main([str(chunks), *models, "--out", str(out)]) == 0
        facts = json.loads((out / "figures.json").read_text())
        assert facts["starts"] == 3 and facts["chunks"] == 3
        assert set(facts["spearman"]) == {"R1", "R2", "R3", "true pictures"}
        assert facts["spearman"]["true pictures"]["pictures"]["overall"] == pytest.approx(1.0)
        said = np.load(out / "chunks.npz")
        assert np.all(said["said.R3"] <= 0.0) and np.any(said["said.R3"] < 0.0) and np.all(said["said.R1"] < 0.0)
        assert (out / "chunks.png").is_file() and "within a start state" in capsys.readouterr().out

    def test_other_branches_are_refused(self, made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        models = ["--world-model", str(SHIPPED / "world_model"), "--tokenizer", str(SHIPPED / "tokenizer")]
        assert reward_truth.main([str(made.branches), *models, "--out", str(tmp_path / "page")]) == 1
        assert "vla_rft_sim.perturbed" in capsys.readouterr().err and not (tmp_path / "page").exists()
