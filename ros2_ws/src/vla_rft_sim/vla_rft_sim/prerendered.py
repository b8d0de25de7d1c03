"""A camera that costs nothing to render: prepared pictures through the vendor's library, to measure what follows.

Frame n is stamped start + n / fps exactly, so that whoever gets them can tell which are missing.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import nanoseconds
from vla_rft_core.spec import CameraSpec
from vla_rft_core.types import CameraFrame
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_hardware.realsense import RealSenseCamera
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_sim.software_camera import SoftwareCamera

FPS = 30
PICTURES = 30
"""Different ones; then they come again."""
BLOCK = 20
"""Side of a patch of one colour [pixels]."""
NOISE = 6
"""Of a pixel: as a sensor's, it makes compression work [of 255, and mm]."""


class PreparedFrames:
    """Satisfies `Camera`: a frame whenever one is due, none left out when it was asked late."""

    def __init__(self, spec: CameraSpec) -> None:
        self._spec = spec
        chance = np.random.default_rng(0)
        self._pictures = [_picture(spec, chance) for _ in range(PICTURES)]
        self._number = 0
        self._start_ns = time.time_ns()

    def info(self) -> CameraInfo:
        """Some intrinsics."""
        width, height = self._spec.width, self._spec.height
        return CameraInfo(self._spec.name, "prepared", width, height, 0.9 * width, 0.9 * width, width / 2, height / 2)

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The next frame, once it is due."""
        stamp_ns = self._start_ns + self._number * nanoseconds(1.0) // FPS
        wait_ns = stamp_ns - time.time_ns()
        if wait_ns > nanoseconds(timeout_s):
            time.sleep(timeout_s)
            return None
        time.sleep(max(0, wait_ns) / 1e9)
        color, depth = self._pictures[self._number % PICTURES]
        self._number += 1
        return CameraFrame(
            camera=self._spec.name,
            stamp_ns=stamp_ns,
            received_ns=time.time_ns(),
            number=self._number,
            color=color,
            depth=depth,
        )

    def close(self) -> None:
        """Nothing to release."""


def _picture(spec: CameraSpec, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = spec.height // BLOCK, spec.width // BLOCK
    shape = (spec.height, spec.width)
    patches = np.kron(chance.integers(20, 230, (rows, columns, 3)), np.ones((BLOCK, BLOCK, 1)))
    color = patches + chance.integers(-NOISE, NOISE, (*shape, 3))
    depth = np.kron(chance.integers(400, 900, (rows, columns)), np.ones((BLOCK, BLOCK)))
    depth += chance.integers(-NOISE, NOISE, shape)
    return color.astype(np.uint8), depth.astype(np.uint16)


def connect_camera(address: str, name: str, *, cell: CellFolder) -> RealSenseCamera:
    """The camera `name` of the cell, streaming prepared pictures at 30 per second."""
    rs = load_realsense()
    spec = replace(cell.spec.camera(name), fps=FPS)
    return RealSenseCamera(rs, SoftwareCamera(rs, PreparedFrames(spec), fps=FPS), spec)
