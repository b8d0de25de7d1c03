"""The policy as a researcher trains it, with the debug preset: data, train, resume, release, evaluate, refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_rft_core.cell import ChunkOutcome, find_cell
from vla_rft_core.geometry import Pose
from vla_rft_core.splice import SpliceConfig, SpliceMode
from vla_rft_core.types import ActionChunk, Observation, SetPoint, Source
from vla_rft_train import closed_loop, released
from vla_rft_train.closed_loop import Actor, LoopSettings, run_trial
from vla_rft_train.data.prepare_policy import prepare_policy
from vla_rft_train.evaluate.__main__ import main as evaluate
from vla_rft_train.evaluate.policy import summarize
from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.progress import LOG
from vla_rft_train.policy_presets import ConvRun, policy_run
from vla_rft_train.policy_stage import keypoint_error
from vla_rft_train.train_policy import train

torch.set_num_threads(1)
SHIPPED = Path(closed_loop.__file__).parent / "checkpoints" / "sim" / "policy"


def config(made, *, steps: int = 2, **data: object) -> ConvRun:
    run = policy_run("debug")
    assert isinstance(run, ConvRun)
    loop = replace(run.loop, steps=steps)
    return replace(run, data=replace(run.data, dataset=str(made.dataset), **data), loop=loop)


@pytest.fixture(scope="module")
def keypoints(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vla_rft_sim.keypoints import main

    file = tmp_path_factory.mktemp("keypoints") / "keypoints.npz"
    assert main([str(made.dataset.parent / "demos"), str(made.dataset), "--out", str(file)]) == 0
    assert main([str(made.dataset.parent / "demos"), str(made.dataset), "--out", str(file)]) == 1
    return file


@pytest.fixture(scope="module")
def policy(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released policy."""
    root = tmp_path_factory.mktemp("policy")
    return checkpoint.release(train(config(made), root / "run"), root / "released", half=True)


class TestData:
    def test_an_old_observation_comes_with_the_actions_of_now(self, made) -> None:
        data = prepare_policy(config(made))
        windows, clips = data.train, data.train._clips
        index = next(i for i in range(len(windows)) if windows.place(i) == (0, 5))
        item = windows[index]
        assert item["images"].shape == (3, 3, 32, 32) and item["actions"].shape == (8, 7)
        for delay in range(3):
            frame = torch.from_numpy(clips.frames(0, [5 - delay])[0]).permute(2, 0, 1)
            assert torch.equal(item["images"][delay], frame)
            state = data.stats["state"].unnormalize(item["states"][delay])
            torch.testing.assert_close(state, torch.from_numpy(np.array(clips.states(0)[5 - delay])))
        actions = data.stats["action"].unnormalize(item["actions"])
        torch.testing.assert_close(actions, torch.from_numpy(np.array(clips.actions(0)[5:13])), atol=1e-6, rtol=0.0)
        first = windows[0]["images"]
        assert torch.equal(first[0], first[1]) and torch.equal(first[0], first[2])

    def test_no_window_crosses_the_end(self, made) -> None:
        windows = prepare_policy(config(made)).train
        assert len(windows) == windows._clips.length(0) - 7
        assert windows[len(windows) - 1]["actions"].shape == (8, 7)

    def test_keypoints_lie_on_the_towel(self, made, keypoints: Path) -> None:
        item = prepare_policy(config(made, keypoints=str(keypoints))).train[0]
        points = item["keypoints"]
        assert points.shape == (3, 5, 2) and bool((points[:, :4].abs() < 1.0).all())
        assert float(points[0, 4, 1]) < float(points[0, :4, 1].min())  # at home the tcp is above the towel

    def test_keypoints_outside_the_picture_do_not_count(self) -> None:
        points = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
        wanted = torch.tensor([[[0.2, -0.4], [1.5, 0.0]]])
        assert float(keypoint_error(points, wanted)) == pytest.approx(0.3)


@pytest.mark.parametrize("with_keypoints", [False, True])
def test_training_goes_on_where_it_stopped(made, keypoints: Path, tmp_path: Path, with_keypoints: bool) -> None:
    def run(steps: int, folder: Path) -> Path:
        return train(config(made, steps=steps, keypoints=str(keypoints) if with_keypoints else ""), folder)

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    parts = run(4, tmp_path / "parts")
    logs = [[json.loads(line) for line in (tmp_path / n / LOG).read_text().splitlines()] for n in ("whole", "parts")]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    assert all(entry["mm_held_out"] > 0.0 for entry in logs[0])
    for name, tensor in checkpoint.load_weights(whole).items():
        assert torch.equal(tensor, checkpoint.load_weights(parts)[name]), name
    assert list((tmp_path / "whole" / "pictures").glob("*.png"))


