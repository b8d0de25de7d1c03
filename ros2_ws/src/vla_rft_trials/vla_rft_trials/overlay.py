"""The caption bar under a trial's picture. Adds rows below; the picture itself, which is evidence, is not touched."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BAR_HEIGHT = 32
"""Rows added [px]; 480 + 32 stays a multiple of 16, which H.264 likes."""
_BACKGROUND = (24, 26, 31)
_TEXT = (235, 237, 240)
_STATE_COLORS = {"success": (110, 200, 130), "failure": (240, 130, 110), "void": (170, 175, 185)}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Caption:
    """What the bar says. ASCII only: OpenCV's font knows nothing else."""

    trial: str
    """Left, for example "trial 1/3  seed 0"."""
    seconds: float
    """Elapsed time [s], in the middle."""
    state: str
    """Right: the mode while it runs, the outcome at the end; an outcome gets its colour as well."""


def with_caption(image: NDArray[np.uint8], caption: Caption) -> NDArray[np.uint8]:
    """A new uint8 RGB image [H + BAR_HEIGHT, W, 3]: `image` with the bar below it."""
    height, width = image.shape[:2]
    framed = np.empty((height + BAR_HEIGHT, width, 3), np.uint8)
    framed[:height] = image
    framed[height:] = _BACKGROUND
    baseline = height + BAR_HEIGHT - 11
    _put(framed, caption.trial, (12, baseline), _TEXT)
    time = f"{caption.seconds:.1f} s"
    _put(framed, time, ((width - _text_width(time)) // 2, baseline), _TEXT)
    color = _STATE_COLORS.get(caption.state, _TEXT)
    _put(framed, caption.state, (width - 12 - _text_width(caption.state), baseline), color)
    return framed


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.5, 1)[0][0])


def _put(image: NDArray[np.uint8], text: str, origin: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(image, text, origin, _FONT, 0.5, color, 1, cv2.LINE_AA)
