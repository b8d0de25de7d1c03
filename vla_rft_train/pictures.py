"""Contact sheets: rows of frames as one PNG, drawn large enough to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHOWN_SIZE = 128
"""Small frames are enlarged to at least this side [pixels]."""


def save_rows(rows: Sequence[Tensor], path: Path, *, gap: int = 2) -> None:
    """Write frames [T, 3, H, W] in [0, 1] of every row side by side, one row below the other."""
    lines = []
    for row in rows:
        pixels = (row.detach().float().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        times = max(1, SHOWN_SIZE // pixels.shape[-1])
        big = pixels.permute(0, 2, 3, 1).numpy().repeat(times, axis=1).repeat(times, axis=2)
        lines.append(np.concatenate([np.pad(f, ((gap, gap), (gap, gap), (0, 0)), constant_values=255) for f in big], 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)).save(path)