def test_the_evaluation_prints_its_tables(
    policy: Path, made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluation"
    arguments = [str(policy), "--dataset", str(made.dataset), "--out", str(out), "--trials", "1", "--latencies", "1"]
    assert evaluate(["policy", *arguments, "--n-action-steps", "8"]) == 0
    facts = json.loads((out / "figures.json").read_text())
    assert {p.name for p in out.iterdir()} == {"figures.json", "success.png", "median.mp4", "worst.mp4"}
    (row,) = facts["success"]
    assert row["trials"] == 1 and row["successes"] == 0 and sum(row["failures"].values()) == 1
    assert set(facts["open_loop"]) == {"trained on", "held out"}
    assert 0.0 < facts["open_loop"]["held out"]["delta.x"] < 0.05
    text = capsys.readouterr().out
    assert "0/1" in text and "delta.x" in text


class FakeCell:
    """Time that passes, chunks that arrive: what the loop does is recorded."""

    def __init__(self) -> None:
        self.folder = find_cell("vla_rft_sim:towel_cell")
        self.spec, self.world, self.holding = self.folder.spec, self, ""
        self.now_ns, self.arrived = 0, []
        self.success_from_ns = 10**18
        self.grasped_vertices, self.edge_gap = 0, 0.28

    @property
    def success(self) -> bool:
        return self.now_ns >= self.success_from_ns

    def truth(self) -> FakeCell:
        return self

    def reset(self, seed: int) -> None:
        self.now_ns, self.arrived = 0, []

    def activate(self, source: Source) -> None:
        assert source is Source.POLICY

    def observe(self) -> Observation:
        return Observation(
            stamp_ns=self.now_ns,
            images={"front": np.zeros((480, 640, 3), np.uint8)},
            image_stamps_ns={"front": self.now_ns},
            state=np.zeros(10, np.float32),
            state_stamp_ns=self.now_ns,
            commanded=SetPoint(Pose((0.4, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0)), 0.08),
            prompt="fold the towel in half",
        )

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        self.arrived.append((self.now_ns, chunk))
        return ChunkOutcome(sequence=chunk.sequence, accepted=True, reason="", targets_late=0, age_ns=0)

    def wait(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


@pytest.mark.parametrize(("latency", "steps"), [(0, 4), (1, 4), (3, 4), (5, 4)])
def test_a_chunk_arrives_late_and_says_when_it_was_seen(latency: int, steps: int) -> None:
    cell, actor = FakeCell(), Actor(released.load_policy(SHIPPED), num_steps=2)
    result = run_trial(cell, actor, 3, LoopSettings(latency=latency, n_action_steps=steps, limit_s=2.0))
    period_ns = cell.spec.control_period_ns
    assert len(cell.arrived) >= 4
    for i, (at_ns, chunk) in enumerate(cell.arrived):
        assert chunk.stamp_ns == i * max(steps, latency) * period_ns
        assert at_ns - chunk.stamp_ns == latency * period_ns
        assert len(chunk) == 8 and chunk.period_ns == period_ns
    assert not result.success and result.failure == closed_loop.NEVER_GRASPED


def test_chunks_go_over_into_each_other_unless_joined_hard() -> None:
    """An actor that changes its mind: the arm shall not jump."""

    class Actor:
        def restart(self, seed: int) -> None:
            self.height = 0.28

        def act(self, observation: Observation) -> ActionChunk:
            self.height = 0.48 - self.height
            points = [SetPoint(Pose((0.4, 0.0, self.height), (0.0, 1.0, 0.0, 0.0)), 0.08)] * 8
            return ActionChunk.from_set_points(
                points, stamp_ns=observation.stamp_ns, period_ns=10**8, sequence=0, source=Source.POLICY
            )

    heights = {}
    for mode in (SpliceMode.HARD, SpliceMode.BLEND):
        cell = FakeCell()
        run_trial(cell, Actor(), 0, LoopSettings(limit_s=1.0, splice=SpliceConfig(mode=mode)))  # type: ignore[arg-type]
        heights[mode] = cell.arrived[1][1].positions[:, 2].tolist()
    assert heights[SpliceMode.HARD] == [0.28] * 8
    first, *going, last = heights[SpliceMode.BLEND]
    assert first == last == 0.28  # the first is late and never played
    assert 0.2 < going[0] < going[1] < going[2] < 0.28
    with pytest.raises(ValueError, match="rtc shows the policy what is committed"):
        LoopSettings(splice=SpliceConfig(mode=SpliceMode.RTC))


def test_a_fold_must_last_and_then_ends_the_trial() -> None:
    cell, actor = FakeCell(), Actor(released.load_policy(SHIPPED), num_steps=1)
    cell.success_from_ns = 10**9
    result = run_trial(cell, actor, 0, LoopSettings(latency=0))
    assert result.success and result.failure == "" and 1.9 <= result.duration_s <= 2.4
    cell.success_from_ns, cell.holding = 10**18, "lead: too far"
    held = run_trial(cell, actor, 0, LoopSettings(latency=0))
    assert held.failure == closed_loop.HOLD and held.duration_s == 0.0
    table = summarize(0, [result, held])
    assert (table.successes, table.trials) == (1, 2) and table.failures[closed_loop.HOLD] == 1
    assert table.low == pytest.approx(0.0945, abs=1e-3) and table.high == pytest.approx(0.9055, abs=1e-3)


def test_the_shipped_policy_loads_and_is_small() -> None:
    shipped = released.load_policy(SHIPPED)
    assert shipped.spec is not None and shipped.model.shapes.horizon == shipped.spec.action_horizon
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 15e6


class TestRefused:
    def test_a_dataset_that_is_not_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="name the folder"):
            train(policy_run("debug"), tmp_path)

    def test_keypoints_that_are_not_there(self, made, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"make it with python -m vla_rft_sim\.keypoints"):
            train(config(made, keypoints=str(tmp_path / "none.npz")), tmp_path / "run")
        np.savez(tmp_path / "other.npz", image_size=np.array([640, 480]), names=np.array(["a"]))
        with pytest.raises(ValueError, match="has no keypoints of episode"):
            train(config(made, keypoints=str(tmp_path / "other.npz")), tmp_path / "run")

    def test_a_checkpoint_of_another_stage(self, policy: Path) -> None:
        with pytest.raises(ValueError, match="stage 'policy', expected 'tokenizer'"):
            released.load_tokenizer(policy)

    def test_a_latency_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="latency"):
            LoopSettings(latency=-1)
