"""Protocols made for bundles, comparisons that are named beforehand, and what a study found as data and as strips."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from vla_rft_trials.__main__ import main
from vla_rft_trials.compose import FRESH_SEEDS, policy_entry
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.results import results
from vla_rft_trials.running import run_serially
from vla_rft_trials.strips import _chosen
from vla_rft_trials.study import StudyError, unlock

Make = Callable[..., Any]
THREE = [
    {"name": "steady", "factory": "x:y", "method": "good"},
    {"name": "shaky", "factory": "x:y", "options": {"seed": 1}, "method": "bad"},
    {"name": "shakier", "factory": "x:y", "options": {"seed": 2}, "method": "bad"},
]


def test_a_protocol_is_composed_for_bundles(protocol_file: Make, tmp_path: Path) -> None:
    template, out = protocol_file(tmp_path), tmp_path / "out.yaml"
    words = ["compose", str(template), str(out), "--policy", "a=some/bundle@SFT", "--policy", "b=other", "--count", "6"]
    assert main([*words, "--compare", "b:a", "--title", "Two", "--time-limit", "5"]) == 0
    made = Protocol.load(out)
    assert [(entry.name, entry.bundle, entry.method) for entry in made.policies] == [
        ("a", "some/bundle", "SFT"),
        ("b", "other", ""),
    ]
    assert made.placements.count == made.trials_per_policy == 6 and made.placements.seed in FRESH_SEEDS
    assert (made.title, made.time_limit_s, made.comparisons) == ("Two", 5.0, (("b", "a"),))
    assert made.success == Protocol.load(template).success
    assert main([*words, "--compare", "b:c"]) == 2
    assert main([*words, "--development", "300"]) == 0 and Protocol.load(out).placements.seed == 300
    assert main([*words, "--development", "999995"]) == 2


def test_what_cannot_be_composed_is_named(protocol: Protocol) -> None:
    with pytest.raises(ValueError, match="expected NAME=BUNDLE"):
        policy_entry("bundle-alone")
    with pytest.raises(ValueError, match="comparisons: no policy 'stedy'; did you mean 'steady'"):
        replace(protocol, comparisons=(("stedy", "shaky"),))


@pytest.fixture
def done(make_study: Make, make_stage: Make) -> Path:
    """Three policies, two of one method, all trials filmed; one comparison was asked for."""
    study = make_study(policies=THREE, comparisons=[["shaky", "steady"]])
    stage = make_stage(study, film=True)
    with stage.open() as run:
        run_serially(run, stage)
    return Path(study.folder)


def test_a_study_s_results_wait_for_its_seal(done: Path) -> None:
    with pytest.raises(StudyError, match="is not unlocked"):
        results(done)
    assert main(["strips", str(done), "steady", "shaky", "--out", str(done.parent / "s.png")]) == 2


def test_a_study_s_results_and_strips(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unlock", str(done)]) == 0
    assert main(["results", str(done), "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["complete"] and found["first_seed"] == 7
    assert [(p["name"], p["successes"], p["trials"]) for p in found["policies"]] == [
        ("steady", 4, 4),
        ("shaky", 0, 4),
        ("shakier", 0, 4),
    ]
    assert found["policies"][1]["failure_modes"] == {"no grasp": 4} and found["policies"][1]["median_s"] is None
    (pair,) = found["pairs"]  # only what was asked for: no correction for others
    assert (pair["a"], pair["b"], pair["only_a"], pair["only_b"]) == ("shaky", "steady", 0, 4)
    assert pair["test"] == "McNemar" and pair["p"] == pair["holm"] == pytest.approx(0.125)
    capsys.readouterr()
    assert main(["figures", str(tmp_path / "found.json")]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("bad"))
    assert row.split() == ["bad", "0/8", "0%", "to", "37%", "0/4,", "0/4"]
    (tmp_path / "other.json").write_text("[]")
    assert main(["figures", str(tmp_path / "other.json")]) == 2
    assert "not what `results` writes" in capsys.readouterr().err
    bad = next(method for method in found["methods"] if method["name"] == "bad")
    assert bad["seed_rates"] == [0.0, 0.0] and bad["trials"] == 8
    assert found["method_p"] == [{"a": "good", "b": "bad", "p": pytest.approx(0.125)}]
    picture = tmp_path / "strips.png"
    assert main(["strips", str(done), "shaky", "steady", "--count", "2", "--out", str(picture)]) == 0
    assert cv2.imread(str(picture)).shape[0] > 4 * 160
    assert main(["strips", str(done), "shaky", "stedy", "--out", str(picture)]) == 2
    assert "did you mean 'steady'" in capsys.readouterr().err


def test_strips_show_first_what_only_one_of_the_two_solved(success: Make, failure: Make, trial: Make) -> None:
    won, lost = success(trial(0)), failure(trial(1))
    gained, given = (lost, won), (won, lost)
    both, neither = (won, won), (lost, lost)
    assert _chosen([both, given, gained, gained, neither, given], 4) == [gained, gained, given, given]
    assert _chosen([both, gained, gained, gained, neither], 4) == [gained, gained, gained, both]
    assert _chosen([neither, given], 4) == [given, neither]


def test_a_locked_comparison_is_part_of_the_study(make_study: Make) -> None:
    study = make_study(comparisons=[["steady", "shaky"]])
    assert study.protocol.comparisons == (("steady", "shaky"),)
    assert unlock(study, complete=False, early="test").early == "test"
