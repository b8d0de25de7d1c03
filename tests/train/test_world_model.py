"""The world model and its rollout engine: what each token may depend on, and that decoding is the forward pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vla_rft_train.generate_per_frame import generate_per_frame
from vla_rft_train.models.layout import TokenLayout
from vla_rft_train.models.world_model import WorldModel, WorldModelConfig, action_ids
from vla_rft_train.rollout import RolloutConfig, RolloutEngine, Sampling

CONTINUOUS = TokenLayout(
    context_tokens=9, dynamics_tokens=4, codebook_size=20, action_dim=3, action_bins=0, actions_per_frame=2, state_dim=5
)
DISCRETE = TokenLayout(context_tokens=9, dynamics_tokens=4, codebook_size=20, action_dim=3, action_bins=8)
SMALL = WorldModelConfig(layers=2, width=32, ffn_width=64, heads=4, max_positions=256, slots=True)
STATES, GROUP, FRAMES = 2, 3, 3


def make(
    layout: TokenLayout, config: WorldModelConfig = SMALL
) -> tuple[WorldModel, Tensor, Tensor, Tensor | None, Tensor]:
    """A world model with strong random weights, and context codes, frame 0's codes, state and actions."""
    torch.manual_seed(1)
    model = WorldModel(config, layout).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    context = torch.randint(layout.codebook_size, (STATES, layout.context_tokens))
    first = torch.randint(layout.codebook_size, (STATES, layout.dynamics_tokens))
    state = torch.randn(STATES, layout.state_dim) if layout.state_dim else None
    actions = torch.rand(STATES, GROUP, FRAMES, layout.actions_per_frame, layout.action_dim) * 2.0 - 1.0
    return model, context, first, state, actions


def teacher_forced(
    model: WorldModel, context: Tensor, first: Tensor, state: Tensor | None, actions: Tensor, codes: Tensor
) -> Tensor:
    """Logits [S*N, T, Kd, codes] of rolled-out codes by the training forward, every sequence whole."""

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(GROUP, dim=0)

    whole = torch.cat([repeat(first)[:, None], codes.flatten(0, 1)], dim=1)
    with torch.no_grad():
        return model(repeat(context), whole, actions.flatten(0, 1), None if state is None else repeat(state))


