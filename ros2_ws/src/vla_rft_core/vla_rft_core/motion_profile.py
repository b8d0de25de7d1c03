"""MotionProfile: how the arm's own controller moves it in one set-up: caps, impedance, contact limits, gripper speed.

Beside the safety profile, which limits what is asked of the arm, this is handed to the arm itself each time its motion
mode is entered. Knows nothing of a vendor's library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vla_rft_core import config

Six = tuple[float, float, float, float, float, float]

MIN_DAMPING, MAX_DAMPING = 0.3, 0.8
"""Damping ratios that the arm's controller accepts."""


@dataclass(frozen=True, kw_only=True)
class MotionProfile:
    """Named settings of the Cartesian motion mode and the gripper. SI units; of six values three are linear."""

    name: str
    max_linear_velocity: float
    """Sent with every target [m/s]."""
    max_angular_velocity: float
    """[rad/s]"""
    max_linear_acceleration: float
    """[m/s^2]"""
    max_angular_acceleration: float
    """[rad/s^2]"""
    stiffness: Six
    """Of the tcp [N/m], [Nm/rad]; not above the arm's nominal stiffness."""
    damping: Six = (0.7, 0.7, 0.7, 0.7, 0.7, 0.7)
    """Damping ratios, 0.3 to 0.8."""
    max_contact_wrench: Six
    """What the arm may press with [N], [Nm]."""
    tool: str = ""
    """The controller's tool to switch to; empty keeps the active one. Either is compared with the spec."""
    gripper: str
    """The gripper's device name on the controller."""
    gripper_speed: float
    """Of the fingers [m/s]; brought into the gripper's own range."""
    gripper_force: float
    """Largest force of the fingers [N]; brought into the gripper's own range."""
    gripper_init_s: float = 10.0
    """How long the fingers' initialisation takes at least; the gripper does not tell [s]."""
    zero_max_joint_speed: float = 0.02
    """The force sensor is zeroed only while every joint is slower [rad/s]."""
    zero_max_force: float = 15.0
    """... and less is sensed at the tcp [N]; a sensor that was never zeroed reads a few newtons with nothing there."""
    zero_max_torque: float = 5.0
    """[Nm]"""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: must be positive and finite, got {value}")
        for name in ("stiffness", "max_contact_wrench"):
            if not all(math.isfinite(value) and value > 0.0 for value in getattr(self, name)):
                raise ValueError(f"{name}: values must be positive and finite, got {list(getattr(self, name))}")
        if not all(MIN_DAMPING <= value <= MAX_DAMPING for value in self.damping):
            raise ValueError(f"damping: ratios must be {MIN_DAMPING} to {MAX_DAMPING}, got {list(self.damping)}")
        if not 0.0 <= self.gripper_init_s < math.inf:
            raise ValueError(f"gripper_init_s: must not be negative, got {self.gripper_init_s}")
        if not self.gripper:
            raise ValueError("gripper: the device name on the controller is needed, for example 'Flexiv-GN01'")

    @classmethod
    def load(cls, path: Path) -> MotionProfile:
        """From YAML; ValueError with one sentence naming the file and the field."""
        return config.load(cls, path)


_POSITIVE = (
    "max_linear_velocity",
    "max_angular_velocity",
    "max_linear_acceleration",
    "max_angular_acceleration",
    "gripper_speed",
    "gripper_force",
    "zero_max_joint_speed",
    "zero_max_force",
    "zero_max_torque",
)
