"""What the towel looks like: a texture painted with numpy, written into a compiled model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla_rft_core.types import Image

if TYPE_CHECKING:
    import mujoco

Rgb = tuple[float, float, float]
"""0 to 1."""

_HEM = 0.018


@dataclass(frozen=True, kw_only=True)
class TowelLook:
    """Colours and pattern of a towel: a hem lighter than the ground, stripes near both short ends, and a weave."""

    ground: Rgb = (92 / 255, 142 / 255, 202 / 255)
    stripe: Rgb = (236 / 255, 239 / 255, 243 / 255)
    stripes: tuple[tuple[float, float], ...] = ((0.085, 0.12), (0.15, 0.165))
    """From and to, as fractions of the towel's length, counted from either end."""
    weave: float = 0.035
    """Relative standard deviation of a texel's brightness."""


def terry_texture(width: int, height: int, look: TowelLook | None = None) -> Image:
    """The towel as an image (H, W, 3)."""
    look = look or TowelLook()
    random = np.random.default_rng(7)
    ground, stripe = 255.0 * np.array(look.ground), 255.0 * np.array(look.stripe)
    image = np.empty((height, width, 3), dtype=np.float64)
    image[:] = ground
    for near, far in look.stripes:
        for low, high in ((near, far), (1.0 - far, 1.0 - near)):
            image[:, round(low * width) : round(high * width)] = stripe
    hem = round(_HEM * width)
    for edge in (image[:hem], image[-hem:], image[:, :hem], image[:, -hem:]):
        edge[:] = 0.6 * edge + 0.4 * stripe
    image *= 1.0 + look.weave * random.standard_normal((height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def paint(model: mujoco.MjModel, look: TowelLook | None = None) -> int:
    """Replace the model's towel texture; its number, for renderers made before, which must upload it again."""
    texture = int(model.tex("terry").id)
    start, width, height = (int(a[texture]) for a in (model.tex_adr, model.tex_width, model.tex_height))
    model.tex_data[start : start + width * height * 3] = terry_texture(width, height, look).reshape(-1)
    return texture
