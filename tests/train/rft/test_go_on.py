"""Several chunks in a row: the state that a chunk leads to, and what the world model is shown and asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_run import CPU, batch_of, config

from vla_rft_core.action import accumulate
from vla_rft_core.geometry import Pose, quaternion_to_rot6d
from vla_rft_core.types import SetPoint
from vla_rft_train import released
from vla_rft_train.rft.__main__ import make_stage
from vla_rft_train.rft.benchmark import SHIPPED
from vla_rft_train.rft.go_on import GoingOn, rotation, state_after
from vla_rft_train.rft.per_rollout import play_per_rollout
from vla_rft_train.rft.presets import GoesOn, rft_run
from vla_rft_train.rft.rewards import Frames
from vla_rft_train.rft.stage import RftStage
from vla_rft_train.rollout import Sampling

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stage(made) -> RftStage:
    return make_stage(config(made, group=3, data={"frames": 12, "goes_on": GoesOn.POLICY}), CPU)


def measured(pose: Pose, width: float) -> list[float]:
    return [*pose.position, *quaternion_to_rot6d(pose.quaternion), width]


class TestState:
    def test_it_is_where_the_executor_would_have_sent_the_arm(self, stage: RftStage) -> None:
        spec = stage._origin.spec
        random = np.random.default_rng(0)
        states, actions, expected = [], [], []
        for _ in range(5):
            start = Pose(random.normal(size=3), random.normal(size=4))
            chunk = random.normal(size=(8, 7)) * [*[0.02] * 3, *[0.5] * 3, 0.05]
            last = accumulate(SetPoint(start, 0.03), chunk, spec)[-1]
            actions.append(chunk)
            states.append(measured(start, 0.03))
            expected.append(measured(last.T_base_tcp, last.width))
        after = state_after(torch.tensor(states, dtype=torch.float64), torch.tensor(np.stack(actions)))
        np.testing.assert_allclose(after.numpy(), np.array(expected), atol=1e-6)

    def test_a_rotation_vector_turns_about_itself(self) -> None:
        vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        turns = rotation(vectors)
        torch.testing.assert_close((turns @ vectors[..., None])[..., 0], vectors)
        torch.testing.assert_close(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(4, 3, 3))

    def test_on_a_demonstration_it_is_close_to_what_was_measured(self, stage: RftStage) -> None:
        stats, items = stage._goes_on._stats, [stage.dataset[i] for i in range(0, len(stage.dataset), 9)]
        now = torch.stack([stats["state"].unnormalize(item["state"]) for item in items])
        chunk = torch.stack([stats["action"].unnormalize(item["actions"]) for item in items])
        ids = {int(stage.dataset[i]["id"]): i for i in range(len(stage.dataset))}
        later = [(i, ids[int(item["id"]) + 8]) for i, item in enumerate(items) if int(item["id"]) + 8 in ids]
        measured = torch.stack([stats["state"].unnormalize(stage.dataset[j]["state"]) for _, j in later])
        rows = [i for i, _ in later]
        error = (state_after(now, chunk)[rows] - measured)[:, :3].norm(dim=1)
        moved = (now[rows] - measured)[:, :3].norm(dim=1)
        assert len(later) >= 5 and error.mean() < 0.25 * moved.mean(), (error.mean(), moved.mean())


class TestFrames:
    def test_equal_actions_and_nothing_after_them_get_exactly_zero(self, stage: RftStage, made) -> None:
        batch = batch_of(stage, 0, 9)
        one = make_stage(config(made, group=3, data={"frames": 4, "goes_on": GoesOn.POLICY}), CPU)
        short = batch_of(one, 0, 9)
        same = short["actions"][:, None].expand(-1, 3, -1, -1)
        assert (one.judge(short, same)[0] == 0.0).all()
        assert (stage.judge(batch, same)[0] < 0.0).all()  # the policy is not the demonstrator

    def test_where_the_demonstration_is_played_on_it_is_the_reference(self, stage: RftStage) -> None:
        batch, going = batch_of(stage, 2, 11), stage._goes_on
        demonstrated = going._later_of_demonstration(batch["world_actions"], 8)
        torch.testing.assert_close(
            stage.imagination.physical(batch["world_actions"])[:, 4:8].flatten(1, 2), demonstrated[:, 0]
        )
        chunks = iter(going._stats["action"].normalize(demonstrated).unbind(1))
        was, going._act = going._act, lambda *_: next(chunks)
        try:
            frames = stage.imagined(stage.imagination, batch, batch["actions"][:, None])
        finally:
            going._act = was
        assert frames.imagined.shape == (2, 1, 12, 3, 64, 64) and frames.recorded.shape == (2, 12, 3, 64, 64)
        torch.testing.assert_close(frames.imagined[:, 0], frames.reference, atol=1e-4, rtol=0.0)

    def test_the_policy_is_shown_the_last_imagined_frame_and_its_own_state(self, stage: RftStage) -> None:
        batch, going, seen = batch_of(stage, 3), stage._goes_on, []

        def act(pictures, state, prompts):
            seen.append((pictures, state))
            return was(pictures, state, prompts)

        was, going._act = going._act, act
        actions = batch["actions"][:, None] + torch.tensor([0.0, 0.4])[None, :, None, None]
        try:
            frames = stage.imagined(stage.imagination, batch, actions)
        finally:
            going._act = was
        assert len(seen) == 2
        for number, (pictures, state) in enumerate(seen):
            assert torch.equal(pictures, frames.imagined[0, :, 4 * number + 3])
            assert state.shape == (1, 2, 10)
        stats = going._stats
        expected = state_after(
            stats["state"].unnormalize(batch["state"]).expand(2, -1), stats["action"].unnormalize(actions[0])
        )
        torch.testing.assert_close(seen[0][1][0], expected)

    def test_a_rollout_does_not_depend_on_those_beside_it(self, stage: RftStage) -> None:
        batch = batch_of(stage, 3, 8)
        actions = batch["actions"][:, None] + torch.tensor([0.0, 0.4, -0.4])[None, :, None, None]
        together = stage.imagined(stage.imagination, batch, actions)
        one = batch_of(stage, 8)
        alone = stage.imagined(stage.imagination, one, actions[1:, 1:2])
        assert isinstance(alone, Frames)
        torch.testing.assert_close(alone.imagined[0, 0], together.imagined[1, 1], atol=1e-4, rtol=0.0)
        torch.testing.assert_close(alone.reference[0], together.reference[1], atol=1e-4, rtol=0.0)


class TestRefused:
    def test_frames_that_are_no_multiple_of_a_chunk(self, made) -> None:
        with pytest.raises(ValueError, match="a multiple of the 4 that a chunk leads to; got 6"):
            make_stage(config(made, data={"frames": 6, "goes_on": GoesOn.POLICY}), CPU)

    def test_independent_draws(self, made) -> None:
        rollout = replace(rft_run("debug").rollout, sampling=Sampling.INDEPENDENT)
        with pytest.raises(ValueError, match="greedy or shared"):
            make_stage(config(made, data={"frames": 8, "goes_on": GoesOn.POLICY}, rollout=rollout), CPU)

    def test_a_state_that_cannot_be_foretold(self, stage: RftStage) -> None:
        policy = released.load_policy(SHIPPED / "policy")
        names = ("joint.0", *policy.stats["state"].names[1:])
        joints = replace(policy, stats={**policy.stats, "state": replace(policy.stats["state"], names=names)})
        with pytest.raises(ValueError, match=r"this policy's is joint\.0"):
            GoingOn(stage.model, joints, stage.imagination)

    def test_the_per_rollout_schedule(self, stage: RftStage) -> None:
        with pytest.raises(ValueError, match=r"data\.goes_on demonstration"):
            play_per_rollout(stage, batch_of(stage, 0))
