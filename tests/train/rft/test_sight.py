"""What a reward sees of an action's numbers: found on rewards that are known functions of them."""

from __future__ import annotations

import pytest
import torch

from vla_rft_train.rft.sight import ALL, judged

NAMES = ("x", "y", "width")


def test_the_numbers_that_a_reward_depends_on_are_told_from_those_that_it_does_not_see() -> None:
    generator = torch.Generator().manual_seed(0)
    tried = []
    for _ in range(8):
        actions = torch.randn(200, 8, 3, generator=generator)
        slow = actions[:, :4].mean(1)
        tried.append((actions, 3.0 * slow[:, 0] - slow[:, 1] + 0.1 * torch.randn(200, generator=generator)))
    shares = {seen.number: seen.share for seen in judged(tried, NAMES)}
    assert shares["x"] == pytest.approx(0.9, abs=0.05)
    assert shares["y"] == pytest.approx(0.1, abs=0.05)
    assert shares["width"] < 0.02
    assert shares[ALL] > 0.95


def test_what_is_even_in_the_noise_cannot_be_learned_from() -> None:
    generator = torch.Generator().manual_seed(0)
    chunks = [torch.randn(400, 8, 3, generator=generator) for _ in range(4)]
    tried = [(actions, -(actions[:, :, 0].mean(1) ** 2)) for actions in chunks]
    assert all(abs(seen.share) < 0.05 for seen in judged(tried, NAMES))


def test_a_reward_that_never_differs_is_refused() -> None:
    with pytest.raises(ValueError, match="the same for all rollouts"):
        judged([(torch.zeros(32, 8, 3), torch.zeros(32))], NAMES)
