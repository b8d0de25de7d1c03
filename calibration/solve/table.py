"""The table: a plane through points that the fingertips touched, and the same plane as the camera's depth has it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from calibration.errors import CalibrationError, DegenerateError
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import Depth

MIN_TOUCHES = 4
_MIN_SPREAD_M = 0.05
"""Of the touched points about their middle, across the narrower way."""
_MIN_DEPTH_PIXELS = 500
_HUBER_M = 0.0005


@dataclass(frozen=True, eq=False)
class Plane:
    """z = height + slope . (xy - middle), in base."""

    height: float
    """At the middle [m]."""
    slope: tuple[float, float]
    """Along x and y [rad]."""
    middle: tuple[float, float]
    """Of the points it was fitted to [m]."""
    rms_m: float
    residuals: Array
    """(N,) of the points [m]."""
    std_m: float
    """Standard error of the height."""

    def at(self, x: float, y: float) -> float:
        """Height there [m]."""
        return self.height + self.slope[0] * (x - self.middle[0]) + self.slope[1] * (y - self.middle[1])

    @property
    def tilt(self) -> float:
        """From level [rad]."""
        return math.hypot(*self.slope)


def fit_plane(points: Array) -> Plane:
    """The plane of points (N, 3) in base; single points off it count little. DegenerateError when they are in line."""
    if len(points) < MIN_TOUCHES:
        raise DegenerateError(f"{len(points)} points are too few for a table, {MIN_TOUCHES} are needed")
    middle = points[:, :2].mean(axis=0)
    flat = points[:, :2] - middle
    spread = float(np.linalg.svd(flat, compute_uv=False)[1] / math.sqrt(len(flat)))
    if spread < _MIN_SPREAD_M:
        raise DegenerateError(f"the points lie nearly in one line ({1e3 * spread:.0f} mm across): touch corners, too")

    def residuals(x: Array) -> Array:
        return x[0] + flat @ x[1:] - points[:, 2]

    start = np.array([np.median(points[:, 2]), 0.0, 0.0])
    found = least_squares(residuals, start, loss="huber", f_scale=_HUBER_M, x_scale=[1e-3, 1e-2, 1e-2])
    off = -residuals(found.x)
    rms = float(np.sqrt((off**2).mean()))
    return Plane(
        height=float(found.x[0]),
        slope=(float(found.x[1]), float(found.x[2])),
        middle=(float(middle[0]), float(middle[1])),
        rms_m=rms,
        residuals=off,
        std_m=rms * math.sqrt(len(points) / max(1, len(points) - 3)) / math.sqrt(len(points)),
    )


def touch_height(heights: Array, forces: Array, *, least_n: float = 1.0) -> float:
    """Height [m] at which a descending tip met the table: where the force (upwards, [N]) begins, by a line through it.

    heights, forces: (N,) in the order measured. CalibrationError when the force never rises.
    """
    pressing = forces > least_n
    if not pressing.any():
        raise CalibrationError(f"no contact was felt: at most {forces.max():.1f} N, {least_n:g} N count as contact")
    first = int(np.argmax(pressing))
    z, f = heights[first:], forces[first:]
    if len(z) < 3 or float(np.ptp(z)) < 1e-5:  # it came at once: between the sample before and the first one
        return float(heights[max(0, first - 1) : first + 1].mean())
    slope, offset = np.polyfit(f, z, 1)
    stiff = min(float(offset), float(heights[max(0, first - 1)]))
    return float(np.clip(offset, z.min(), stiff + 0.001)) if slope < 0.0 else float(z[0])


def depth_points(
    depth: Depth, intrinsics: Intrinsics, T_base_camera: Pose, low: Array, high: Array, *, near: float, within: float
) -> Array:
    """Points (N, 3) in base that a depth picture [mm] has over the box low..high (2,) and `within` of a height [m].

    CalibrationError when there are hardly any.
    """
    rows, columns = np.nonzero(depth)
    z = depth[rows, columns] * 1e-3
    rays = np.column_stack([(columns - intrinsics.cx) / intrinsics.fx, (rows - intrinsics.cy) / intrinsics.fy])
    points = T_base_camera.apply(np.column_stack([rays * z[:, None], z]))
    inside = ((points[:, :2] > low) & (points[:, :2] < high)).all(axis=1) & (abs(points[:, 2] - near) < within)
    if inside.sum() < _MIN_DEPTH_PIXELS:
        raise CalibrationError(
            f"depth shows the table in {int(inside.sum())} pixels only: is the hand-eye in force this camera's?"
        )
    return points[inside]
