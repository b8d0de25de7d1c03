"""Where things stand in the simulated cell, in the arm's base frame. The table's top is the plane z = 0."""

from __future__ import annotations

import numpy as np

from vla_rft_core.geometry import Array, Pose, matrix_to_quaternion


def looking_at(eye: tuple[float, float, float], point: tuple[float, float, float]) -> Pose:
    """T_base_camera of an upright camera at `eye` whose optical axis (+z; x right, y down) goes through `point`."""
    forward = np.subtract(point, eye)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return Pose(np.array(eye), matrix_to_quaternion(np.column_stack([right, np.cross(forward, right), forward])))


HOME_Q: Array = np.array([0.286399, 0.27683, 0.0, 2.247412, 0.0, 0.399786, 0.286399])
"""(7,) joint positions at home [rad]: tool straight down at (0.40, 0, 0.28) m, behind and above the towel."""
HOME_Q.flags.writeable = False

T_BASE_CAMERA = looking_at((1.06, 0.36, 0.58), (0.44, 0.0, 0.085))
"""The colour camera's optical frame: in front of the arm, beside its middle, looking back and down at the towel."""

MAX_WIDTH_M = 0.1
"""Opening of the GN01's fingers at the end of their stroke."""

TOOL_DOWN: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)
"""Quaternion xyzw of the tcp at home: z down, x back towards the arm; the fingers open along y."""
