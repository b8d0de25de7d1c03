"""What compares and measures fine-tunings: the R1 control, the ablation, the benchmark, the outcome's head."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_rft_train.benchmark import main as benchmark
from vla_rft_train.closed_loop import LoopSettings
from vla_rft_train.loop import checkpoint
from vla_rft_train.rft import grpo, outcome
from vla_rft_train.rft.ablation import arms, as_long, supervised
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.rft.control import verdict
from vla_rft_train.rft.presets import control_run, rft_run
from vla_rft_train.rft.rewards import Design, Frames, Reward, RewardConfig, Scene
from vla_rft_train.rft.study import Arm, Row, TrialPlan, report, run_arm, seconds_of

torch.set_num_threads(1)


def row(*, error: float, successes: int, trials: int = 20) -> Row:
    return Row(
        arm="R1-seed-0", steps=100, seconds=60.0, reward_before=-0.1, reward_after=-error, error_before=0.1,
        error_after=error, mm_before=5.0, mm_after=4.0, successes_before=4, successes_after=successes, trials=trials,
    )  # fmt: skip


def test_the_control_wants_every_seed() -> None:
    good, bad = row(error=0.08, successes=5), row(error=0.081, successes=4)
    assert verdict([good, good])[0] and not verdict([good, bad])[0]
    assert "fell by 20% or more for 1 of 2 seeds, success rose for 1" in verdict([good, bad])[1]
    holds, sentence = verdict([row(error=0.05, successes=0, trials=0)])
    assert not holds and "success was not tried" in sentence


def test_the_control_is_taught_by_actions_alone() -> None:
    run = control_run("sim")
    assert run.reward.design is Design.ACTION and not run.reward.imagines
    assert run.grpo.mse == 0.0 and run.grpo.entropy == 0.0
    assert not run.sigma.numbers and run.chain.correlation == 0.0, "R1 sees every number of every action"


def test_the_ablation_has_a_row_per_reward() -> None:
    run = rft_run("debug")
    plain, *rewarded = arms(run)
    assert [arm.name for arm in rewarded] == ["R1", "R2", "R3"] and plain.name == "SFT"
    made_up = grpo.advantages(torch.randn(3, 4), plain.run.grpo)
    assert not made_up.any() and plain.run.grpo.mse == 1.0
    with_head = replace(run, reward=replace(run.reward, outcome_head="somewhere"))
    *_, last = arms(with_head)
    assert last.name == "R3-outcome" and last.run.reward.outcome == 1.0
    assert last.seeded(3).name == "R3-outcome-seed-3" and last.seeded(3).run.loop.seed == 3


def test_supervision_for_as_much_time_has_more_steps() -> None:
    arm = supervised(rft_run("debug"))
    short, long = ([{"step": 100.0, "seconds": seconds}] for seconds in (10.0, 70.0))
    longer = as_long(arm, short, wanted_s=70.0)
    assert longer.name == "SFT-equal-time" and longer.run.loop.steps == 700
    assert longer.run.grpo == arm.run.grpo
    assert as_long(arm, long, wanted_s=10.0).run.loop.steps == max(2, round(100 * 10 / 70))
    assert seconds_of([{"seconds": 5.0}, {"seconds": 2.0}, {"seconds": 9.0}]) == 14.0  # resumed after 5 s


def test_a_study_does_nothing_twice(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = control_run("debug")
    run = replace(run, policy=str(SHIPPED / "policy"), data=replace(run.data, dataset=str(made.dataset)))
    plan = TrialPlan(trials=1, settings=LoopSettings(num_steps=1, limit_s=0.5))
    first = run_arm(Arm(name="R1", run=run), tmp_path, plan)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run_arm(Arm(name="R1", run=run), tmp_path, plan) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert first.steps == 2 and first.trials == 1 and first.successes_after == 0
    assert first.error_before > 0.0 and first.error_after != first.error_before
    (trial,) = [json.loads(line) for line in (tmp_path / "R1" / "trials.jsonl").read_text().splitlines()]
    assert trial["seed"] == 100 and trial["num_steps"] == 1
    report([first], tmp_path, "A study", ["A sentence."])
    assert "0/1 (0% to 79%)" in capsys.readouterr().out and "A sentence." in (tmp_path / "index.html").read_text()


def test_both_schedules_agree(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--states", "2", "--group", "3", "--frames", "2", "--repeats", "1"]
    assert benchmark(["rft", "--preset", "debug", *sizes, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rewards_agree"] == 1.0 and facts["losses_differ_by"] < 1e-5 and facts["rewards_spread"] > 1e-4
    assert facts["ratio"] > 1.0 and facts["reward"] == "R3" and facts["frames"] == 2


class TestOutcome:
    def test_its_head_is_trained_and_rewards_the_last_frame(self, made, tmp_path: Path) -> None:
        run = outcome.outcome_run("debug")
        run = replace(run, data=replace(run.data, branches=str(made.branches)))
        folder = checkpoint.release(outcome.train(run, tmp_path / "run"), tmp_path / "head", half=False)
        term = outcome.load(folder, torch.device("cpu"))
        first, frames = torch.rand(2, 3, 64, 64), torch.rand(2, 4, 3, 3, 64, 64)
        scene = Scene(torch.zeros(2, 4, 8, 7), torch.zeros(2, 8, 7), Frames(first, frames, frames[:, 0], frames[:, 1]))
        config = RewardConfig(perceptual=0.0, outcome=2.0, outcome_head=str(folder))
        total, parts = Reward(config, extra={"outcome": (2.0, term)})(scene)
        assert set(parts) == {"R3", "outcome"} and bool(((parts["outcome"] > 0.0) & (parts["outcome"] < 1.0)).all())
        torch.testing.assert_close(total, parts["R3"] + 2.0 * parts["outcome"])
        frames[:, :, -1] = 0.0
        assert term(scene).unique().numel() == 1
        with pytest.raises(ValueError, match="nothing was imagined"):
            term(replace(scene, frames=None))

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="name a folder of branches"):
            outcome.train(outcome.outcome_run("debug"), tmp_path)
        with pytest.raises(ValueError, match="stage 'policy', expected 'outcome'"):
            outcome.load(SHIPPED / "policy", torch.device("cpu"))
        with pytest.raises(ValueError, match="name the checkpoint of the outcome's head"):
            RewardConfig(outcome=1.0)
