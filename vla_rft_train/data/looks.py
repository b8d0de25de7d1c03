"""Another look of a window: other colours and light, another cut of the picture, the same for all its frames.

A world model that is trained on few episodes learns their looks by heart; what happens does not depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIGHT, SATURATION, HUE = 0.3, 0.4, 0.06
"""Largest change of brightness and contrast, of saturation (as factors around 1), and of hue (turns)."""
SMALLEST_CUT = 0.78
"""Of the picture's area."""


def another_look(frames: Tensor, *, seed: tuple[int, ...]) -> Tensor:
    """Frames uint8 [1 + T, 3, size, size] with one look drawn by `seed`, of that shape."""
    from torchvision.transforms import v2  # takes a second, which other uses of this package need not spend

    size = frames.shape[-1]
    change = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(SMALLEST_CUT, 1.0), ratio=(0.93, 1.08), antialias=True),
            v2.ColorJitter(brightness=LIGHT, contrast=LIGHT, saturation=SATURATION, hue=HUE),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash(seed) % 2**63)
        return change(frames)
