"""The towel as numbers: where it starts, and from its vertices how well it is folded. Pure functions, no physics.

A vertex array has shape (nx, ny, 3) in base [m]: nx along the towel's long side, ny along its short side. Folded in
half means: vertex (i, j) lies on vertex (nx - 1 - i, j).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from vla_rft_core.geometry import Array

LENGTH_M, WIDTH_M = 0.28, 0.196
AREA_RATIO_RANGE = (0.42, 0.62)
MAX_EDGE_GAP_M = 0.045
MAX_MIRRORED_GAP_M = 0.03
MAX_HEIGHT_M = 0.07
MIDDLE_M, SPREAD_M = (0.5, 0.0), 0.05
"""Where the middle of a drawn towel lies: within so much of this, along x and along y [m]."""
_PIXEL_M = 0.002

SUCCESS: Mapping[str, str] = {
    "area": f"the towel covers {AREA_RATIO_RANGE[0]:.0%} to {AREA_RATIO_RANGE[1]:.0%} of its flat area",
    "edge gap": f"the short sides are less than {100 * MAX_EDGE_GAP_M:g} cm apart",
    "mirrored gap": f"the halves lie on each other within {100 * MAX_MIRRORED_GAP_M:g} cm",
    "height": f"no part is higher than {100 * MAX_HEIGHT_M:g} cm",
    "let go": "the fingers hold nothing",
}
"""What `judge` asks for, in words."""


@dataclass(frozen=True)
class Placement:
    """Where the towel's middle lies in base [m], the direction of its long side [rad], and the seed it came from."""

    x: float
    y: float
    yaw: float
    seed: int

    def __str__(self) -> str:
        return f"x {self.x:.3f} m, y {self.y:+.3f} m, yaw {math.degrees(self.yaw):.0f} deg"


def draw(seed: int) -> Placement:
    """The placement of a seed: x 0.5 ± 0.05 m, y ± 0.05 m, yaw 90 ± 15 degrees, uniform."""
    x, y, yaw = np.random.default_rng(seed).uniform(-1.0, 1.0, 3)
    (middle_x, middle_y), spread = MIDDLE_M, SPREAD_M
    yaw = math.radians(90.0 + 15.0 * float(yaw))
    return Placement(middle_x + spread * float(x), middle_y + spread * float(y), yaw, seed)


def flat(placement: Placement, shape: tuple[int, int], z: float) -> Array:
    """Vertices (nx, ny, 3) of a towel lying flat at height z."""
    along = np.linspace(-0.5 * LENGTH_M, 0.5 * LENGTH_M, shape[0])[:, None]
    across = np.linspace(-0.5 * WIDTH_M, 0.5 * WIDTH_M, shape[1])[None, :]
    cosine, sine = math.cos(placement.yaw), math.sin(placement.yaw)
    vertices = np.empty((*shape, 3))
    vertices[..., 0] = placement.x + cosine * along - sine * across
    vertices[..., 1] = placement.y + sine * along + cosine * across
    vertices[..., 2] = z
    return vertices


@dataclass(frozen=True, eq=False)
class TowelTruth:
    """What only a simulator knows about the towel.

    corners: (4, 3) in base [m], in order around the towel: (0, 0), (nx-1, 0), (nx-1, ny-1), (0, ny-1), so that
    corners 0-3 and 1-2 are the short sides. grasped_vertices: how many the fingers hold.
    """

    corners: Array
    grasped_vertices: int
    edge_gap: float
    """Mean distance between the two short sides [m]."""
    mirrored_gap: float
    """Mean horizontal distance between vertices that a perfect fold puts on each other [m]."""
    area_ratio: float
    """Covered area of the table over the flat towel's."""
    max_height: float
    """Of any vertex over the table [m]."""
    success: bool
    """Folded in half, let go, and lying down."""


def edge_gap(vertices: Array) -> float:
    """Mean distance [m] between the two short sides, vertex by vertex."""
    return float(np.linalg.norm(vertices[0] - vertices[-1], axis=-1).mean())


def mirrored_gap(vertices: Array) -> float:
    """Mean horizontal distance [m] between the vertices of one half and their mirror images in the other."""
    half = vertices.shape[0] // 2
    apart = vertices[:half, :, :2] - vertices[::-1][:half, :, :2]
    return float(np.linalg.norm(apart, axis=-1).mean())


def area_ratio(vertices: Array) -> float:
    """Area of the towel's shadow on the table over its flat area, counted on a grid of 2 mm."""
    points = vertices[..., :2]
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    pixels = ((points - low) * (16.0 / _PIXEL_M)).astype(np.int32)
    columns, rows = (int(n) + 2 for n in (high - low) / _PIXEL_M)
    canvas = np.zeros((rows, columns), dtype=np.uint8)
    quads = np.stack([pixels[:-1, :-1], pixels[1:, :-1], pixels[1:, 1:], pixels[:-1, 1:]], axis=2).reshape(-1, 4, 2)
    for a, b, c, d in quads:
        cv2.fillConvexPoly(canvas, np.array([a, b, c]), 1, shift=4)
        cv2.fillConvexPoly(canvas, np.array([a, c, d]), 1, shift=4)
    return float(np.count_nonzero(canvas)) * _PIXEL_M**2 / (LENGTH_M * WIDTH_M)


def judge(vertices: Array, grasped_vertices: int) -> TowelTruth:
    """The truth about vertices (nx, ny, 3) of which the fingers hold some."""
    edge, mirrored, area = edge_gap(vertices), mirrored_gap(vertices), area_ratio(vertices)
    height = float(vertices[..., 2].max())
    success = (
        grasped_vertices == 0
        and AREA_RATIO_RANGE[0] < area < AREA_RATIO_RANGE[1]
        and edge < MAX_EDGE_GAP_M
        and mirrored < MAX_MIRRORED_GAP_M
        and height < MAX_HEIGHT_M
    )
    corners = np.array([vertices[0, 0], vertices[-1, 0], vertices[-1, -1], vertices[0, -1]])
    return TowelTruth(corners, grasped_vertices, edge, mirrored, area, height, success)
