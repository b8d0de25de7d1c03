"""Stage I as a researcher runs it, with the debug preset: train, go on, release, evaluate; and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_rft_core.manifest import read_manifest
from vla_rft_episodes.branches import Branches
from vla_rft_train import command, released
from vla_rft_train.benchmark import main as benchmark
from vla_rft_train.data.codes import CodedWindows
from vla_rft_train.data.prepare import prepare
from vla_rft_train.evaluate import world_model as evaluation
from vla_rft_train.evaluate.__main__ import main as evaluate
from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.progress import LOG
from vla_rft_train.presets import TokenizerRun, WorldModelRun, tokenizer_run, world_model_run
from vla_rft_train.rft.attempts import main as record_attempts
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.stages import as_float
from vla_rft_train.train_tokenizer import train as train_tokenizer
from vla_rft_train.train_world_model import train as train_world_model

torch.set_num_threads(1)


def tokenizer_config(made, *, steps: int = 2) -> TokenizerRun:
    run = tokenizer_run("debug")
    data = replace(run.data, dataset=str(made.dataset), branches=(str(made.branches),))
    return replace(run, data=data, loop=replace(run.loop, steps=steps))


def world_model_config(made, tokenizer: Path, *, steps: int = 2) -> WorldModelRun:
    run = world_model_run("debug")
    data = replace(run.data, dataset=str(made.dataset), branches=(str(made.branches),))
    return replace(run, data=data, tokenizer=str(tokenizer), loop=replace(run.loop, steps=steps))


@pytest.fixture(scope="module")
def tokenizer(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released tokenizer."""
    root = tmp_path_factory.mktemp("tokenizer")
    return checkpoint.release(train_tokenizer(tokenizer_config(made), root / "run"), root / "released", half=True)


@pytest.fixture(scope="module")
def world_model(made, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world_model")
    return checkpoint.release(
        train_world_model(world_model_config(made, tokenizer), root / "run"), root / "released", half=True
    )


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / LOG).read_text().splitlines()]