@pytest.mark.parametrize("heads_per_kv", [1, 2, 4])
@pytest.mark.parametrize("layout", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_greedy_rollouts_are_the_most_probable_tokens_of_the_forward_pass(
    layout: TokenLayout, heads_per_kv: int
) -> None:
    model, context, first, state, actions = make(layout, replace(SMALL, heads_per_kv=heads_per_kv))
    engine = RolloutEngine(model)
    codes = engine.rollout(engine.prefill(context, state, first), actions)
    assert codes.shape == (STATES, GROUP, FRAMES, layout.dynamics_tokens)
    logits = teacher_forced(model, context, first, state, actions, codes)
    assert torch.equal(logits.argmax(-1), codes.flatten(0, 1))
    assert len(codes.unique()) > 3  # it does say different things


def test_the_reference_of_the_benchmark_chooses_what_the_engine_does() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    engine = RolloutEngine(model)
    codes = engine.rollout(engine.prefill(context, state, first), actions)
    assert {1, 2} <= set(codes.unique().tolist())  # LLaMA's own ids of a sentence's ends, which `generate` treats apart
    assert torch.equal(generate_per_frame(model, context, state, first, actions), codes)


def test_rollouts_of_one_state_differ_by_their_actions_alone() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    engine = RolloutEngine(model)
    prefix = engine.prefill(context, state, first)
    same = actions[:, :1].expand_as(actions)
    codes = engine.rollout(prefix, same)
    assert (codes == codes[:, :1]).all()
    later = actions.clone()
    later[:, :, 2] = -later[:, :, 2]
    assert torch.equal(engine.rollout(prefix, later)[:, :, :2], engine.rollout(prefix, actions)[:, :, :2])


def test_a_token_depends_on_what_is_before_it_only() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    codes = torch.randint(CONTINUOUS.codebook_size, (STATES, 1 + FRAMES, CONTINUOUS.dynamics_tokens))
    codes[:, 0] = first
    given = actions[:, 0]
    with torch.no_grad():
        before = model(context, codes, given, state)
        codes[:, 2, 1:] = (codes[:, 2, 1:] + 1) % CONTINUOUS.codebook_size
        after = model(context, codes, given, state)
        moved = given.clone()
        moved[:, 1] += 0.5
        acted = model(context, codes, moved, state)
    assert torch.equal(before[:, 0], after[:, 0])
    assert torch.equal(before[:, 1, :2], after[:, 1, :2])  # up to and with the place of the first change
    assert not torch.equal(before[:, 1, 2:], after[:, 1, 2:])
    assert torch.equal(acted[:, 0], after[:, 0])
    assert not torch.equal(acted[:, 1], after[:, 1])


def test_the_loss_counts_predicted_frames_only_and_starts_at_the_uniform_guess() -> None:
    torch.manual_seed(0)
    model = WorldModel(SMALL, DISCRETE)
    codes = torch.randint(DISCRETE.codebook_size, (4, 1 + FRAMES, DISCRETE.dynamics_tokens))
    context = torch.randint(DISCRETE.codebook_size, (4, DISCRETE.context_tokens))
    loss = model.loss(context, codes, torch.zeros(4, FRAMES, 1, 3))
    assert loss.item() == pytest.approx(float(torch.log(torch.tensor(20.0))), abs=0.3)


def test_sampling_is_keyed_by_the_start_state_not_by_its_place_in_the_batch() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    engine = RolloutEngine(model, RolloutConfig(sampling=Sampling.SHARED, seed=5))
    assert state is not None

    def decode(order: list[int]) -> Tensor:
        prefix = engine.prefill(context[order], state[order], first[order])
        return engine.rollout(prefix, actions[order], state_ids=[10 + i for i in order])

    assert torch.equal(decode([0, 1])[[1, 0]], decode([1, 0]))


def test_shared_draws_give_equal_actions_equal_rollouts_and_independent_ones_do_not() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    same = actions[:, :1].expand_as(actions)
    rollouts = {}
    for sampling in (Sampling.SHARED, Sampling.INDEPENDENT):
        engine = RolloutEngine(model, RolloutConfig(sampling=sampling, temperature=2.0))
        rollouts[sampling] = engine.rollout(engine.prefill(context, state, first), same, state_ids=[0, 1])
    assert (rollouts[Sampling.SHARED] == rollouts[Sampling.SHARED][:, :1]).all()
    assert not (rollouts[Sampling.INDEPENDENT] == rollouts[Sampling.INDEPENDENT][:, :1]).all()


def test_a_narrow_nucleus_is_greedy() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    greedy, narrow = RolloutEngine(model), RolloutEngine(model, RolloutConfig(sampling=Sampling.SHARED, top_p=1e-6))
    prefix = greedy.prefill(context, state, first)
    assert torch.equal(greedy.rollout(prefix, actions), narrow.rollout(prefix, actions, state_ids=[0, 1]))


def test_sampled_rollouts_want_ids_and_prefix_and_actions_must_agree() -> None:
    model, context, first, state, actions = make(CONTINUOUS)
    engine = RolloutEngine(model, RolloutConfig(sampling=Sampling.SHARED))
    prefix = engine.prefill(context, state, first)
    with pytest.raises(ValueError, match="needs the ids of the 2 start states"):
        engine.rollout(prefix, actions)
    with pytest.raises(ValueError, match="holds 2 start states, the actions are for 1"):
        engine.rollout(prefix, actions[:1], state_ids=[0])


def test_heads_that_share_keys_and_values_must_divide_the_heads() -> None:
    with pytest.raises(ValueError, match="heads: 4 is not a multiple of heads_per_kv = 3"):
        replace(SMALL, heads_per_kv=3)
    with pytest.raises(ValueError, match="heads_per_kv = 0"):
        replace(SMALL, heads_per_kv=0)


def test_a_missing_state_is_named() -> None:
    model, context, first, _, _ = make(CONTINUOUS)
    with pytest.raises(ValueError, match="wants a state of 5 numbers"):
        model.embed_prefix(context, None, first)


def test_action_bins_cover_the_range_and_clip_beyond_it() -> None:
    ids = action_ids(torch.tensor([-2.0, -1.0, -0.01, 0.0, 0.99, 1.0, 7.0]), DISCRETE) - DISCRETE.action_id
    assert ids.tolist() == [0, 0, 3, 4, 7, 7, 7]


def test_table_5_has_127_million_parameters() -> None:
    paper = TokenLayout(context_tokens=1024, dynamics_tokens=64, codebook_size=4375, action_dim=7, action_bins=256)
    with torch.device("meta"):
        model = WorldModel(WorldModelConfig(), paper)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(127.1e6, rel=1e-3)
