"""Renders the fixed camera of a model and adds what a D435i's images have: noise, and depth in whole millimetres.

One OpenGL pass gives colour and depth. Belongs to the thread that made it.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np

from vla_rft_core.geometry import Array
from vla_rft_core.types import Depth, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.gl import mujoco, require_rendering

Quality = Literal["fast", "video"]
MULTISAMPLES: dict[Quality, int] = {"fast": 0, "video": 4}
_COLOR_NOISE = 1.6
"""Standard deviation of a colour value (of 255)."""
_DEPTH_NOISE_PER_M = 0.0012
"""Standard deviation of depth over its square [1/m]: stereo's error grows with the square of the distance."""
_MAX_DEPTH_M = 4.0
_TILE_MARGIN = 64


class SensorNoise:
    """Noise from tiles drawn once and read at a random offset, so that every frame differs and costs little."""

    def __init__(self, info: CameraInfo) -> None:
        tiles = np.random.default_rng(1)
        self._shape = (info.height, info.width)
        size = (info.height + _TILE_MARGIN, info.width + _TILE_MARGIN)
        color = np.rint(tiles.normal(0.0, _COLOR_NOISE, (*size, 3)))
        self._brighter = np.clip(color, 0, 255).astype(np.uint8)
        self._darker = np.clip(-color, 0, 255).astype(np.uint8)
        self._depth = tiles.normal(0.0, _DEPTH_NOISE_PER_M, size).astype(np.float32)
        self.restart(0)

    def restart(self, seed: int) -> None:
        """The same frames after the same seed."""
        self._random = np.random.default_rng(seed)

    def save(self) -> dict[str, Any]:
        """From where `restore` goes on."""
        return dict(self._random.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """The same frames as after `save`."""
        self._random.bit_generator.state = state

    def _window(self) -> tuple[slice, slice]:
        row, column = self._random.integers(0, _TILE_MARGIN, 2)
        return slice(row, row + self._shape[0]), slice(column, column + self._shape[1])

    def color(self, image: Image) -> Image:
        """A noisy copy of a colour image."""
        window = self._window()
        return cv2.subtract(cv2.add(image, self._brighter[window]), self._darker[window])

    def depth(self, z: Array) -> Depth:
        """Depth uint16 [mm], 0 beyond the sensor's range, from exact distances z (H, W) float32 [m]."""
        noisy = z + z * z * self._depth[self._window()]
        noisy[z > _MAX_DEPTH_M] = 0.0
        return np.rint(noisy * np.float32(1000.0)).astype(np.uint16)


class CameraRenderer:
    """Off-screen pictures of the model's camera "color", in two halves: `capture` is quick, `develop` draws.

    `capture` needs the data to stand still and no OpenGL. `develop` may run while the data changes; all its calls,
    and `close`, belong to one thread, the one of the OpenGL context that the first of them makes.
    """

    def __init__(self, model: mujoco.MjModel, info: CameraInfo) -> None:
        require_rendering()
        self._model = model
        self._rect = mujoco.MjrRect(0, 0, info.width, info.height)
        self._gl: mujoco.GLContext | None = None
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[4] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = model.camera("color").id
        self._color = np.empty((info.height, info.width, 3), dtype=np.uint8)
        self._reversed_depth = np.empty((info.height, info.width), dtype=np.float32)
        self._stale_textures: set[int] = set()

    def texture_changed(self, texture: int) -> None:
        """The model has another image under this number; the next `develop` shows it."""
        self._stale_textures.add(texture)

    def capture(self, data: mujoco.MjData, *, shadows: bool = False) -> None:
        """Take over what there is to see."""
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._view, every, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def develop(self, *, depth: bool = True) -> tuple[Image, Array | None]:
        """Exact colour (H, W, 3) and, unless unwanted, distance along the optical axis (H, W) float32 [m]."""
        if self._gl is None:
            self._gl = mujoco.GLContext(self._rect.width, self._rect.height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._gl.make_current()
        while self._stale_textures:
            mujoco.mjr_uploadTexture(self._model, self._context, self._stale_textures.pop())
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._color, self._reversed_depth if depth else None, self._rect, self._context)
        return cv2.flip(self._color, 0), self._distance() if depth else None

    def _distance(self) -> Array:
        """Undo the projection: the buffer holds 1 at the near plane and 0 at the far one."""
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        ratio = near / (far - near)
        return np.float32(far * ratio) / (cv2.flip(self._reversed_depth, 0) + np.float32(ratio))

    def close(self) -> None:
        """Free the OpenGL context, if there is one yet."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None
