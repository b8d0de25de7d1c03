"""Is the object where the trial must begin? A ghost of the required start over the live picture, and a score.

The required outline is projected with the cell's calibration, so no photograph is needed. The object is seen as what
differs in colour from the table around it; that needs an object of another colour than its table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_rft_core.geometry import Pose
from vla_rft_trials.placements import Placement

Picture = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""
Mask = NDArray[np.uint8]
"""uint8 [H, W], 255 inside."""

_TABLE_RING = 1.6
"""The table's colour is taken from around the required outline, within this many times its size."""
_DIFFERENT = 5.0
"""Distance from the table's colour, in robust deviations, from which a pixel is not table."""
_SMALLEST_DEVIATION = (12.0, 3.0, 3.0)
"""Of L, a, b: shadows change lightness, noise changes everything a little."""
_GHOST = (255, 64, 160)
_SEEN = (64, 255, 120)


@dataclass(frozen=True, kw_only=True)
class View:
    """One fixed camera: its picture's size, its lens without distortion, and where it is."""

    width: int
    height: int
    fx: float
    """[px]"""
    fy: float
    cx: float
    cy: float
    T_base_camera: Pose
    """Optical frame: z forward, x right, y down."""

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels (n, 2) of points (n, 3) in base [m]; ValueError for one behind the camera."""
        local = self.T_base_camera.inverse().apply(points)
        if (local[:, 2] <= 0.0).any():
            raise ValueError("the placement lies behind the camera")
        return np.stack(
            [self.fx * local[:, 0] / local[:, 2] + self.cx, self.fy * local[:, 1] / local[:, 2] + self.cy], axis=1
        )


@dataclass(frozen=True)
class SceneMatch:
    """How alike the scene is to the required start."""

    overlap: float
    """Intersection over union of the outlines, 0..1; 0 when nothing is seen."""
    move_px: tuple[float, float]
    """From where it is to where it has to be: right, down [px]."""
    turn_deg: float
    """... and clockwise in the picture [deg]."""
    seen: bool

    def __str__(self) -> str:
        """ "overlap 0.91; move 12 px right, 3 px up; turn 4 deg clockwise" """
        if not self.seen:
            return "nothing is seen that differs from the table"
        right, down = self.move_px
        parts = [f"overlap {self.overlap:.2f}"]
        if max(abs(right), abs(down)) >= 1.0:
            sideways = f"{abs(right):.0f} px {'right' if right > 0 else 'left'}"
            parts.append(f"move {sideways}, {abs(down):.0f} px {'down' if down > 0 else 'up'}")
        if abs(self.turn_deg) >= 1.0:
            parts.append(f"turn {abs(self.turn_deg):.0f} deg {'' if self.turn_deg > 0 else 'counter-'}clockwise")
        return "; ".join(parts)


def required_mask(placement: Placement, size_m: tuple[float, float], view: View, *, table_z: float = 0.0) -> Mask:
    """Where the object has to be in the picture: its flat rectangle (along, across [m]) at `table_z` in base [m]."""
    along, across = (0.5 * side for side in size_m)
    cosine, sine = math.cos(placement.yaw), math.sin(placement.yaw)
    corners = np.array([(-along, -across), (along, -across), (along, across), (-along, across)])
    turned = corners @ np.array([(cosine, sine), (-sine, cosine)]) + (placement.x, placement.y)
    pixels = view.project(np.column_stack([turned, np.full(4, table_z)]))
    mask = np.zeros((view.height, view.width), np.uint8)
    cv2.fillConvexPoly(mask, np.round(pixels).astype(np.int32), 255)
    return mask


def seen_mask(picture: Picture, required: Mask) -> Mask:
    """The object as seen, near where it has to be; all 0 when nothing differs from the table."""
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, (5, 5), 0), cv2.COLOR_RGB2LAB).astype(np.float32)
    size = math.sqrt(float(np.count_nonzero(required)))
    near = _grown(required, _TABLE_RING * size)
    ring = (near > 0) & (_grown(required, 0.2 * size) == 0)
    if not ring.any():
        return np.zeros_like(required)
    middle = np.median(lab[ring], axis=0)
    deviation = 1.4826 * np.median(np.abs(lab[ring] - middle), axis=0)
    away = np.abs(lab - middle) / np.maximum(deviation, _SMALLEST_DEVIATION)
    different = ((away.max(axis=2) > _DIFFERENT) & (near > 0)).astype(np.uint8)
    different = cv2.morphologyEx(different, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    different = cv2.morphologyEx(different, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    return _best_piece(different, required)


def match(required: Mask, seen: Mask) -> SceneMatch:
    """Score and advice from the two outlines."""
    union = np.count_nonzero(required | seen)
    if not np.count_nonzero(seen) or not union:
        return SceneMatch(0.0, (0.0, 0.0), 0.0, False)
    overlap = np.count_nonzero(required & seen) / union
    (x0, y0, angle0), (x1, y1, angle1) = _pose(required), _pose(seen)
    turn = math.degrees(math.remainder(angle0 - angle1, math.pi))
    return SceneMatch(overlap, (x0 - x1, y0 - y1), turn, True)


def ghost(picture: Picture, required: Mask, seen: Mask) -> Picture:
    """The live picture with the required start laid over it: half transparent, outlined; what is seen outlined, too."""
    shown = picture.copy()
    inside = required > 0
    shown[inside] = (0.5 * shown[inside] + 0.5 * np.array(_GHOST)).astype(np.uint8)
    for mask, colour in ((required, _GHOST), (seen, _SEEN)):
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(shown, contours, -1, colour, 2, cv2.LINE_AA)
    return shown


def _grown(mask: Mask, pixels: float) -> Mask:
    reach = max(1, round(pixels))
    away = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 3)
    return np.where(away <= reach, 255, 0).astype(np.uint8)


def _best_piece(different: Mask, required: Mask) -> Mask:
    """The connected piece that overlaps most with where it has to be; the largest one where none overlaps."""
    contours, _ = cv2.findContours(different, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    smallest = 0.02 * np.count_nonzero(required)
    pieces = []
    for contour in contours:
        piece = np.zeros_like(required)
        cv2.drawContours(piece, [contour], -1, 255, cv2.FILLED)
        area = np.count_nonzero(piece)
        if area >= smallest:
            pieces.append((np.count_nonzero(piece & required), area, piece))
    return max(pieces, key=lambda p: p[:2])[2] if pieces else np.zeros_like(required)


def _pose(mask: Mask) -> tuple[float, float, float]:
    """Middle [px] and direction [rad] of an outline, from its moments."""
    moments = cv2.moments(mask, binaryImage=True)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    angle = 0.5 * math.atan2(2.0 * moments["mu11"], moments["mu20"] - moments["mu02"])
    return x, y, angle
