"""Poses from which a board on the gripper is shown: they tilt to all sides, turn, and stay inside the safety limits.

Which of them the camera sees is found out on the way: a view without board is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_rft_core.geometry import Pose, quaternion_multiply, rotvec_to_quaternion
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.spec import RobotSpec

_GOLDEN = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True, kw_only=True)
class Showing:
    """Where the tcp goes to show the board. All in base."""

    center: tuple[float, float, float] = (0.54, 0.06, 0.24)
    """[m]; around here, with the tool straight down, the board must be in view."""
    reach: tuple[float, float, float] = (0.10, 0.16, 0.09)
    """To either side [m]."""
    tilt: float = 0.5
    """At most this far from straight down [rad]."""
    turn: float = 0.6
    """About the vertical, to either side [rad]."""


INTRINSICS_SHOWING = Showing(center=(0.59, 0.06, 0.22), reach=(0.14, 0.26, 0.12))
"""All over the image, near and far."""


def showing_poses(count: int, spec: RobotSpec, safety: SafetyProfile, showing: Showing | None = None) -> list[Pose]:
    """`count` tcp poses, spread evenly; the last one is the first again, so that a moved camera is noticed.

    ValueError when the workspace of the safety profile leaves no room for them.
    """
    showing = showing or Showing()
    low = np.array(safety.workspace_low) + 0.02
    high = np.array(safety.workspace_high) - 0.02
    low[2] = max(low[2], safety.table_height + 0.15)
    center = np.clip(showing.center, low, high)
    if (low >= high).any():
        raise ValueError(
            f"the workspace of {safety.name!r} leaves no room to show a board: {low.tolist()} to {high.tolist()}"
        )
    tilt = min(showing.tilt, safety.max_tilt - 0.1)
    down = spec.home.quaternion
    poses = [Pose(center, down)]
    for i in range(1, count - 1):
        share = (i - 0.5) / max(1, count - 2)
        offset = np.array([_halton(i, base) for base in (2, 3, 5)]) * 2.0 - 1.0
        position = np.clip(center + offset * showing.reach, low, high)
        about = _GOLDEN * i  # evenly to all sides
        lean = tilt * math.sqrt(0.15 + 0.85 * share)
        rotation = quaternion_multiply(rotvec_to_quaternion([lean * math.cos(about), lean * math.sin(about), 0.0]),
            rotvec_to_quaternion([0.0, 0.0, showing.turn * (2.0 * _halton(i, 7) - 1.0)]))  # fmt: skip
        poses.append(Pose(position, quaternion_multiply(rotation, down)))
    return [*_nearest_first(poses), poses[0]]


def _halton(index: int, base: int) -> float:
    """The index-th number of the low-discrepancy sequence of a base, in [0, 1)."""
    result, fraction = 0.0, 1.0
    while index > 0:
        fraction /= base
        result += fraction * (index % base)
        index //= base
    return result


def _nearest_first(poses: list[Pose]) -> list[Pose]:
    """The same poses in an order of short ways; a radian counts as 0.3 m."""
    ordered, left = [poses[0]], list(poses[1:])
    while left:
        ways = [(metres + 0.3 * radians, i) for i, (metres, radians) in enumerate(map(ordered[-1].distance_to, left))]
        ordered.append(left.pop(min(ways)[1]))
    return ordered
