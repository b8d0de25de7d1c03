"""The tools a controller box knows, and the pose of a tool's tcp. Numbers of the GN01 from the vendor's description."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_rft_core.geometry import Pose
from vla_rft_hardware.description import load_rizon4s
from vla_rft_sim.kinematics import FLANGE_TO_TCP_M

FLANGE = "Flange"
T_FLANGE_WORLD_TCP = Pose(np.array([0.0, 0.0, FLANGE_TO_TCP_M]), np.array([0.0, 0.0, 0.0, 1.0]))
"""What the simulated worlds call the tcp."""


@dataclass(frozen=True)
class ToolFacts:
    """One tool: mass [kg], centre of mass [m] in the flange's frame, inertia, tcp [m, wxyz] in the flange's frame."""

    mass: float = 0.0
    CoM: list[float] = field(default_factory=lambda: [0.0] * 3)
    inertia: list[float] = field(default_factory=lambda: [0.0] * 6)
    tcp_location: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    @property
    def T_flange_tcp(self) -> Pose:
        """The tcp in the flange's frame."""
        return pose_from_wxyz(self.tcp_location)


def gripper_name() -> str:
    """The GN01's name as a device, and as a tool."""
    return str(load_rizon4s()["gripper_gn01"]["device_name"])


def gn01_tool() -> ToolFacts:
    """The gripper as a tool, with the tcp of its closed fingers."""
    facts = load_rizon4s()["gripper_gn01"]
    return ToolFacts(
        mass=facts["mass"],
        CoM=[float(value) for value in facts["com"]],
        inertia=[float(facts["inertia"][key]) for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")],
        tcp_location=[0.0, 0.0, float(facts["tcp_closed_z"]), 1.0, 0.0, 0.0, 0.0],
    )


def pose_from_wxyz(values: list[float]) -> Pose:
    """The vendor's seven numbers as a pose; ValueError when they are none."""
    x, y, z, qw, qx, qy, qz = values
    return Pose(np.array([x, y, z]), np.array([qx, qy, qz, qw]))


def pose_to_wxyz(pose: Pose) -> list[float]:
    """A pose as the vendor's seven numbers."""
    qx, qy, qz, qw = pose.quaternion.tolist()
    return [*pose.position.tolist(), qw, qx, qy, qz]
