"""The chain of Gaussians: densities against torch's own, and a ratio that is 1 before the first update."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vla_rft_train.rft import grpo, sde
from vla_rft_train.rft.grpo import GrpoConfig, Ratio
from vla_rft_train.rft.sde import OverSteps, SigmaConfig, SigmaNet

STEPS, BATCH, HORIZON, DIM, CONTEXT, STATE = 10, 6, 4, 3, 5, 2
NAMES = ("x", "y", "width")
WIDTHS = (0.3, 0.05, 0.1)
"""Standard deviations of the numbers of an action."""


class Head(nn.Module):
    """A flow head with dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(HORIZON * DIM + 1 + CONTEXT + STATE, 32), nn.Dropout(0.3), nn.Tanh())
        self.out = nn.Linear(32, HORIZON * DIM)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        seen = torch.cat([x_t.flatten(1), t[:, None], context, state], dim=1)
        return self.out(self.net(seen)).view_as(x_t)


class Player:
    """Head and sigma net with what they look at; in evaluation mode, as fine-tuning plays and updates them."""

    def __init__(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.head = Head().to(dtype).eval()
        self.sigma_net = SigmaNet(self.head, SigmaConfig(), NAMES).to(dtype).eval()
        nn.init.normal_(self.sigma_net.head.out.weight)
        self.context, self.state = torch.randn(BATCH, CONTEXT, dtype=dtype), torch.randn(BATCH, STATE, dtype=dtype)
        self.chain = sde.sample(
            self.velocity,
            self.sigma,
            torch.randn(BATCH, HORIZON, DIM, dtype=dtype),
            torch.randn(STEPS, BATCH, HORIZON, DIM, dtype=dtype),
        )

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.head(x_t, t, self.context, self.state)

    def sigma(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.sigma_net(x_t, t, self.context, self.state).to(x_t.dtype)

    def log_prob(self, over_steps: OverSteps = OverSteps.MEAN) -> Tensor:
        return sde.log_prob(self.velocity, self.sigma, self.chain, over_steps)


@pytest.mark.parametrize("over_steps", list(OverSteps))
def test_log_densities_are_those_of_normal_distributions(over_steps: OverSteps) -> None:
    player, parts = Player(torch.float64), []
    for k in range(STEPS):
        x, t = player.chain.x[k], torch.full((BATCH,), k / STEPS, dtype=torch.float64)
        normal = torch.distributions.Normal(x + player.velocity(x, t) / STEPS, player.sigma(x, t))
        parts.append(normal.log_prob(player.chain.x[k + 1]))
    expected = torch.stack(parts).sum(0) / (STEPS if over_steps is OverSteps.MEAN else 1)
    torch.testing.assert_close(player.log_prob(over_steps), expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("ratio", list(Ratio))
def test_the_ratio_is_1_before_the_first_update(dtype: torch.dtype, close: float, ratio: Ratio) -> None:
    player = Player(dtype)
    with torch.no_grad():
        old = player.log_prob()
    now = grpo.ratios(player.log_prob(), old, GrpoConfig(ratio=ratio))
    torch.testing.assert_close(now, torch.ones_like(now), rtol=0.0, atol=close)
    player.head.train()  # what dropout alone would make of it
    assert (grpo.ratios(player.log_prob(), old, GrpoConfig()) - 1.0).abs().max() > 0.01


def test_without_noise_the_chain_is_the_flow() -> None:
    player = Player(torch.float64)
    start = player.chain.x[0]
    x = start
    for k in range(STEPS):
        x = x + player.velocity(x, torch.full((BATCH,), k / STEPS, dtype=torch.float64)) / STEPS
    still = sde.sample(player.velocity, player.sigma, start, torch.zeros(STEPS, BATCH, HORIZON, DIM).double())
    torch.testing.assert_close(still.actions, x)


def test_correlated_noise_has_the_density_of_a_multivariate_normal_distribution() -> None:
    player, correlation = Player(torch.float64), 0.7
    draws = torch.randn(STEPS, BATCH, HORIZON, DIM, dtype=torch.float64)
    chain = sde.sample(player.velocity, player.sigma, player.chain.x[0], draws, correlation=correlation)
    apart = torch.arange(HORIZON)[:, None] - torch.arange(HORIZON)
    among = correlation ** apart.abs().double()
    total = torch.zeros(BATCH, DIM, dtype=torch.float64)
    for k in range(STEPS):
        x, t = chain.x[k], torch.full((BATCH,), k / STEPS, dtype=torch.float64)
        mean, std = ((x + player.velocity(x, t) / STEPS).mT, player.sigma(x, t).mT)
        normal = torch.distributions.MultivariateNormal(mean, std[..., None] * among * std[..., None, :])
        total += normal.log_prob(chain.x[k + 1].mT)
    found = sde.log_prob(player.velocity, player.sigma, chain, OverSteps.SUM).sum(1)
    torch.testing.assert_close(found, total, rtol=0.0, atol=1e-9)


def test_the_natural_gradient_is_the_noises_covariance_times_the_true_one() -> None:
    player, correlation = Player(torch.float64), 0.7
    draws = torch.randn(STEPS, BATCH, HORIZON, DIM, dtype=torch.float64)
    chain = sde.sample(player.velocity, player.sigma, player.chain.x[0], draws, correlation=correlation)
    among = correlation ** (torch.arange(HORIZON)[:, None] - torch.arange(HORIZON)).abs().double()
    gradients = {}
    for natural in (False, True):
        widths = torch.tensor(WIDTHS, dtype=torch.float64, requires_grad=True)
        offset = torch.zeros(BATCH, HORIZON, DIM, dtype=torch.float64, requires_grad=True)

        def velocity(x: torch.Tensor, t: torch.Tensor, offset: torch.Tensor = offset) -> torch.Tensor:
            return player.velocity(x, t).detach() + offset

        def sigma(x: torch.Tensor, t: torch.Tensor, widths: torch.Tensor = widths) -> torch.Tensor:
            return widths.expand_as(x)

        found = sde.log_prob(velocity, sigma, chain, OverSteps.SUM, natural=natural)
        found.sum().backward()
        gradients[natural] = (found.detach(), offset.grad, widths.grad)
    for same in (0, 2):
        torch.testing.assert_close(gradients[True][same], gradients[False][same], rtol=0.0, atol=1e-9)
    variances = torch.tensor(WIDTHS, dtype=torch.float64) ** 2
    expected = torch.einsum("ts,bsa->bta", among, gradients[False][1]) * variances / variances.mean()
    torch.testing.assert_close(gradients[True][1], expected, rtol=0.0, atol=1e-9)


def test_correlated_noise_is_as_large_as_independent_noise_and_can_be_undone() -> None:
    white = torch.randn(20_000, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coloured = sde.coloured(white, 0.9)
    torch.testing.assert_close(coloured.std(0), torch.ones(8, 1).double(), atol=0.02, rtol=0.0)
    assert abs(float((coloured[:, 3] * coloured[:, 4]).mean()) - 0.9) < 0.02
    torch.testing.assert_close(sde.whitened(coloured, 0.9), white)


def test_noise_starts_between_its_bounds_and_stays_within_them() -> None:
    torch.manual_seed(0)
    head, config = Head(), SigmaConfig(low=0.02, high=0.32)
    net = SigmaNet(head, config, NAMES)
    given = (
        torch.randn(BATCH, HORIZON, DIM),
        torch.rand(BATCH),
        torch.randn(BATCH, CONTEXT),
        torch.randn(BATCH, STATE),
    )
    torch.testing.assert_close(net(*given), torch.full((BATCH, HORIZON, DIM), math.sqrt(0.02 * 0.32)))
    nn.init.normal_(net.head.out.weight, std=20.0)
    assert float(net(*given).detach().min()) >= 0.02 * (1 - 1e-5) and float(net(*given).detach().max()) <= 0.32 * (
        1 + 1e-5
    )
    assert net.head.net[0].weight is not head.net[0].weight


def test_noise_sees_the_action_only_where_it_may() -> None:
    torch.manual_seed(0)
    for sees in (False, True):
        net = SigmaNet(Head(), SigmaConfig(sees_actions=sees), NAMES).eval()
        nn.init.normal_(net.head.out.weight)
        rest = (torch.rand(BATCH), torch.randn(BATCH, CONTEXT), torch.randn(BATCH, STATE))
        one, two = (net(torch.randn(BATCH, HORIZON, DIM), *rest) for _ in range(2))
        assert torch.equal(one, two) is not sees


def test_entropy_is_that_of_the_normal_distributions() -> None:
    player = Player(torch.float64)
    parts = [
        torch.distributions.Normal(0.0, player.sigma(player.chain.x[k], torch.full((BATCH,), k / STEPS).double()))
        .entropy()
        .flatten(1)
        .mean(1)
        for k in range(STEPS)
    ]
    torch.testing.assert_close(sde.entropy(player.sigma, player.chain), torch.stack(parts).mean(0))


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low 0\.3, high 0\.2"):
        SigmaConfig(low=0.3, high=0.2)


def test_only_the_numbers_named_are_tried_out_and_learned_from() -> None:
    player = Player(torch.float64)
    player.sigma_net = SigmaNet(player.head, SigmaConfig(numbers=("y",)), NAMES).double().eval()
    draws = torch.randn(STEPS, BATCH, HORIZON, DIM, dtype=torch.float64)
    played = sde.sample(player.velocity, player.sigma, player.chain.x[0], draws, correlation=0.7)
    quiet = sde.sample(player.velocity, player.sigma, player.chain.x[0], 0.0 * draws)
    assert (played.x[1] != quiet.x[1]).all(dim=(0, 1)).tolist() == [False, True, False]
    for natural in (False, True):
        offset = torch.zeros(DIM, dtype=torch.float64, requires_grad=True)
        density = sde.log_prob(lambda x, t, o=offset: player.velocity(x, t) + o, player.sigma, played, natural=natural)
        density.sum().backward()
        assert density.isfinite().all() and (density[..., [0, 2]] == 0.0).all()
        assert offset.grad is not None and (offset.grad != 0.0).tolist() == [False, True, False]
        assert all(p.grad is None or p.grad.isfinite().all() for p in player.sigma_net.parameters())
    assert sde.entropy(player.sigma, played).isfinite().all()


def test_a_number_that_no_action_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sigma\.numbers: no 'wide'; did you mean 'width'"):
        SigmaNet(Head(), SigmaConfig(numbers=("wide",)), NAMES)
