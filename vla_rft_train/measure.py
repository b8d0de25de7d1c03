"""How close pictures are to others: MSE, PSNR, SSIM, over all pixels and over those that move. Pictures in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MOVING = 0.05
"""A pixel moves when any channel differs from the start frame by more than this."""
_AT_ONCE = 64
"""Pictures whose similarity is computed together: torch spreads every window of a double-precision blur in memory."""


def mse(ours: Tensor, true: Tensor, mask: Tensor | None = None) -> float:
    """Mean squared error of [..., 3, H, W], over the pixels of `mask` [..., 1, H, W] where one is given."""
    squared = (ours - true).square()
    if mask is None:
        return float(squared.mean())
    chosen = mask.expand_as(squared)
    return float(squared[chosen].mean()) if chosen.any() else 0.0


def psnr(ours: Tensor, true: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio [dB] of the mean squared error; infinite for equal pictures."""
    error = mse(ours, true, mask)
    return -10.0 * math.log10(error) if error > 0.0 else math.inf


def moving_pixels(true: Tensor, start: Tensor) -> Tensor:
    """bool [..., 1, H, W]: where pictures [..., 3, H, W] differ from the start frame."""
    return ((true - start).abs() > MOVING).any(dim=-3, keepdim=True)


def ssim(ours: Tensor, true: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5) of [N, 3, H, W]."""
    pairs = zip(ours.split(_AT_ONCE), true.split(_AT_ONCE), strict=True)
    return float(torch.cat([_ssim(a.double(), b.double()) for a, b in pairs]).mean())


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """Of each picture."""
    offsets = torch.arange(11, dtype=torch.float64, device=a.device) - 5.0
    bell = torch.exp(-(offsets**2) / (2.0 * 1.5**2))
    bell = (bell / bell.sum()).expand(3, 1, 1, 11)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, bell, groups=3), bell.mT, groups=3)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
    return (numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean(dim=(1, 2, 3))
