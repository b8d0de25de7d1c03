"""The simulated camera's calibration: the published D435i's, at any of its resolutions or scaled from one."""

from __future__ import annotations

import numpy as np

from vla_rft_core.geometry import Array
from vla_rft_hardware.description import load_d435i
from vla_rft_hardware.protocols import CameraInfo


def color_camera_info(camera: str, width: int, height: int) -> CameraInfo:
    """Intrinsics of the colour stream at a size; a size the camera lacks is scaled from the one of its aspect ratio."""
    description = load_d435i()
    published = {tuple(map(int, key.split("x"))): v for key, v in description["intrinsics_color"].items()}
    alike = [size for size in published if size[0] * height == size[1] * width]
    if not alike:
        raise ValueError(f"no D435i colour resolution has the shape of {width}x{height}; it has {sorted(published)}")
    size = (width, height) if (width, height) in alike else max(alike)
    scale, k = width / size[0], published[size]
    return CameraInfo(
        camera=camera,
        serial="SIM-" + description["serial"],
        width=width,
        height=height,
        fx=k["fx"] * scale,
        fy=k["fy"] * scale,
        cx=(k["cx"] + 0.5) * scale - 0.5,
        cy=(k["cy"] + 0.5) * scale - 0.5,
        depth_scale=description["depth_scale_m_per_unit"],
    )


def pixel_rays(info: CameraInfo) -> Array:
    """Direction (H, W, 3) of every pixel's ray in the optical frame, scaled to z = 1."""
    rays = np.ones((info.height, info.width, 3))
    rays[..., 0] = (np.arange(info.width) - info.cx)[None, :] / info.fx
    rays[..., 1] = (np.arange(info.height) - info.cy)[:, None] / info.fy
    return rays
