"""Fine-tuning as a researcher runs it, in small, from the shipped checkpoints: play, resume, release, refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import CPU, batch_of, config
from torch import Tensor

from vla_rft_train import released
from vla_rft_train.evaluate.__main__ import main as evaluate
from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.progress import LOG
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.rft import grpo
from vla_rft_train.rft.__main__ import finetune, make_stage
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.rft.imagine import decode, distinct
from vla_rft_train.rft.presets import rft_run
from vla_rft_train.rft.rewards import Design
from vla_rft_train.rft.stage import RftStage, augmented
from vla_rft_train.rollout import Precision, Sampling

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stage(made) -> RftStage:
    return make_stage(config(made, group=4), CPU)


def as_group(batch: dict[str, Tensor], actions: Tensor, stage: RftStage) -> Tensor:
    """Rewards of chunks [S, N, T, A]."""
    return stage.judge(batch, actions)[0]


class TestStartStates:
    def test_policy_and_world_model_see_the_same_moment(self, stage: RftStage) -> None:
        item = stage.dataset[3]
        assert item["image"].shape == (3, 96, 96) and item["frames"].shape == (5, 3, 64, 64)
        assert item["actions"].shape == (8, 7) and item["world_actions"].shape == (4, 2, 7)
        seen = torch.nn.functional.interpolate(item["image"][None].float(), size=(64, 64), mode="area")[0]
        assert (seen - item["frames"][0].float()).abs().mean() < 3.0
        assert stage.imagination is not None
        own = stage.imagination.world_actions(item["actions"][None, None], item["world_actions"][None])
        torch.testing.assert_close(own[0, 0], item["world_actions"], atol=1e-5, rtol=0.0)

    def test_the_demonstration_goes_on_after_the_chunk(self, made) -> None:
        longer = make_stage(config(made, data={"frames": 6}), CPU)
        item, imagination = longer.dataset[0], longer.imagination
        assert item["frames"].shape[0] == 7 and imagination is not None
        other = imagination.world_actions(item["actions"][None, None] + 1.0, item["world_actions"][None])[0, 0]
        assert torch.equal(other[4:], item["world_actions"][4:]) and not torch.equal(
            other[:4], item["world_actions"][:4]
        )

    def test_grasps_and_releases_count_more(self, made, stage: RftStage) -> None:
        more = make_stage(config(made, data={"around_grasps": 2}), CPU).dataset
        every, counted = [int(item["id"]) for item in stage.dataset], [int(item["id"]) for item in more]
        moving = {i for i in every if counted.count(i) == 3}
        assert moving and {counted.count(i) for i in every} == {1, 3} and len(moving) < len(every) / 2
        width = stage._stats.names.index("gripper.width")
        for item in stage.dataset:
            span = item["actions"][:, width].amax() - item["actions"][:, width].amin()
            assert (int(item["id"]) in moving) == bool(span > 0.5)


class TestImagination:
    @pytest.mark.parametrize("precision", list(Precision))
    def test_equal_actions_get_exactly_zero(self, made, precision: Precision) -> None:
        run = config(made, group=4)
        stage = make_stage(replace(run, rollout=replace(run.rollout, precision=precision)), CPU)
        batch = batch_of(stage, 0, 9)
        same = batch["actions"][:, None].expand(-1, 3, -1, -1)
        assert (as_group(batch, same, stage) == 0.0).all()
        assert as_group(batch, same + 0.5, stage).max() < 0.0

    @pytest.mark.parametrize("sampling", list(Sampling))
    def test_the_reference_follows_the_demonstration_alone(self, made, sampling: Sampling) -> None:
        stage = make_stage(config(made, rollout=replace(rft_run("debug").rollout, sampling=sampling)), CPU)
        imagination, batch = stage.imagination, batch_of(stage, 4, 17)
        assert imagination is not None

        def reference(batch: dict[str, Tensor], actions: Tensor) -> Tensor:
            return imagination.rollouts(batch, actions).codes[:, -1]

        actions = torch.randn(2, 3, 8, 7, generator=torch.Generator().manual_seed(0))
        first = reference(batch, actions)
        if sampling is not Sampling.INDEPENDENT:  # whose draws are by the place within the group
            assert torch.equal(first, reference(batch, -actions)) and torch.equal(
                first, reference(batch, actions[:, :1])
            )
        other = dict(batch, actions=batch["actions"] + torch.tensor([1.0, 0.0])[:, None, None])
        changed = reference(other, actions)
        assert not torch.equal(changed[0], first[0]) and torch.equal(changed[1], first[1])
        alone = {name: value[1:] for name, value in batch.items() if name != STEP}
        assert torch.equal(reference(alone, actions[1:])[0], first[1])  # draws are keyed by the start state

    def test_in_bfloat16_rewards_rank_rollouts_as_in_float32(self, made, stage: RftStage) -> None:
        run = config(made, group=4)
        short = make_stage(replace(run, rollout=replace(run.rollout, precision=Precision.BFLOAT16)), CPU)
        batch = batch_of(stage, *range(0, 40, 4))
        noise = 0.2 * torch.randn(10, 6, 1, 7, generator=torch.Generator().manual_seed(0))
        actions = batch["actions"][:, None] + noise
        one, two = as_group(batch, actions, stage), as_group(batch, actions, short)
        assert two.dtype == torch.float32 and not torch.equal(one, two)
        assert torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1] > 0.95

    def test_frames_are_decoded_once(self, stage: RftStage) -> None:
        batch = batch_of(stage, 0, 5)
        assert stage.imagination is not None
        actions = batch["actions"][:, None] + 0.1 * torch.randn(2, 4, 8, 7)
        rollouts = stage.imagination.rollouts(batch, torch.cat([actions, actions[:, :1]], dim=1))
        rows, place = distinct(rollouts.codes)
        assert (
            torch.equal(rows[place][..., 1:], rollouts.codes)
            and (rows[place][..., 0] == torch.tensor([[[0]], [[1]]])).all()
        )
        assert len(rows) <= 2 * 5 * 4 and torch.equal(place[:, 0], place[:, 4])
        whole = decode(stage.imagination.tokenizer, rollouts)
        directly = stage.imagination.tokenizer.decode_dynamics(rollouts.codes[:, 2], rollouts.context).clamp(0.0, 1.0)
        torch.testing.assert_close(whole[:, 2], directly, atol=1e-5, rtol=0.0)

    def test_the_reward_falls_with_the_size_of_a_perturbation(self, stage: RftStage) -> None:
        indices = range(0, len(stage.dataset), 4)
        batch = batch_of(stage, *indices)
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(len(batch["actions"]), 1, 1, 7, generator=generator).expand(-1, 1, 8, -1)
        sizes = (0.0, 0.1, 0.3, 0.9)
        actions = torch.cat([batch["actions"][:, None] + size * direction for size in sizes], dim=1)
        mean = as_group(batch, actions, stage).mean(dim=0).tolist()
        assert mean[0] == 0.0 and mean == sorted(mean, reverse=True) and mean[1] > 2.0 * mean[2], mean


class TestStep:
    def test_draws_are_those_of_the_start_state(self, stage: RftStage) -> None:
        together, _ = stage.play(batch_of(stage, 1, 2))
        alone, _ = stage.play(batch_of(stage, 2))
        torch.testing.assert_close(together.chain.x[:, 4:], alone.chain.x, atol=1e-5, rtol=0.0)
        other, _ = stage.play(batch_of(stage, 2) | {STEP: torch.tensor(1)})
        assert (other.chain.x - alone.chain.x).abs().amin(dim=(1, 2, 3))[0] >= 0.0
        assert not torch.allclose(other.chain.x[0], alone.chain.x[0])

    def test_a_shared_start_is_shared_within_the_group(self, made) -> None:
        run = config(made)
        shared = make_stage(replace(run, chain=replace(run.chain, shared_noise=True)), CPU)
        seen, _ = shared.play(batch_of(shared, 1, 2))
        x = seen.chain.x.unflatten(1, (2, -1))
        assert torch.equal(x[0, :, 0], x[0, :, 1]) and not torch.equal(x[1, :, 0], x[1, :, 1])
        assert not torch.equal(x[0, 0], x[0, 1])

    def test_chains_may_begin_where_evaluation_does(self, made) -> None:
        run = config(made)
        zero = make_stage(replace(run, chain=replace(run.chain, noise_scale=0.0)), CPU)
        seen, _ = zero.play(batch_of(zero, 1, 2))
        assert not seen.chain.x[0].any() and seen.chain.x[1].any()
        assert zero.held_out() == zero.held_out()
        with pytest.raises(ValueError, match="noise_scale must lie within"):
            replace(run.chain, noise_scale=-1.0)

    def test_the_policy_is_shown_what_its_training_showed_it(self, stage: RftStage) -> None:
        plain = batch_of(stage, 1, 2)
        augmentation = released.load_policy(SHIPPED / "policy").config.augment
        assert augmentation.state > 0.0
        before = torch.get_rng_state()
        shown = augmented(plain, augmentation, (0, 5))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(shown[name], plain[name]) for name in ("frames", "world_state", "actions"))
        assert not torch.equal(shown["state"], plain["state"])
        moved = (shown["image"] - plain["image"].float() / 255.0).abs().mean(dim=(1, 2, 3))
        assert bool((moved > 0.01).all()) and shown["image"].amax() <= 1.0
        alone = augmented(batch_of(stage, 2), augmentation, (0, 5))
        assert torch.equal(alone["image"][0], shown["image"][1]) and torch.equal(alone["state"][0], shown["state"][1])
        later = augmented(plain, augmentation, (0, 6))
        assert not torch.equal(later["image"], shown["image"])

    def test_before_the_first_update_the_ratio_is_1(self, stage: RftStage) -> None:
        stage.model.train()
        assert not stage.model.training
        seen, figures = stage.play(batch_of(stage, 1, 2, 3))
        _, found = stage.model(seen)
        assert found["ratio_min"] == pytest.approx(1.0, abs=1e-4) == found["ratio_max"]
        assert float(found["clip_fraction"]) == 0.0 and float(found["policy_loss"]) == pytest.approx(0.0, abs=1e-5)
        torch.testing.assert_close(seen.advantages.view(3, 4).sum(1), torch.zeros(3), atol=1e-5, rtol=0.0)
        expected = grpo.advantages(seen.rewards, stage.run.grpo)
        assert torch.equal(expected.flatten(), seen.advantages)
        assert figures["reward"] == pytest.approx(float(seen.rewards.mean()))

    def test_only_head_and_sigma_net_learn(self, stage: RftStage) -> None:
        seen, _ = stage.play(batch_of(stage, 1, 2))
        loss, _ = stage.model(seen)
        loss.backward()
        learning = {name for name, p in stage.model.named_parameters() if p.grad is not None}
        assert all(name.startswith(("policy.head.", "sigma.")) for name in learning)
        assert learning == {name for name, p in stage.model.named_parameters() if p.requires_grad}
        assert any("condition_in" in name for name in learning)
        stage.model.zero_grad(set_to_none=True)

    def test_a_reward_of_actions_needs_no_world_model(self, made) -> None:
        run = config(made, world_model="", tokenizer="")
        plain = make_stage(replace(run, reward=replace(run.reward, design=Design.ACTION)), CPU)
        batch = batch_of(plain, 0, 1)
        assert "frames" not in batch
        rewards = as_group(batch, batch["actions"][:, None] + 0.25, plain)
        torch.testing.assert_close(rewards, torch.full((2, 1), -0.25))


def logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    return [{name: v for name, v in line.items() if not name.startswith("seconds")} for line in lines]


def test_fine_tuning_goes_on_where_it_stopped(made, tmp_path: Path) -> None:
    def run(steps: int, folder: Path) -> Path:
        several = {"loop": {"accumulate": 2, "batch": 4}, "minibatches": 2, "epochs": 2}
        return finetune(config(made, steps=steps, **several), folder)

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    parts = run(4, tmp_path / "parts")
    logs = [logged(tmp_path / name) for name in ("whole", "parts")]
    assert logs[0] == logs[1] and [line["step"] for line in logs[0]] == [0, 1, 2, 3, 4]
    wanted = {
        "reward",
        "ratio_max",
        "clip_fraction",
        "kl",
        "entropy",
        "sigma_min",
        "grad_norm_head",
        "held_out_mm",
        "mse",
    }
    assert wanted <= set(logs[0][-1]) and "held_out_mm" in logs[0][0]
    assert any(line["ratio_max"] != 1.0 for line in logs[0][1:])
    one, two = (checkpoint.load(folder)[0] for folder in (whole, parts))
    start = released.load_policy(SHIPPED / "policy").model.state_dict()
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, two.weights[name]), name
    moved = {name for name, tensor in start.items() if not torch.equal(tensor, one.weights[f"policy.{name}"])}
    assert moved and all(name.startswith("head.") for name in moved)
    assert any(name.startswith("sigma.") for name in one.weights)
    page = (tmp_path / "whole" / "index.html").read_text()
    for name in ("curves.png", "pictures/actions.png", "pictures/rollouts-00000004.png"):
        assert name in page and (tmp_path / "whole" / name).is_file()


def test_what_is_released_is_a_policy(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = finetune(config(made), tmp_path / "run")
    target = checkpoint.release(last, tmp_path / "released", half=False)
    tuned, start = released.load_policy(target), released.load_policy(SHIPPED / "policy")
    assert tuned.config == start.config and tuned.stats == start.stats and tuned.digest != start.digest
    assert (target / "rft.yaml").is_file()
    out = tmp_path / "evaluation"
    arguments = [str(target), "--out", str(out), "--trials", "1", "--latencies", "1", "--num-steps", "1"]
    assert evaluate(["policy", *arguments]) == 0 and "0/1" in capsys.readouterr().out
    again = make_stage(config(made, policy=str(target)), CPU)  # a fine-tuned policy can be fine-tuned
    for name, tensor in again.model.policy.state_dict().items():
        assert torch.equal(tensor, tuned.model.state_dict()[name]), name


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"policy": ""}, "policy: name the folder"),
            ({"world_model": ""}, "world_model: name the folder of a world model's checkpoint"),
            ({"group": 1}, "group: a rollout is compared"),
            ({"data": {"frames": 3}}, r"data\.frames: 0, or at least the 4"),
            ({"minibatches": 3}, "minibatches must divide"),
            ({"loop": {"parallel": "fsdp2"}}, "small and replicated"),
        ],
    )
    def test_what_does_not_fit(self, made, changes: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            make_stage(config(made, **changes), CPU)

    def test_no_perceptual_net_is_made_up(self, made) -> None:
        run = config(made, perceptual=rft_run("towel").perceptual)
        with pytest.raises(ValueError, match="LPIPS needs the published weights"):
            make_stage(replace(run, reward=replace(run.reward, perceptual=1.0)), CPU)


def test_the_command_fine_tunes_and_refuses_in_one_sentence(made, tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        module = [sys.executable, "-m", "vla_rft_train.rft", "debug", "--out", str(tmp_path / "run")]
        names = [f"--{n.replace('_', '-')}={SHIPPED / n}" for n in ("policy", "world_model", "tokenizer")]
        return subprocess.run([*module, *names, *arguments], capture_output=True, text=True, timeout=600)

    done = command(f"--data.dataset={made.dataset}", "--reward.design=MODEL", "--grpo.spread=GROUP")
    assert done.returncode == 0, done.stderr[-2000:]
    page, last = done.stdout.splitlines()[-2:]
    assert Path(page).is_file() and checkpoint.load(Path(last))[0].step == 2
    refused = command("--data.dataset=nowhere")
    assert (
        refused.returncode == 1 and "nowhere" in refused.stderr.splitlines()[-1] and "Traceback" not in refused.stderr
    )
