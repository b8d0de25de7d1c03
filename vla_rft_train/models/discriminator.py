"""The adversarial term of the tokenizer's loss: a patch discriminator (Isola et al., 2017) with hinge losses.

One backward pass serves both players: the tokenizer's term goes through the discriminator with its weights held fixed,
the discriminator's term sees pictures that carry no gradient.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

WIDTHS = (64, 128, 256)
"""Channels after each halving of the resolution."""


class PatchDiscriminator(nn.Module):
    """Pictures to one score per patch: positive looks real."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, after in pairwise(WIDTHS):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> scores [N, 1, H/8, W/8]."""
        return self.layers(pictures * 2.0 - 1.0)


def adversarial_losses(discriminator: PatchDiscriminator, ours: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures [N, 3, H, W]: losses of tokenizer and discriminator, each with a gradient in its own player."""
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooled = -functional_call(discriminator, fixed, (ours,)).mean()
    real, made = discriminator(true), discriminator(ours.detach())
    return fooled, 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean())
