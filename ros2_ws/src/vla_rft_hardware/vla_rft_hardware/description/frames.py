"""The frames of a cell that never move: flange to fingertips, base to cameras, world to base. Plain data.

Each frame has exactly one parent, and `urdf.py` draws the same fixed joints, so that TF and the URDF cannot disagree.
Knows neither ROS nor where the arm is: what moves is published from the controller's own measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_rft_core.calibration import Calibration
from vla_rft_core.cell import CellFolder
from vla_rft_core.geometry import Pose, quaternion_multiply, rotvec_to_quaternion
from vla_rft_core.spec import ToolSpec
from vla_rft_hardware.description import load_rizon4s

WORLD = "world"
ROOT = "base_link"
"""Root of the arm's links."""
BASE = "base"
"""Frame of every pose we publish; the same place as `base_link` and as the controller's world frame."""
FLANGE = "flange"
HAND = "grav_base_link"
"""The gripper's housing, screwed to the flange."""


@dataclass(frozen=True, eq=False)
class FixedFrame:
    """`child` expressed in `parent`: T_parent_child."""

    parent: str
    child: str
    pose: Pose


def origin_pose(xyz: list[float], rpy: list[float]) -> Pose:
    """A URDF origin: translation [m], and roll, pitch, yaw about fixed axes [rad]."""
    roll, pitch, yaw = (rotvec_to_quaternion([rpy[i] if j == i else 0.0 for j in range(3)]) for i in range(3))
    return Pose(xyz, quaternion_multiply(quaternion_multiply(yaw, pitch), roll))  # type: ignore[arg-type]


def pose_rpy(pose: Pose) -> tuple[float, float, float]:
    """Roll, pitch, yaw [rad] of a pose, as a URDF origin wants them."""
    m = pose.matrix()
    sine = min(1.0, max(-1.0, -float(m[2, 0])))
    if abs(sine) > 1.0 - 1e-12:  # roll and yaw turn about the same axis: all of it is called roll
        return math.atan2(sine * float(m[0, 1]), float(m[1, 1])), math.copysign(math.pi / 2, sine), 0.0
    return math.atan2(m[2, 1], m[2, 2]), math.asin(sine), math.atan2(m[1, 0], m[0, 0])


def arm_frames(tool: ToolSpec) -> tuple[FixedFrame, ...]:
    """The fixed frames of arm, gripper and tool: the tip is the spec's, the rest is the vendor's."""
    model = load_rizon4s()
    flange, hand = model["flange"], model["gripper_gn01"]
    T_flange_hand = origin_pose(hand["origin_xyz"], hand["origin_rpy"])
    return (
        FixedFrame(WORLD, ROOT, Pose.identity()),
        FixedFrame(ROOT, BASE, Pose.identity()),
        FixedFrame(flange["parent"], FLANGE, origin_pose(flange["origin_xyz"], flange["origin_rpy"])),
        FixedFrame(FLANGE, HAND, T_flange_hand),
        FixedFrame(HAND, tool.name, T_flange_hand.inverse().compose(tool.T_flange_tcp)),
    )


def camera_frames(calibration: Calibration) -> tuple[FixedFrame, ...]:
    """Where the calibrated cameras are: each colour optical frame (z forward, x right, y down) in base."""
    return tuple(
        FixedFrame(BASE, f"{mount.name}_color_optical_frame", mount.T_base_camera) for mount in calibration.cameras
    )


def cell_frames(cell: CellFolder) -> tuple[FixedFrame, ...]:
    """All that never moves in one cell."""
    return arm_frames(cell.spec.tool) + camera_frames(cell.calibration)
