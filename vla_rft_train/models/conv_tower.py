"""ConvTower: a small convolutional eye that finds points in a picture; trained from scratch.

Coordinate channels, four convolutions, and a spatial softmax that turns each feature map into one point: where it is
rather than what it is, which is what a grasp needs (spatial softmax: Levine et al. 2016, arXiv 1504.00702).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class ConvTowerConfig:
    """Size of the tower."""

    channels: tuple[int, int, int, int] = (16, 32, 32, 32)
    strides: tuple[int, int, int, int] = (2, 1, 2, 1)
    points: int = 32
    """Feature maps that become points."""
    out: int = 128


class ConvTower(nn.Module):
    """images [B, 3, S, S] in [0, 1] -> context [B, out], and the points [B, P, 2] in it (x, y in [-1, 1])."""

    def __init__(self, config: ConvTowerConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 5
        for channels, stride in zip(config.channels, config.strides, strict=True):
            layers += [nn.Conv2d(before, channels, 3, stride, 1), nn.GroupNorm(4, channels), nn.SiLU()]
            before = channels
        self.convolutions = nn.Sequential(*layers)
        self.to_maps = nn.Conv2d(before, config.points, 1)
        self.sharpness = nn.Parameter(torch.ones(config.points))
        self.out = nn.Sequential(nn.Linear(2 * config.points + before, config.out), nn.SiLU())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Context and points."""
        x, y = _coordinates(images)
        features = self.convolutions(torch.cat([2.0 * images - 1.0, x, y], dim=1))
        points = self._points(features)
        context = self.out(torch.cat([points.flatten(1), features.mean(dim=(2, 3))], dim=-1))
        return context, points

    def _points(self, features: Tensor) -> Tensor:
        maps = self.to_maps(features) * self.sharpness[:, None, None]
        weights = F.softmax(maps.flatten(2), dim=-1)
        x, y = _coordinates(features[:1])
        places = torch.cat([x, y], dim=1).flatten(2)[0]
        return weights @ places.T


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of every pixel's middle in [-1, 1], (B, 1, H, W) each."""
    batch, _, height, width = images.shape
    x = (torch.arange(width, device=images.device, dtype=images.dtype) + 0.5) * (2.0 / width) - 1.0
    y = (torch.arange(height, device=images.device, dtype=images.dtype) + 0.5) * (2.0 / height) - 1.0
    return x.expand(batch, 1, height, width), y[:, None].expand(batch, 1, height, width)
