"""The world's camera: renders at its frame rate on its own thread and publishes to shared memory.

Knows nothing of sockets. Its thread owns the renderer from the first frame to the last.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import numpy as np

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.types import Depth, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.frames import FrameWriter
from vla_rft_sim.realtime import LoopEndedError, RealTimeLoop

SLOW_FPS = 3.0
OVEREXPOSURE = 4
"""So many times too long a sensor was exposed."""


class CameraFeed:
    """Frames of one camera at `fps`; a frame that would come late is dropped, never made up for."""

    def __init__(self, loop: RealTimeLoop, writer: FrameWriter, *, info: CameraInfo, fps: float) -> None:
        self.info = info
        self.path: Path = writer.path
        self.silent = False
        """Injected fault: no frames."""
        self.frozen = False
        """Injected fault: new frames, old picture."""
        self.slow = False
        """Injected fault: SLOW_FPS frames per second."""
        self.overexposed = False
        """Injected fault: white almost everywhere."""
        self._loop = loop
        self._writer = writer
        self._period_ns = round(NS_PER_S / fps)
        self._ended = threading.Event()

    @property
    def count(self) -> int:
        """Frames published."""
        return self._writer.count

    def warm_up(self) -> None:
        """Open the renderer, which takes a second; call it in the thread that will `run`, before the loop runs."""
        self._loop.world.capture()
        self._loop.world.develop()

    def run(self) -> None:
        """Publish until `end` is called, then close the renderer; it belongs to this thread."""
        try:
            with contextlib.suppress(LoopEndedError):
                self._publish()
        finally:
            self._loop.world.close()

    def end(self) -> None:
        """Make `run` return after the present frame."""
        self._ended.set()

    def _publish(self) -> None:
        last: tuple[Image, Depth] | None = None
        due_ns = time.monotonic_ns()
        while not self._ended.wait(max(0, due_ns - time.monotonic_ns()) / NS_PER_S):
            if not self.silent:
                stamp_ns = self._loop.call(self._capture)
                color, depth = self._loop.world.develop()
                assert depth is not None
                if self.overexposed:
                    color = np.minimum(color.astype(np.uint16) * OVEREXPOSURE, 255).astype(np.uint8)
                if last is None or not self.frozen:
                    last = (color, depth)
                self._writer.write(*last, stamp_ns=stamp_ns)
            period_ns = round(NS_PER_S / SLOW_FPS) if self.slow else self._period_ns
            due_ns = max(due_ns + period_ns, time.monotonic_ns())

    def _capture(self) -> int:
        self._loop.world.capture()
        return self._loop.snapshot.stamp_ns
