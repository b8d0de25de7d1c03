"""Checks of arm and gripper: found, Remote, no e-stop or fault, the spec's tool, where it stands, and its clock.

Nothing here clears, enables or moves anything: what READY will do is said, not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps

import numpy as np

from vla_rft_core.clock import seconds
from vla_rft_core.geometry import norm
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import CheckFunction, Found, check, green, red, yellow
from vla_rft_hardware.flexiv_faults import Response, fault_row
from vla_rft_hardware.flexiv_prepare import MASS_TOLERANCE, TCP_TOLERANCE_M

SOFTWARE = "3.11"
"""Robot software that the release notes of our RDK version name."""
MAX_AHEAD_S = 0.05
LARGE_OFFSET_S = 1.0
_FRESH_S = 0.1
"""Between two looks at the state."""
_UNKNOWN = "the driver does not say"
ESTOP = "ESTOP_NOT_RELEASED"

_LINES = {
    "ESTOP_NOT_RELEASED": "e-stop",
    "IN_MANUAL_MODE": "remote mode",
    "IN_AUTO_MODE": "remote mode",
    "MINOR_FAULT": "fault",
    "CRITICAL_FAULT": "fault",
}
"""States of the controller that have a line of their own."""


def _needs_robot(function: CheckFunction) -> CheckFunction:
    """The check, or one word when there is no robot to check."""

    @wraps(function)
    def guarded(bench: Bench) -> Found:
        return yellow("not checked: no robot") if bench.arm is None else function(bench)

    return guarded


def _robot_check(name: str) -> Callable[[CheckFunction], CheckFunction]:
    return lambda function: check(name)(_needs_robot(function))


def _status(bench: Bench) -> str:
    """The controller's operational status by the vendor's name, "" when the driver does not say."""
    return bench.arm_facts.get("status", "")


@check("robot")
def robot(bench: Bench) -> Found:
    """Found, and talking."""
    if bench.arm is None:
        if bench.simulated:
            words = bench.robot_problem.partition(" Please check")[0]  # the vendor's list is about real cables
            return red(f"no simulated world answers: {words}", "start `sim_world`, or name its socket with --address")
        return red(bench.robot_problem, "check serial, cable, subnet, Remote mode over Ethernet and the RDK licence")
    said = [bench.arm_facts[key] for key in ("model", "serial") if bench.arm_facts.get(key)]
    return green(" ".join(said) or "connected")


@_robot_check("robot software")
def software(bench: Bench) -> Found:
    """The controller's software, which must go with the RDK."""
    version = bench.arm_facts.get("software", "")
    if not version:
        return yellow(_UNKNOWN)
    if SOFTWARE not in version:
        return yellow(version, f"our RDK was released for v{SOFTWARE}: update the robot if calls fail")
    return green(version)


@_robot_check("remote mode")
def remote_mode(bench: Bench) -> Found:
    """Auto (Remote), or nothing is accepted."""
    status = _status(bench)
    if _LINES.get(status) == "remote mode":
        return red(fault_row(status).meaning, fault_row(status).action)
    return green("Auto (Remote)") if status else yellow(_UNKNOWN)


@_robot_check("e-stop")
def estop(bench: Bench) -> Found:
    """Released; that it *works* is tried by hand, see docs/bringup.md."""
    status, said = _status(bench), bench.arm_facts.get("emergency stop", "")
    if status == ESTOP or said == "pressed":
        return red(fault_row(ESTOP).meaning, fault_row(ESTOP).action)
    return green("released") if status or said else yellow(_UNKNOWN)


@_robot_check("fault")
def fault(bench: Bench) -> Found:
    """None; its cause needs a person before READY clears it."""
    assert bench.arm is not None
    status = _status(bench)
    if _LINES.get(status) == "fault":
        return red(bench.arm_facts.get("fault") or fault_row(status).meaning, fault_row(status).action)
    if words := "" if status else bench.arm.state().fault:
        return red(words, "look at Elements' log, remove the cause, then ask for READY")
    return green("none")


@_robot_check("controller")
def controller(bench: Bench) -> Found:
    """The state it is in, and whether READY can go on from there."""
    status = _status(bench)
    if not status:
        return yellow(_UNKNOWN)
    row = fault_row(status)
    words = f"{status}: {row.meaning}"
    if status in _LINES:
        return yellow(words, f"see the line `{_LINES[status]}`")
    if row.response in (Response.NONE, Response.RECOVER):
        return green(words)
    return red(words, row.action)


@_robot_check("f/t zero")
def force_torque_zero(bench: Bench) -> Found:
    """Zeroed in this connection; READY does it, and only then can it be wrong."""
    if bench.arm_facts.get("force sensor zeroed") == "yes":
        return green("zeroed in this connection")
    return yellow("not yet; will be done at READY", "see that nothing touches the tool then")


