"""PictureWatch: what is wrong with a camera's pictures though they come: too few of them, too dark, too bright.

None of it stops the arm: the watchdog does that, for a camera that is silent or frozen. It is told, and a trial is not
begun with it. It knows no ROS.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_rft_core.types import Image

WINDOW_S = 2.0
"""Over so long the rate is measured [s]."""
SLOWEST = 1.0 / 3.0
"""Share of the rate in the spec below which there are too few; a busy computer drops some."""
DARKEST, BRIGHTEST = 20.0, 235.0
"""Mean value of a picture (of 255) that an exposure may lead to."""
STRIDE = 8
"""Every so many-th pixel of a row and column is looked at."""


class PictureWatch:
    """`see` every picture; `problem` says what is wrong now."""

    def __init__(self, fps: float) -> None:
        """`fps`: what the spec says."""
        self._fps = fps
        self._began: float | None = None
        self._arrivals: deque[float] = deque()
        self._brightness = 0.5 * (DARKEST + BRIGHTEST)

    def see(self, color: Image, now: float) -> None:
        """A picture came at `now` (monotonic [s])."""
        if self._began is None:
            self._began = now
        self._arrivals.append(now)
        self._brightness = float(np.mean(color[::STRIDE, ::STRIDE]))

    def problem(self, now: float) -> str:
        """In one sentence; empty when all is well, and before there was time to measure a rate."""
        while self._arrivals and now - self._arrivals[0] > WINDOW_S:
            self._arrivals.popleft()
        rate = len(self._arrivals) / WINDOW_S
        if self._began is not None and now - self._began > WINDOW_S and rate < SLOWEST * self._fps:
            return f"{rate:.1f} pictures per second come, the spec says {self._fps:g}"
        if not DARKEST <= self._brightness <= BRIGHTEST:
            wrong = "bright" if self._brightness > BRIGHTEST else "dark"
            return f"the picture is too {wrong}: its mean is {self._brightness:.0f} of 255; look at lens and exposure"
        return ""

    @property
    def brightness(self) -> float:
        """Mean value (of 255) of the newest picture."""
        return self._brightness
