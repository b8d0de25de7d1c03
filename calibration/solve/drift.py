"""Has the camera moved since it was calibrated? Today's picture against the reference picture and its depth.

Direct alignment: the motion of the camera, and the gain and offset of its brightness, that turn the reference picture
into today's. Every pixel with structure counts, edges included, which a table without corners has more of than
features; what was not there before (a towel, a hand) counts little, because it fits no motion (Cauchy loss).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.errors import CalibrationError
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import Depth, Image

_BLURS = (6.0, 3.0, 1.5, 0.8)
"""Standard deviations [px] of the pictures' smoothing, coarse to fine."""
_PIXELS = 4000
_LOSS_SCALE = 4.0
"""Grey values of misfit from which on a pixel counts less."""
_MIN_GRADIENT = 1.5
_MIN_PIXELS = 300
_GOOD = 12.0
"""A pixel within this many grey values fits."""
_MIN_SHARE = 0.5
_MIN_GAIN = 0.2
"""A picture that is darker, or inverted, is another one."""
_DEPTH_EDGE_MM = 30.0
_STEP = 0.0005
"""For derivatives [m], [rad]: about a third of a pixel."""


@dataclass(frozen=True, eq=False)
class Drift:
    """How the camera has moved, in its own frame at the time of the reference."""

    motion: Pose
    """T_reference_today of the optical frame."""
    gain: float
    """Brightness today over then."""
    offset: float
    """Grey values."""
    share: float
    """Of the pixels looked at that fit."""

    @property
    def metres(self) -> float:
        """How far it moved."""
        return float(np.linalg.norm(self.motion.position))

    @property
    def radians(self) -> float:
        """How far it turned."""
        return Pose.identity().distance_to(self.motion)[1]


def solve(reference: Image, depth: Depth, today: Image, intrinsics: Intrinsics) -> Drift:
    """From two colour pictures (H, W, 3) and the first one's aligned depth [mm].

    CalibrationError when the pictures show too little in common to say anything.
    """
    if reference.shape != today.shape or reference.shape[:2] != depth.shape:
        sizes = f"{reference.shape[1]}x{reference.shape[0]} and {today.shape[1]}x{today.shape[0]}"
        raise CalibrationError(f"the pictures are of different sizes: {sizes}")
    then, now = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (reference, today))
    usable = _usable(depth)
    x = np.array([0.0] * 6 + [1.0, 0.0])
    for blur in _BLURS:
        a, b = (cv2.GaussianBlur(image, (0, 0), blur) for image in (then, now))
        pixels = _structured(a, usable)
        x, off = _align(a, b, pixels, depth, intrinsics, x)
    share = float((abs(off) < _GOOD).mean())
    if share < _MIN_SHARE or not x[6] > _MIN_GAIN:
        raise CalibrationError(
            f"today's picture shows something else than the reference ({share:.0%} of it fits, {_MIN_SHARE:.0%} are "
            "needed): clear the view, send the arm home, switch the light on; or the camera points elsewhere"
        )
    motion = Pose(x[:3], Rotation.from_rotvec(x[3:6]).as_quat())
    return Drift(motion=motion, gain=float(x[6]), offset=float(x[7]), share=share)


def _usable(depth: Depth) -> NDArray[np.bool_]:
    """Pixels (H, W) with depth, away from where it jumps: there a pixel shows one thing and its depth another."""
    z = depth.astype(np.float32)
    kernel = np.ones((7, 7), np.uint8)
    smooth = cv2.dilate(z, kernel) - cv2.erode(z, kernel) < _DEPTH_EDGE_MM
    return np.asarray((depth > 0) & smooth)


def _structured(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 2) row and column of pixels with structure, at most `_PIXELS`, spread over the image."""
    gradient = np.hypot(
        cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=0.125)
    )
    gradient[:4], gradient[-4:], gradient[:, :4], gradient[:, -4:] = 0.0, 0.0, 0.0, 0.0
    found = np.argwhere(usable & (gradient > _MIN_GRADIENT))
    if len(found) < _MIN_PIXELS:
        raise CalibrationError(f"the reference picture has too little structure to compare with ({len(found)} pixels)")
    return found[:: max(1, len(found) // _PIXELS)]


def _align(
    then: NDArray[np.float32],
    now: NDArray[np.float32],
    pixels: NDArray[np.int64],
    depth: Depth,
    intrinsics: Intrinsics,
    start: Array,
) -> tuple[Array, Array]:
    """Motion (6), gain and offset that explain `now` at the pixels' new places; and the misfit (N,) left."""
    rows, columns = pixels.T
    z = depth[rows, columns] * 1e-3
    focal, center = np.array([intrinsics.fx, intrinsics.fy]), np.array([intrinsics.cx, intrinsics.cy])
    points = np.column_stack([(pixels[:, ::-1] - center) / focal * z[:, None], z])
    wanted = then[rows, columns].astype(np.float64)

    def residuals(x: Array) -> Array:
        moved = Rotation.from_rotvec(x[3:6]).inv().apply(points - x[:3])
        seen = moved[:, :2] / np.maximum(moved[:, 2:], 1e-3) * focal + center
        values = map_coordinates(now, seen[:, ::-1].T, order=1, mode="nearest")  # cv2.remap knows 1/32 px only
        return np.asarray(values - x[6] * wanted - x[7], dtype=np.float64)

    def jacobian(x: Array) -> Array:
        made = np.empty((len(wanted), 8))
        for k in range(6):
            step = np.zeros(8)
            step[k] = _STEP
            made[:, k] = (residuals(x + step) - residuals(x - step)) / (2.0 * _STEP)
        made[:, 6], made[:, 7] = -wanted, -1.0
        return made

    scale = [0.002] * 6 + [0.05, 5.0]
    found = least_squares(
        residuals, start, jacobian, loss="cauchy", f_scale=_LOSS_SCALE, x_scale=scale, max_nfev=60, xtol=1e-6, ftol=1e-6
    )
    return found.x, residuals(found.x)


def describe(drift: Drift, T_base_camera: Pose) -> str:
    """In words: how far, which way in base, how much brighter."""
    T_base_today = T_base_camera.compose(drift.motion)
    x, y, z = (1e3 * (T_base_today.position - T_base_camera.position)).tolist()
    return (
        f"camera moved by {1e3 * drift.metres:.1f} mm (x {x:+.1f}, y {y:+.1f}, z {z:+.1f}) and turned by "
        f"{math.degrees(drift.radians):.2f} deg; brightness {drift.gain - 1.0:+.0%}; {drift.share:.0%} of the view fits"
    )
