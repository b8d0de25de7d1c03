"""Augmentation of training images: colours and light, and optionally a random crop. Nothing that moves the scene.

All draws come from torch's global generator, which the training loop seeds by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Largest changes, each drawn uniformly per image. All zero and area 1: none."""

    brightness: float = 0.0
    """Relative, plus and minus."""
    contrast: float = 0.0
    """Relative, about the image's mean."""
    saturation: float = 0.0
    """Relative."""
    hue: float = 0.0
    """Fraction of a turn."""
    crop_area: float = 1.0
    """Fraction of the area that is cut out anywhere and enlarged; with actions in base only where that may vary."""

    @property
    def any_color(self) -> bool:
        """Whether colours change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0.0


_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def augment(images: Tensor, config: AugmentConfig) -> Tensor:
    """images [B, 3, H, W] in [0, 1], another of the same shape and range."""
    if config.any_color:
        images = _recolor(images, config)
    if config.crop_area < 1.0:
        images = _crop(images, math.sqrt(config.crop_area))
    return images


def center_crop(images: Tensor, area: float) -> Tensor:
    """The middle of that area, enlarged to the size it was cut from: what evaluation sees after training on crops."""
    size = images.shape[-1]
    margin = round(0.5 * size * (1.0 - math.sqrt(area)))
    cut = images[..., margin : size - margin, margin : size - margin]
    return F.interpolate(cut, size=(size, size), mode="bilinear", align_corners=False)


def _within(count: int, amount: float, images: Tensor) -> Tensor:
    return (2.0 * torch.rand(count, device=images.device, dtype=images.dtype) - 1.0) * amount


def _recolor(images: Tensor, config: AugmentConfig) -> Tensor:
    """Hue and saturation turn and stretch the two colour axes of YIQ; contrast and brightness scale the result."""
    count = len(images)
    angle = 2.0 * math.pi * _within(count, config.hue, images)
    stretch = 1.0 + _within(count, config.saturation, images)
    chroma = torch.zeros(count, 3, 3, device=images.device, dtype=images.dtype)
    chroma[:, 0, 0] = 1.0
    chroma[:, 1, 1] = chroma[:, 2, 2] = stretch * angle.cos()
    chroma[:, 1, 2], chroma[:, 2, 1] = -stretch * angle.sin(), stretch * angle.sin()
    to_yiq = _TO_YIQ.to(images)
    matrix = torch.linalg.inv(to_yiq) @ chroma @ to_yiq
    contrast = (1.0 + _within(count, config.contrast, images))[:, None, None, None]
    brightness = (1.0 + _within(count, config.brightness, images))[:, None, None, None]
    colored = (matrix @ images.flatten(2)).view_as(images)
    mean = colored.mean(dim=(1, 2, 3), keepdim=True)
    return ((colored - mean) * contrast + mean).mul(brightness).clamp(0.0, 1.0)


def _crop(images: Tensor, side: float) -> Tensor:
    count = len(images)
    theta = torch.zeros(count, 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = _within(count, 1.0 - side, images), _within(count, 1.0 - side, images)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
