"""Convolutional building blocks of the tokenizer: residual blocks, attention to a context picture, resampling.

Shapes: B batch, C channels, H W height and width, N positions.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8
"""Groups of every group normalisation; every channel count is a multiple."""


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, added to the input (1x1 convolution where the channels differ)."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out = out_channels or channels
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if out == channels else nn.Conv2d(channels, out, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class ContextAttention(nn.Module):
    """Every position of a feature map looks at all positions of the context's; adds nothing at the start.

    Positions of both maps carry a fixed sine-cosine code of where they are, relative to the picture.
    """

    def __init__(self, channels: int, context_channels: int, *, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, context_channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(context_channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, C, H, W], context [B, C', H', W'] -> [B, C, H, W]."""
        split = "b (h d) y x -> b h (y x) d"
        q = self.query(self.norm(x) + where(x))
        k, v = self.key_value(self.context_norm(context) + where(context)).chunk(2, dim=1)
        q, k, v = (rearrange(t, split, h=self.heads).contiguous() for t in (q, k, v))  # torch's fast kernels want it
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(mixed, "b h (y x) d -> b (h d) y x", y=x.shape[2]))


def where(x: Tensor) -> Tensor:
    """Sine-cosine code of the positions of a feature map [B, C, H, W]: [1, C, H, W], the same at every resolution."""
    _, channels, height, width = x.shape
    octaves = torch.arange(channels // 4, device=x.device, dtype=torch.float32) % 8
    rates = math.pi * 2.0**octaves
    y = (torch.arange(height, device=x.device) + 0.5) / height
    x_ = (torch.arange(width, device=x.device) + 0.5) / width
    code_y = torch.cat([(rates[:, None] * y).sin(), (rates[:, None] * y).cos()])[:, :, None].expand(-1, -1, width)
    code_x = torch.cat([(rates[:, None] * x_).sin(), (rates[:, None] * x_).cos()])[:, None, :].expand(-1, height, -1)
    return torch.cat([code_y, code_x]).to(x.dtype)[None]


class Down(nn.Module):
    """Half the resolution: strided 3x3 convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H/2, W/2]."""
        return self.conv(x)


class Up(nn.Module):
    """Twice the resolution: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
