"""The vendor's setters: in which modes each may be called, which values it takes, and what it says otherwise.

Kept by the box until the mode is entered again. Also the limits that `info()` and `Gripper.params()` report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from vla_rft_hardware.description import load_rizon4s
from vla_rft_sim.box import CARTESIAN_MODES
from vla_rft_sim.layout import MAX_WIDTH_M

_IMPEDANCE = ("NRT_JOINT_IMPEDANCE",)
_PLAN = ("NRT_PLAN_EXECUTION",)
Check = Callable[..., str]
"""(settings in force, arguments…) -> what is wrong, empty when nothing is."""


@dataclass(frozen=True)
class Setter:
    """One setter; no modes: any."""

    modes: tuple[str, ...]
    check: Check


@cache
def arm_limits() -> dict[str, list[float]]:
    """The lists of `RobotInfo`: stiffness, position, velocity and torque limits."""
    facts = load_rizon4s()
    columns = {"q_min": "soft_lower", "q_max": "soft_upper", "dq_max": "velocity", "tau_max": "effort"}
    return {
        "K_x_nom": [float(value) for value in facts["nominal_stiffness"]["K_x_nom"]],
        "K_q_nom": [float(value) for value in facts["nominal_stiffness"]["K_q_nom_hint"]],
        **{name: [float(joint[column]) for joint in facts["joints"]] for name, column in columns.items()},
    }


@cache
def gripper_limits() -> dict[str, float]:
    """The numbers of `GripperParams`."""
    joint = load_rizon4s()["gripper_gn01"]["control_joint"]
    force = float(joint["effort"])
    return {
        **{"min_width": float(joint["lower"]), "max_width": MAX_WIDTH_M},
        **{"min_vel": 0.001, "max_vel": float(joint["velocity"]), "min_force": -force, "max_force": force},
    }


def _within(values: Iterable[float], lower: Iterable[float], upper: Iterable[float]) -> bool:
    return all(low <= value <= high for value, low, high in zip(values, lower, upper, strict=True))


def _anything(settings: dict[str, Any], *arguments: Any) -> str:
    return ""


def _outside(name: str) -> str:
    return f"Input parameter [{name}] contains value outside the valid range"


def _size(name: str, values: list[float]) -> str:
    return "" if len(values) == 7 else f"Size of input vector [{name}] does not match robot DoF"


def _cartesian_impedance(settings: dict[str, Any], K_x: list[float], Z_x: list[float]) -> str:
    if not _within(K_x, [0.0] * 6, arm_limits()["K_x_nom"]):
        return _outside("K_x")
    return "" if _within(Z_x, [0.3] * 6, [0.8] * 6) else _outside("Z_x")


def _joint_impedance(settings: dict[str, Any], K_q: list[float], Z_q: list[float]) -> str:
    Z_q = Z_q or [0.7] * 7
    problem = _size("K_q", K_q) or _size("Z_q", Z_q)
    if problem:
        return problem
    if not _within(K_q, [0.0] * 7, arm_limits()["K_q_nom"]):
        return _outside("K_q")
    return "" if _within(Z_q, [0.3] * 7, [0.8] * 7) else _outside("Z_q")


def _contact_wrench(settings: dict[str, Any], max_wrench: list[float]) -> str:
    return "" if all(value >= 0.0 for value in max_wrench) else "Input parameter [max_wrench] contains negative value"


def _per_joint(name: str, lower: list[float], upper: list[float]) -> Check:
    def check(settings: dict[str, Any], values: list[float]) -> str:
        return _size(name, values) or ("" if _within(values, lower, upper) else _outside(name))

    return check


def _objectives(settings: dict[str, Any], linear: float, angular: float, tracking: float) -> str:
    for name, value, lower in (
        ("linear_manipulability", linear, 0.0),
        ("angular_manipulability", angular, 0.0),
        ("ref_positions_tracking", tracking, 0.1),
    ):
        if not lower <= value <= 1.0:
            return f"Input parameter [{name}] is outside the valid range"
    return ""


def _force_axes(settings: dict[str, Any], enabled_axes: list[bool], max_linear_vel: list[float]) -> str:
    return "" if _within(max_linear_vel, [0.005] * 3, [2.0] * 3) else _outside("max_linear_vel")


def _force_frame(settings: dict[str, Any], root_coord: str, T_in_root: list[float]) -> str:
    return "" if root_coord in ("WORLD", "TCP") else "Input parameter [root_coord] is invalid"


def _velocity_scale(settings: dict[str, Any], percentage: int) -> str:
    return "" if 0 <= percentage <= 100 else "Input parameter [velocity_scale] cannot exceed 100%"


def _timeliness(settings: dict[str, Any], percentage: float) -> str:
    return "" if 0.0 <= percentage <= 100.0 else "Input parameter [percentage] is outside the valid range"


def _ports(settings: dict[str, Any], outputs: dict[str, bool]) -> str:
    valid = all(0 <= int(port) <= 17 for port in outputs)
    return "" if valid else "Input map contains port index outside the valid range"


_LIMITS = arm_limits()
SETTERS = {
    "SetCartesianImpedance": Setter(CARTESIAN_MODES, _cartesian_impedance),
    "SetMaxContactWrench": Setter(CARTESIAN_MODES, _contact_wrench),
    "SetNullSpacePosture": Setter(CARTESIAN_MODES, _per_joint("ref_positions", _LIMITS["q_min"], _LIMITS["q_max"])),
    "SetNullSpaceObjectives": Setter(CARTESIAN_MODES, _objectives),
    "SetForceControlAxis": Setter(CARTESIAN_MODES, _force_axes),
    "SetForceControlFrame": Setter(CARTESIAN_MODES, _force_frame),
    "SetJointImpedance": Setter(_IMPEDANCE, _joint_impedance),
    "SetMaxContactTorque": Setter(_IMPEDANCE, _per_joint("max_torques", [0.0] * 7, _LIMITS["tau_max"])),
    "SetJointInertiaScale": Setter(_IMPEDANCE, _per_joint("inertia_scales", [0.75] * 7, [1.0] * 7)),
    "SetPassiveForceControl": Setter(("IDLE",), _anything),
    "LockExternalAxes": Setter(("IDLE",), _anything),
    "SetBreakpointMode": Setter(_PLAN, _anything),
    "StepBreakpoint": Setter(_PLAN, _anything),
    "SetVelocityScale": Setter((*_PLAN, "NRT_PRIMITIVE_EXECUTION"), _velocity_scale),
    "SetTimelinessFailureLimit": Setter((), _timeliness),
    "SetDigitalOutputs": Setter((), _ports),
    "SyncWithPositioner": Setter((), _anything),
}