@pytest.mark.parametrize("stage", ["tokenizer", "world_model"])
def test_a_stage_goes_on_where_it_stopped(made, tokenizer: Path, tmp_path: Path, stage: str) -> None:
    def train(steps: int, run: Path) -> Path:
        if stage == "tokenizer":
            return train_tokenizer(tokenizer_config(made, steps=steps), run)
        return train_world_model(world_model_config(made, tokenizer, steps=steps), run)

    whole = train(4, tmp_path / "whole")
    train(2, tmp_path / "parts")
    parts = train(4, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, tensor in checkpoint.load_weights(whole).items():
        assert torch.equal(tensor, checkpoint.load_weights(parts)[name]), name
    assert list((tmp_path / "whole" / "pictures").glob("*.png"))


def test_a_release_is_small_and_loads_as_the_run_does(made, tmp_path: Path) -> None:
    run = train_tokenizer(tokenizer_config(made), tmp_path / "run")
    small = checkpoint.release(run, tmp_path / "small", half=False)
    assert set(read_manifest(small, kind=checkpoint.KIND).files) == {
        "model.safetensors", "config.yaml", "spec.yaml", "norm_stats.json",
    }  # fmt: skip
    ours, theirs = released.load_tokenizer(run), released.load_tokenizer(small)
    frames = torch.rand(1, 3, 3, 32, 32)
    assert ours.digest == theirs.digest and ours.config == theirs.config
    assert torch.equal(ours.model(frames)[1], theirs.model(frames)[1])
    done = subprocess.run(
        [sys.executable, "-m", "vla_rft_train.release", run, small], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "exists already and is not overwritten" in done.stderr


def test_windows_are_coded_as_the_tokenizer_codes_them(made, tokenizer: Path) -> None:
    model = released.load_tokenizer(tokenizer).model
    config = replace(tokenizer_config(made).data, branches=())
    windows = prepare(config, size=model.config.image_size).train
    coded = CodedWindows(windows, model, batch=5)
    assert len(coded) == len(windows)
    for index in (0, 7, len(windows) - 1):
        context, codes = model.encode_window(as_float(windows[index]["frames"])[None])
        assert torch.equal(coded[index]["context_codes"], context.codes[0])
        assert torch.equal(coded[index]["codes"], codes[0])
        assert torch.equal(coded[index]["actions"], windows[index]["actions"])


def test_branches_of_held_out_episodes_are_held_out(made) -> None:
    data = prepare(tokenizer_config(made).data, size=32)
    assert data.facts["episodes_held_out"] and len(data.facts["episodes_trained_on"]) == 1
    alone = prepare(replace(tokenizer_config(made).data, branches=()), size=32)
    window_rows, branch_rows = 5, 17
    assert 0 < len(data.train) - len(alone.train) <= 24 * (branch_rows - window_rows + 1)
    assert len(data.held_out) == len(alone.held_out)


def test_the_evaluation_says_what_the_world_model_is_worth(
    made, tokenizer: Path, world_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page"
    arguments = [str(world_model), "--tokenizer", str(tokenizer), "--dataset", str(made.dataset)]
    more = ["--failures", str(made.branches), "--cases", "2", "--per-episode", "3", "--perceptual", "none"]
    assert evaluate(["world-model", *arguments, *more, "--out", str(out)]) == 0
    facts = json.loads((out / "figures.json").read_text())
    table = facts["quality"]
    assert list(table) == [
        evaluation.TRUE, evaluation.SHUFFLED, evaluation.STILL, evaluation.TOKENIZER, evaluation.COPY,
    ]  # fmt: skip
    assert facts["windows"] == 6 and facts["failing"]["cases"] == 2
    assert 5.0 < table[evaluation.COPY]["psnr"] < 60.0
    assert {"index.html", "psnr.png", "rollouts.png", "failures.png", "figures.json"} == {p.name for p in out.iterdir()}
    assert "action gap" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert all(f'src="{name}"' in page for name in ("psnr.png", "rollouts.png", "failures.png"))


def test_shuffling_gives_every_window_the_actions_of_another(made, tokenizer: Path, world_model: Path) -> None:
    parent = released.load_tokenizer(tokenizer)
    model = released.load_world_model(world_model, parent)
    batch = {
        "frames": torch.rand(5, 3, 3, 32, 32),
        "actions": torch.arange(5.0)[:, None, None, None].expand(5, 2, 2, 7),
        "state": torch.zeros(5, 10),
    }
    seen = []
    imagine = evaluation.imagine
    evaluation.imagine = lambda w, t, b: seen.append(b["actions"]) or imagine(w, t, b)
    try:
        made_frames = evaluation.rollouts(model.model, parent.model, batch, model.stats["action"], seed=0)
    finally:
        evaluation.imagine = imagine
    true, shuffled, still = (actions[:, 0, 0, 0] for actions in seen)
    assert sorted(shuffled.tolist()) == true.tolist() and not (shuffled == true).any()
    assert (still == still[0]).all()
    assert torch.equal(made_frames[evaluation.COPY][:, 1], batch["frames"][:, 0])


def test_no_motion_keeps_absolute_numbers_and_stops_deltas(made, world_model: Path, tokenizer: Path) -> None:
    stats = released.load_world_model(world_model, released.load_tokenizer(tokenizer)).stats["action"]
    actions = torch.rand(3, 2, 2, 7)
    physical = stats.unnormalize(evaluation.still(actions, stats))
    width = stats.names.index("gripper.width")
    moving = [i for i, name in enumerate(stats.names) if i != width]
    torch.testing.assert_close(physical[..., moving], torch.zeros(3, 1, 1, 6), rtol=0.0, atol=1e-6)
    first = stats.unnormalize(actions[:, :1, :1])[..., width]
    torch.testing.assert_close(physical[..., width], first, rtol=0.0, atol=1e-6)


def test_a_refresh_goes_on_with_a_policys_own_attempts(
    made, tokenizer: Path, world_model: Path, tmp_path: Path
) -> None:
    attempts = tmp_path / "attempts"
    words = [str(SHIPPED / "policy"), "--trials", "2", "--num-steps", "2", "--out", str(attempts)]
    assert record_attempts(words) == 0
    recorded = Branches(attempts)
    assert len(recorded) == 2 and all(len(a.actions) > 16 and len(a.images("front")) == len(a.states) for a in recorded)
    stamps = [path.stat().st_mtime_ns for path in sorted(attempts.rglob("*"))]
    assert record_attempts(words) == 0
    assert stamps == [path.stat().st_mtime_ns for path in sorted(attempts.rglob("*"))]

    config = world_model_config(made, tokenizer)
    data = replace(config.data, branches=(), attempts=(str(attempts), str(made.dataset)))
    alone = prepare(replace(data, attempts=()), size=32)
    assert len(prepare(data, size=32).train) > len(alone.train) + len(alone.held_out)
    config = replace(config, data=data, start=str(world_model), loop=replace(config.loop, lr=1e-9))
    refreshed = released.load_world_model(
        train_world_model(config, tmp_path / "run"), released.load_tokenizer(tokenizer)
    )
    begun = released.load_world_model(world_model, released.load_tokenizer(tokenizer))
    assert dict(refreshed.stats) == dict(begun.stats)
    ours, theirs = refreshed.model.state_dict(), begun.model.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    with pytest.raises(ValueError, match="start: "):
        other = replace(config, model=replace(config.model, width=64))
        train_world_model(other, tmp_path / "other")


class TestRefused:
    def test_a_world_model_of_another_tokenizer(self, made, world_model: Path, tmp_path: Path) -> None:
        other = train_tokenizer(tokenizer_config(made, steps=3), tmp_path / "other")
        with pytest.raises(ValueError, match="was trained with tokenizer"):
            released.load_world_model(world_model, released.load_tokenizer(other))

    def test_a_checkpoint_of_another_stage(self, tokenizer: Path, world_model: Path) -> None:
        with pytest.raises(ValueError, match="stage 'world_model', expected 'tokenizer'"):
            released.load_tokenizer(world_model)

    def test_a_checkpoint_without_statistics(self, tokenizer: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(tokenizer, copy)
        (copy / "norm_stats.json").unlink()
        with pytest.raises(Exception, match=r"norm_stats\.json"):
            released.load_tokenizer(copy)

    def test_a_dataset_of_another_robot(
        self, made, tokenizer: Path, world_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = tmp_path / "dataset"
        shutil.copytree(made.dataset, other)
        spec = other / "meta" / "spec.yaml"
        spec.write_text(spec.read_text().replace("tcp_position:\n  - 0.0", "tcp_position:\n  - 0.1"))
        arguments = [str(world_model), "--tokenizer", str(tokenizer), "--dataset", str(other)]
        assert evaluate(["world-model", *arguments, "--out", str(tmp_path / "out")]) == 1
        assert "tool.tcp_position" in capsys.readouterr().err

    def test_a_damaged_video(self, made, tmp_path: Path) -> None:
        other = tmp_path / "dataset"
        shutil.copytree(made.dataset, other)
        for video in other.glob("videos/**/*.mp4"):
            video.write_bytes(video.read_bytes()[: video.stat().st_size // 3])
        config = tokenizer_config(made)
        with pytest.raises(Exception, match=r"\.mp4") as refusal:
            train_tokenizer(replace(config, data=replace(config.data, dataset=str(other))), tmp_path / "run")
        assert "\n" not in str(refusal.value)

    def test_lpips_without_its_weights(self, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        config = replace(tokenizer_config(made), perceptual=tokenizer_run("towel").perceptual)
        config = replace(config, loss=replace(config.loss, perceptual=1.0))
        with pytest.raises(ValueError, match="LPIPS needs the published weights of vgg"):
            train_tokenizer(config, tmp_path / "run")

    def test_what_is_not_known(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate(["wold-model"]) == 2
        assert "world-model" in capsys.readouterr().err
        assert benchmark(["loader", "--json"]) == 1
        assert "name the --dataset" in capsys.readouterr().err
        done = subprocess.run(
            [sys.executable, "-m", "vla_rft_train.train_tokenizer", "debug", "--out", tmp_path / "run"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 1 and done.stderr.strip().endswith("name the folder of a LeRobot v3 dataset")


def test_the_benchmark_decodes_the_same_tokens_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--states", "2", "--group", "3", "--frames", "2", "--repeats", "1"]
    assert benchmark(["rollout", "--preset", "debug", "--json", *size]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["equal_tokens_where_clear"] is True
    assert figures["ratio"] == pytest.approx(figures["reference_seconds"] / figures["seconds"], rel=0.02)
    tokenizer = tokenizer_run("debug").model
    assert figures["tokens_decoded"] == 2 * 3 * 2 * tokenizer.dynamics_tokens


def test_out_of_memory_names_what_fits(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_much(config: TokenizerRun, out: Path) -> Path:
        torch.empty(2**60)
        return out

    monkeypatch.setattr(sys, "argv", ["train_tokenizer", "debug", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        command.run(tokenizer_run, too_much, "")
    assert capsys.readouterr().err == (
        "train_tokenizer: preset debug: out of memory with 2 samples at a time; the same step in smaller parts: "
        "--loop.accumulate 2, or fewer frames kept: --data.cache-gb 0.5\n"
    )
