"""The policy's image: one function, used live, for datasets and for training. The only module of core with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from vla_rft_core.types import Image


def policy_image(color: Image, size: int) -> Image:
    """Centre square of a colour image, resized by area averaging.

    color: uint8 RGB [H, W, 3]; returns uint8 RGB [size, size, 3]. ValueError for anything else.
    """
    if color.dtype != np.uint8 or color.ndim != 3 or color.shape[2] != 3 or color.size == 0:
        raise ValueError(f"expected uint8 RGB [H, W, 3], got {color.dtype} {list(color.shape)}")
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    height, width = color.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(color[top : top + side, left : left + side])
    interpolation = cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=interpolation), dtype=np.uint8)