@_robot_check("tool")
def tool(bench: Bench) -> Found:
    """Name, tcp and mass of the controller's active tool against the spec."""
    spec, said = bench.cell.spec.tool, bench.arm_facts
    name, tcp, weight = (said.get(key, "") for key in ("tool", "tool tcp", "tool mass"))
    if not (tcp and weight):
        return yellow(f"{_UNKNOWN}; READY compares it with {spec.name}")
    mass = float(weight.split()[0])
    off_m = norm(np.array([float(word) for word in tcp.split()[:3]]) - spec.tcp_position)
    words = f"{name or 'tool'}: tcp {1e3 * off_m:.1f} mm off the spec, {mass:.3f} of {spec.mass:.3f} kg"
    if off_m > TCP_TOLERANCE_M or abs(mass - spec.mass) > MASS_TOLERANCE * spec.mass:
        return red(words, f"select {spec.name} in Elements while the arm is idle, or correct the cell's spec.yaml")
    return green(words)


@_robot_check("gripper")
def gripper(bench: Bench) -> Found:
    """Enabled and initialised, or READY will do it."""
    said = bench.gripper_facts.get("gripper", "")
    if not said:
        return yellow(_UNKNOWN)
    if "not initialised" in said:
        return yellow(f"{said} yet; will be done at READY", "keep hands off: its fingers move then")
    return green(said)


@_robot_check("gripper limits")
def gripper_limits(bench: Bench) -> Found:
    """The safety profile's widths lie within what the gripper says it can do."""
    said, profile = bench.gripper_facts.get("gripper limits", ""), bench.cell.safety
    asked = f"the safety profile allows {1e3 * profile.min_width:.0f} to {1e3 * profile.max_width:.0f} mm"
    if not said:
        return yellow(f"told once it is enabled, at READY; {asked}")
    low, high = (float(word) for word in said.replace(" to ", " ").split()[:2])
    words = f"{1e3 * low:.0f} to {1e3 * high:.0f} mm; {asked}"
    slack = profile.width_deadband
    if profile.min_width < low - slack or profile.max_width > high + slack:
        return red(words, "narrow min_width and max_width in the cell's safety.yaml")
    return green(words)


@_robot_check("robot state")
def state(bench: Bench) -> Found:
    """New states keep coming, stamped with this computer's time."""
    assert bench.arm is not None
    first = bench.arm.state()
    time.sleep(_FRESH_S)
    second, now_ns = bench.arm.state(), bench.clock.realtime_ns()
    age_s = seconds(now_ns - second.stamp_ns)
    if seconds(second.stamp_ns - first.stamp_ns) < 0.5 * _FRESH_S:  # mapped stamps of one state differ by a hair
        return red(
            f"the same state twice within {_FRESH_S:g} s, {age_s:.1f} s old",
            "restart the controller; look at its network cable",
        )
    words = f"{1e3 * age_s:.0f} ms old"
    if not -MAX_AHEAD_S <= age_s <= bench.cell.safety.max_state_age:
        return red(f"{words} by its stamp", "let this computer's clock settle (chrony), then connect again")
    return green(words)


@_robot_check("robot clock")
def robot_clock(bench: Bench) -> Found:
    """How far the controller's clock is from ours; states are stamped with ours, so this is for its event log."""
    said = bench.arm_facts.get("clock offset", "")
    if not said:
        return yellow(_UNKNOWN)
    offset_s = float(said.split()[0])
    words = f"this computer is {offset_s:+.3f} s from it; stamps are mapped"
    if abs(offset_s) > LARGE_OFFSET_S:
        return yellow(words, "set the controller's time (PTP), so that its event log can be compared with ours")
    return green(words)


@_robot_check("where it stands")
def pose(bench: Bench) -> Found:
    """Joints within their soft limits and tcp inside the workspace: outside, motion latches at once."""
    assert bench.arm is not None
    measured, profile = bench.arm.state(), bench.cell.safety
    low, high = np.array(profile.joint_low), np.array(profile.joint_high)
    beyond = [f"joint {i + 1}" for i in np.flatnonzero((measured.q < low) | (measured.q > high))]
    if beyond:
        return red(f"{', '.join(beyond)} past the soft limit", "move it back in Elements' manual mode")
    position = measured.T_base_tcp.position
    outside = np.maximum(np.array(profile.workspace_low) - position, position - np.array(profile.workspace_high))
    words = f"tcp at ({', '.join(f'{value:.3f}' for value in position)}) m"
    if float(outside.max()) > profile.workspace_slack:
        remedy = "jog it into the workspace of the cell's safety.yaml in Elements' manual mode"
        return red(f"{words}, {1e3 * float(outside.max()):.0f} mm outside the workspace", remedy)
    return green(f"{words}, inside the workspace")
