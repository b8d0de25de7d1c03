"""Augmentation of what a policy is trained on: colours and light, another cut of the picture, noise on the state.

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
    shift: float = 0.0
    """Fraction of the side by which the picture is moved, its edge repeated: for actions relative to what is seen."""
    state: float = 0.0
    """Standard deviation of noise on the normalised state: a policy that cannot trust it to the last digit looks."""

    @property
    def any_color(self) -> bool:
        """Whether colours change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0.0


_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def augment(images: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """images [B, 3, H, W] in [0, 1] -> others of the same shape and range, and the cut [B, 3] each is of its original.

    A cut is (side, x, y): what stands at p of the new picture was at side · p + (x, y), coordinates within [-1, 1].
    """
    if config.any_color:
        images = _recolor(images, config)
    side = math.sqrt(config.crop_area)
    cut = torch.zeros(len(images), 3, device=images.device, dtype=images.dtype)
    cut[:, 0] = side
    if config.crop_area < 1.0 or config.shift > 0.0:
        for axis in (1, 2):
            cut[:, axis] = _within(len(images), 1.0 - side + 2.0 * config.shift, images)
        images = _cut_out(images, cut)
    return images, cut


def moved(points: Tensor, cut: Tensor) -> Tensor:
    """Points [B, P, 2] of the original pictures in their cuts [B, 3]."""
    return (points - cut[:, None, 1:]) / cut[:, None, :1]


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


def _cut_out(images: Tensor, cut: Tensor) -> Tensor:
    theta = torch.zeros(len(images), 2, 3, device=images.device, dtype=images.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = cut[:, 0]
    theta[:, :, 2] = cut[:, 1:]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
