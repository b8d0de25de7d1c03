"""SafetyProfile: the named limits of one set-up, from its cell folder. Recorded with every episode and trial."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from vla_rft_core import config

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Box:
    """An axis-aligned box in base [m]."""

    name: str
    low: Vector
    high: Vector

    def __post_init__(self) -> None:
        _require_ordered(self.low, self.high, f"box {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class SafetyProfile:
    """Limits for the tcp (base frame), the joints, the gripper and the freshness of inputs. SI units, radians."""

    name: str
    workspace_low: Vector
    """Set-points are clipped to this box [m]."""
    workspace_high: Vector
    workspace_slack: float = 0.02
    """How far the measured tcp may be outside before the arm latches [m]."""
    keep_out: tuple[Box, ...] = ()
    """Set-points inside are rejected."""
    table_height: float
    """z of the table in base [m]."""
    table_clearance: float
    """Set-points are clipped to at least this far above the table [m]."""
    max_step: float = 0.10
    """Between two targets of a chunk; beyond it the chunk is rejected [m]."""
    max_step_angle: float = 0.5
    """[rad]"""
    max_speed: float = 0.4
    """Of the set-point; clipped [m/s]."""
    max_angular_speed: float = 1.5
    """[rad/s]"""
    max_acceleration: float = 4.0
    """Of the set-point; clipped [m/s^2]."""
    max_angular_acceleration: float = 15.0
    """[rad/s^2]"""
    max_tilt: float = 0.6
    """Of the tool from straight down; beyond it the set-point is rejected [rad]."""
    max_lead: float = 0.05
    """Set-point to measured tcp; beyond it the arm latches [m]."""
    max_lead_angle: float = 0.3
    """[rad]"""
    min_width: float = 0.0
    """Gripper opening is clipped to this range [m]."""
    max_width: float = 0.1
    max_contact_force: float = 30.0
    """Measured external force; beyond it the arm latches [N]."""
    max_contact_torque: float = 8.0
    """[Nm]"""
    joint_low: tuple[float, ...]
    """Soft joint limits; outside the arm latches [rad]."""
    joint_high: tuple[float, ...]
    joint_margin: float = 0.05
    """Moving outwards this near to a limit latches [rad]."""
    joint_drift: float = 0.02
    """Joint speed that counts as moving [rad/s]."""
    max_chunk_age: float = 0.5
    """Stamp of a chunk to its arrival; older ones are rejected [s]."""
    max_targets: int = 128
    """Longest chunk accepted."""
    max_state_age: float = 0.2
    """Robot state older than this latches [s]."""
    max_servo_gap: float = 0.1
    """A servo loop that stood still longer drops what it played and holds [s]."""
    width_deadband: float = 0.005
    """Gripper width goes out only when it differs by more than this from the one sent last [m]."""
    width_rate: float = 5.0
    """At most this often [Hz]."""

    def __post_init__(self) -> None:
        _require_ordered(self.workspace_low, self.workspace_high, "workspace")
        _require_ordered(self.joint_low, self.joint_high, "joints")
        _require_ordered((self.min_width,), (self.max_width,), "width")
        for field in fields(self):
            value = getattr(self, field.name)
            if (field.name.startswith("max_") or field.name == "width_rate") and not value > 0:
                raise ValueError(f"{field.name}: must be positive, got {value}")
        for name in ("workspace_slack", "table_clearance", "joint_margin", "joint_drift", "width_deadband"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        floor = self.table_height + self.table_clearance
        if not floor < self.workspace_high[2]:
            raise ValueError(f"workspace: its top {self.workspace_high[2]:g} m is not above the table's {floor:g} m")

    @classmethod
    def load(cls, path: Path) -> SafetyProfile:
        """From YAML; ValueError with one sentence naming the file and the field."""
        return config.load(cls, path)


def _require_ordered(low: tuple[float, ...], high: tuple[float, ...], name: str) -> None:
    if len(low) != len(high) or any(not a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"{name}: low must be below high in every component, got {list(low)} and {list(high)}")
