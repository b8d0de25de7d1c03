"""GRPO's pieces with numbers, its gradient by finite differences, and a toy in which 200 steps raise the reward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vla_rft_train.rft import grpo, rewards, sde
from vla_rft_train.rft.grpo import GrpoConfig, Ratio, Spread
from vla_rft_train.rft.sde import SigmaConfig, SigmaNet


def test_advantages_of_a_group_sum_to_zero() -> None:
    rewards = torch.tensor([[-1.0, -2.0, -6.0], [0.0, 0.0, 0.0]])
    plain = grpo.advantages(rewards, GrpoConfig())
    torch.testing.assert_close(plain, torch.tensor([[2.0, 1.0, -3.0], [0.0, 0.0, 0.0]]))
    random = torch.randn(7, 16, dtype=torch.float64)
    for spread in Spread:
        made = grpo.advantages(random, GrpoConfig(spread=spread))
        assert made.sum(1).abs().max() < 1e-12
    torch.testing.assert_close(made.std(1), torch.ones(7, dtype=torch.float64), rtol=1e-4, atol=0.0)


def test_groups_that_say_nothing_are_left_out() -> None:
    rewards = torch.tensor([[-1.0, -1.001], [-1.0, -2.0]])
    made = grpo.advantages(rewards, GrpoConfig(min_spread=0.01))
    assert made[0].tolist() == [0.0, 0.0] and made[1].tolist() == [0.5, -0.5]


def test_the_clip_holds_back_what_has_gone_far_enough() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5], requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    config = GrpoConfig()
    assert grpo.surrogate(ratio, advantage, config).item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    (gradient,) = torch.autograd.grad(grpo.surrogate(ratio, advantage, config), ratio)
    assert gradient.tolist() == [0.0, 0.25, -0.25, 0.0]
    literal = GrpoConfig(eq13_literal=True)
    (gradient,) = torch.autograd.grad(grpo.surrogate(ratio, advantage, literal), ratio)
    assert gradient.tolist() == [0.0] * 4
    assert float(grpo.clipped_share(torch.tensor([0.7, 1.0, 1.1, 1.3]), config)) == 0.5
    wide = GrpoConfig(clip_high=0.28)
    assert grpo.surrogate(torch.tensor([1.25]), torch.tensor([1.0]), wide).item() == pytest.approx(-1.25)


def test_one_ratio_per_chunk_or_per_number() -> None:
    now, old = torch.full((2, 2, 3), 0.1), torch.zeros(2, 2, 3)
    torch.testing.assert_close(grpo.ratios(now, old, GrpoConfig()), torch.full((2,), 0.6).exp())
    each = grpo.ratios(now, old, GrpoConfig(ratio=Ratio.NUMBER))
    assert each.shape == (2, 2, 3)
    torch.testing.assert_close(
        grpo.surrogate(each, torch.ones(2), GrpoConfig()), torch.tensor(-0.1).exp().reciprocal() * -1
    )
    assert float(grpo.kl_estimate(old, old)) == 0.0 and float(grpo.kl_estimate(now, old)) > 0.0


def test_the_gradient_of_the_surrogate_by_finite_differences() -> None:
    torch.manual_seed(0)
    old, direction = torch.randn(4, 2, 2, dtype=torch.float64), torch.randn(4, 2, 2, dtype=torch.float64)
    advantage = torch.tensor([1.0, -0.5, 0.3, -0.8], dtype=torch.float64)

    def loss(step: Tensor) -> Tensor:
        return grpo.surrogate(grpo.ratios(old + step * direction, old, GrpoConfig()), advantage, GrpoConfig())

    at = torch.tensor(0.01, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(at), at)
    small = 1e-6
    by_hand = (loss(at + small) - loss(at - small)) / (2 * small)
    assert gradient.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_objective_is_eq_13() -> None:
    made = grpo.objective(torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0), GrpoConfig(mse=0.1, entropy=0.2))
    assert made.item() == pytest.approx(2.0 + 0.3 - 1.0)
    with pytest.raises(ValueError, match="clip_low below 1"):
        GrpoConfig(clip_low=1.0)


class TestRewards:
    def test_equal_actions_get_exactly_zero(self) -> None:
        frames = torch.rand(2, 3, 3, 8, 8)
        same = frames[:, None].expand(-1, 4, -1, -1, -1, -1)

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return (a - b).square().flatten(1).mean(1)

        assert (rewards.image_consistency(same, frames, rewards.RewardConfig(), distance) == 0.0).all()
        actions = torch.rand(2, 5, 7)
        assert (rewards.action_deviation(actions[:, None].expand(-1, 4, -1, -1), actions) == 0.0).all()

    def test_eq_11_sums_over_frames(self) -> None:
        reference = torch.zeros(1, 2, 3, 4, 4)
        imagined = torch.stack([torch.full((2, 3, 4, 4), 0.1), torch.full((2, 3, 4, 4), 0.3)])[None]
        config = rewards.RewardConfig(l1=2.0, perceptual=0.5)
        made = rewards.image_consistency(imagined, reference, config, lambda a, b: torch.ones(len(a)))
        torch.testing.assert_close(made, -torch.tensor([[2 * (0.2 + 0.5), 2 * (0.6 + 0.5)]]))
        with pytest.raises(ValueError, match="needs a perceptual distance"):
            rewards.image_consistency(imagined, reference, config)

    def test_actions_further_away_get_less(self) -> None:
        demonstrated = torch.zeros(1, 2, 2)
        actions = torch.tensor([0.0, 0.5, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
        assert rewards.action_deviation(actions, demonstrated).tolist() == [[0.0, -0.5, -1.0]]

    def test_deviating_actions_may_count_beside_deviating_pictures(self) -> None:
        frames = rewards.Frames(
            *(torch.rand(shape) for shape in ((1, 3, 4, 4), (1, 3, 2, 3, 4, 4), (1, 2, 3, 4, 4))), None
        )
        scene = rewards.Scene(torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2), frames)
        total, parts = rewards.Reward(rewards.RewardConfig(perceptual=0.0, action=3.0))(scene)
        assert set(parts) == {"R3", "R1"}
        torch.testing.assert_close(total, parts["R3"] + 3.0 * parts["R1"])
        with pytest.raises(ValueError, match="beside R2 or R3, not design 'R1'"):
            rewards.RewardConfig(design=rewards.Design.ACTION, action=1.0)


class ToyHead(nn.Module):
    """A flow in the plane from a state."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 + 1 + 2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.out = nn.Linear(32, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        seen = torch.cat([x_t.flatten(1), t[:, None], state], dim=1)
        return self.out(self.net(seen)).view_as(x_t)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_hundred_steps_raise_the_reward_of_a_toy_world(seed: int) -> None:
    """An analytic world: the action should be where the state points; its flow knows nothing at the start."""
    torch.manual_seed(seed)
    head, states, group, steps = ToyHead(), 16, 16, 5
    net = SigmaNet(head, SigmaConfig(), ("x", "y"))
    config = GrpoConfig(mse=0.0)
    optimizer = torch.optim.Adam([*head.parameters(), *net.parameters()], lr=3e-3)
    fixed = torch.randn(64, 1, 2)
    fixed_state = torch.randn(64, 2)

    def reward_of(actions: Tensor, state: Tensor) -> Tensor:
        return -(actions[:, 0] - state).square().sum(-1)

    def mean_reward() -> float:
        def flow(x: Tensor, t: Tensor) -> Tensor:
            return head(x, t, fixed_state, fixed_state)

        none = torch.zeros(steps, 64, 1, 2)
        return float(
            reward_of(sde.sample(flow, lambda x, t: torch.ones_like(x), fixed, none).actions, fixed_state).mean()
        )

    before = mean_reward()
    for _ in range(200):
        state = torch.randn(states, 2).repeat_interleave(group, 0)

        def velocity(x: Tensor, t: Tensor, state: Tensor = state) -> Tensor:
            return head(x, t, state, state)

        def sigma(x: Tensor, t: Tensor, state: Tensor = state) -> Tensor:
            return net(x, t, state, state)

        noise = torch.randn(states, 1, 2).repeat_interleave(group, 0)
        chain = sde.sample(velocity, sigma, noise, torch.randn(steps, states * group, 1, 2))
        with torch.no_grad():
            old = sde.log_prob(velocity, sigma, chain)
            reward = reward_of(chain.actions, state).view(states, group)
        now = sde.log_prob(velocity, sigma, chain)
        ratio = grpo.ratios(now, old, config)
        policy_loss = grpo.surrogate(ratio, grpo.advantages(reward, config).flatten(), config)
        loss = grpo.objective(policy_loss, torch.zeros(()), sde.entropy(sigma, chain).mean(), config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mean_reward() > 0.6 * before, (before, mean_reward())  # rewards are negative
