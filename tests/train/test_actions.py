"""Figure 4: what two policies would do on recorded observations, as spread and as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vla_rft_train.evaluate.__main__ import main
from vla_rft_train.evaluate.actions import AXES, TRANSLATIONS, apart, spread
from vla_rft_train.rft.benchmark import SHIPPED

torch.set_num_threads(1)


def test_the_spread_is_in_millimetres() -> None:
    actions = torch.stack([torch.linspace(-1.0, 1.0, 1001), torch.linspace(-2.0, 2.0, 1001)], dim=1)
    found = spread(actions)
    assert tuple(found) == AXES
    assert found["delta.x"]["span_mm"] == pytest.approx(1.96) and found["delta.z"]["span_mm"] == pytest.approx(3.92)


def test_what_a_chunk_owes_to_its_noise_is_told_from_what_it_always_does() -> None:
    always = torch.tensor([3.0, -1.0, 0.0]).expand(2, 4, 3)
    drawn = torch.tensor([1.0, 0.0, 2.0]) * torch.tensor([-1.0, 1.0])[:, None, None]
    found = apart(always + drawn)
    assert tuple(found) == TRANSLATIONS
    assert [row["of_observation_mm"] for row in found.values()] == pytest.approx([3.0, 1.0, 0.0])
    assert [row["mean_mm"] for row in found.values()] == pytest.approx([3.0, -1.0, 0.0])
    assert [row["of_noise_mm"] for row in found.values()] == pytest.approx([2.0**0.5, 0.0, 8.0**0.5])


def test_a_policy_beside_itself_is_spread_alike_and_more_with_noise(made, tmp_path: Path) -> None:
    policy, found = str(SHIPPED / "policy"), {}
    for scale in ("0", "1"):
        out = tmp_path / scale
        words = ["actions", policy, policy, "--dataset", str(made.dataset), "--num-steps", "2", "--out", str(out)]
        assert main([*words, "--noise-scale", scale]) == 0
        assert (out / "actions.png").stat().st_size > 1000
        facts = json.loads((out / "figures.json").read_text())
        found[scale] = facts["spread"]
        owed = [row["of_noise_mm"] for row in facts["errors"]["base"].values()]
        assert owed == [0.0, 0.0, 0.0] if scale == "0" else min(owed) > 0.5
        assert found[scale]["base"] == found[scale]["fine-tuned"]
    assert found["1"]["demonstrated"] == found["0"]["demonstrated"] and found["1"]["base"] != found["0"]["base"]


def test_a_dataset_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(SHIPPED / "policy")
    assert main(["actions", policy, policy, "--dataset", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 1
    assert "evaluate actions:" in capsys.readouterr().err
