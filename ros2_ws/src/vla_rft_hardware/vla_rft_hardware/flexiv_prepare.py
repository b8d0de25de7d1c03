"""The steps that make the arm ready to move, in order, each with its deadline and in words for the operator.

Clear fault, emergency stop, enable, operational, tool, force sensor, gripper, motion mode. Runs on an operator's
request only; knows nothing of targets and states published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_core.geometry import Pose, norm
from vla_rft_core.motion_profile import MotionProfile
from vla_rft_core.spec import ToolSpec
from vla_rft_hardware import flexiv_faults as faults
from vla_rft_hardware.flexiv_faults import FaultRow, Response, fault_row
from vla_rft_hardware.flexiv_link import FlexivLink

TCP_TOLERANCE_M = 0.001
TCP_TOLERANCE_RAD = 0.01
MASS_TOLERANCE = 0.05
"""Of the spec's mass."""
STILL_S, ZERO_S, MODE_S = 5.0, 10.0, 1.0
"""How long the arm may take to come to rest, the zeroing to end, and a new mode to be reported [s]."""
FORCE_SENSOR_NOT_ZEROED = 301004
"""The vendor's event id."""


def pose_from_rdk(values: Sequence[float]) -> Pose:
    """A vendor's pose x, y, z, qw, qx, qy, qz as ours (xyzw, normalised); DeviceError when it is none."""
    x, y, z, qw, qx, qy, qz = (float(value) for value in values)
    try:
        return Pose(np.array([x, y, z]), np.array([qx, qy, qz, qw]))
    except ValueError as error:
        raise DeviceError(f"the arm reports a pose that is none: {error}") from None


class Preparation:
    """Brings one arm from wherever it is to the Cartesian motion mode, or says in one sentence why not."""

    def __init__(self, link: FlexivLink, *, profile: MotionProfile, tool: ToolSpec, posture: tuple[float, ...]) -> None:
        self._link = link
        self._profile = profile
        self._tool = tool
        self._posture = [float(value) for value in posture]
        self._zeroed_session = 0
        self._events_at_zero = 0
        self._events_before = 0  # event log when the present run had cleared what there was

    def run(self, prepare_gripper: Callable[[], list[str]]) -> list[str]:
        """All steps, in words; DeviceError ends it at the first that fails."""
        steps = [] if self._link.connected else [self._link.reconnect()]
        steps += [self._clear_fault(), self._check_emergency_stop(), self._enable(), self._wait_operational()]
        steps += [*self._come_to_rest(), *self._switch_tool(), self._compare_tool(), self._zero_force_sensor()]
        steps += prepare_gripper()
        return [*steps, *self._enter_motion()]

    # --- to operational ---------------------------------------------------------------------------------------

    def _status(self) -> FaultRow:
        """The present status; DeviceError when it is one that only a person can end."""
        self._link.require_connected()
        row = fault_row(self._link.call("operational_status").name)
        if row.response in (Response.LOCKOUT, Response.OPERATOR):
            raise DeviceError(row.sentence())
        return row

    def _wait(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        if not self._link.wait(done, deadline_s):
            row = fault_row(self._link.call("operational_status").name)
            words = event_words(self._link, since=self._events_before)
            raise DeviceError(f"{what} took longer than {deadline_s:g} s; {row.sentence()}{words}")

    def _clear_fault(self) -> str:
        link = self._link
        self._wait(
            lambda: self._status().response is not Response.WAIT, faults.OPERATIONAL_S, "starting the controller"
        )
        if self._fault_gone():
            self._events_before = len(link.call("event_log"))
            return "fault: none"
        status = self._status().status
        words = event_words(link, since=0)
        if not link.call("ClearFault", int(faults.CLEAR_S)):
            raise DeviceError(
                f"the fault could not be cleared within {faults.CLEAR_S:g} s ({status}{words}): "
                "remove its cause; if it stays, power-cycle the control box"
            )
        self._wait(self._fault_gone, faults.FAULT_GONE_S, "seeing the cleared fault gone")
        self._events_before = len(link.call("event_log"))
        return f"fault: cleared ({status}{words})"

    def _fault_gone(self) -> bool:
        """Status and flag are reported with a delay, and not together."""
        return self._status().status not in ("MINOR_FAULT", "CRITICAL_FAULT") and not self._link.call("fault")

    def _check_emergency_stop(self) -> str:
        self._status()
        if not self._link.call("estop_released"):
            raise DeviceError(fault_row("ESTOP_NOT_RELEASED").sentence())
        return "emergency stop: released"

    def _enable(self) -> str:
        if self._status().status != "NOT_ENABLED":
            return "arm: was enabled already"
        self._link.call("Enable")
        self._wait(lambda: self._status().status != "NOT_ENABLED", faults.ENABLE_S, "enabling the arm")
        return "arm: enabled, releasing brakes"

    def _wait_operational(self) -> str:
        self._wait(lambda: self._status().response is not Response.WAIT, faults.OPERATIONAL_S, "becoming operational")
        self._require_operational()
        return "arm: operational"

    def _require_operational(self) -> None:
        row = self._status()
        if row.status != "READY":
            raise DeviceError(f"{row.sentence()}{event_words(self._link, since=self._events_before)}")

    # --- tool and force sensor --------------------------------------------------------------------------------

    def _come_to_rest(self) -> list[str]:
        """Whoever commanded the arm before us may have left it moving; tools change in IDLE only."""
        mode = self._link.call("mode")
        if mode == self._link.rdk.Mode.IDLE:
            return []
        self._link.call("Stop")
        return [f"arm: stopped, it was in {mode.name}"]

    def _switch_tool(self) -> list[str]:
        wanted, link = self._profile.tool, self._link
        if not wanted or link.call("Tool.name") == wanted:
            return []
        link.call("Tool.Switch", wanted)
        return [f"tool: switched to {wanted}"]

    def _compare_tool(self) -> str:
        link, spec = self._link, self._tool
        name = link.call("Tool.name")
        params = link.call("Tool.params")
        active = pose_from_rdk(params.tcp_location)
        metres, radians = spec.T_flange_tcp.distance_to(active)
        if metres > TCP_TOLERANCE_M or radians > TCP_TOLERANCE_RAD:
            raise DeviceError(
                f"tool {name!r} on the controller has its tcp at {_place(active)}, the spec's {spec.name!r} at "
                f"{_place(spec.T_flange_tcp)}: {metres * 1e3:.1f} mm and {radians:.3f} rad apart, "
                f"{TCP_TOLERANCE_M * 1e3:g} mm and {TCP_TOLERANCE_RAD:g} rad are allowed; correct one of them"
            )
        mass = float(params.mass)
        if not abs(mass - spec.mass) <= MASS_TOLERANCE * spec.mass:
            raise DeviceError(
                f"tool {name!r} on the controller weighs {mass:.3f} kg, the spec's {spec.name!r} {spec.mass:.3f} kg: "
                f"more than {MASS_TOLERANCE:.0%} apart; correct one of them"
            )
        return f"tool: {name} agrees with the spec's {spec.name} ({metres * 1e3:.2f} mm, {mass:.3f} kg)"

    @property
    def zeroed(self) -> bool:
        """The force sensor was zeroed in the present connection."""
        return self._zeroed_session == self._link.sessions

    def _zero_force_sensor(self) -> str:
        link = self._link
        if not link.call("info").has_FT_sensor:
            return "force sensor: none fitted"
        events = link.call("event_log")
        complaints = [event for event in events[self._events_at_zero :] if event.id == FORCE_SENSOR_NOT_ZEROED]
        if self.zeroed and not complaints:
            return "force sensor: zeroed before in this connection"
        self._require_still_and_free()
        link.call("SwitchMode", link.rdk.Mode.NRT_PRIMITIVE_EXECUTION)
        link.call("ExecutePrimitive", "ZeroFTSensor", {})
        self._wait(self._primitive_ended, ZERO_S, "zeroing the force sensor")
        self._zeroed_session, self._events_at_zero = link.sessions, len(events)
        force, _ = self._sensed()
        return f"force sensor: zeroed, {force:.1f} N left"

    def _primitive_ended(self) -> bool:
        self._require_operational()
        states = self._link.call("primitive_states")
        return bool(states.get("terminated", 0))

    def _sensed(self) -> tuple[float, float]:
        """Force [N] and torque [Nm] at the tcp."""
        wrench = np.array(self._link.call("states").ext_wrench_in_world, dtype=np.float64)
        return norm(wrench[:3]), norm(wrench[3:])

    def _require_still_and_free(self) -> None:
        profile, link = self._profile, self._link

        def fastest() -> float:
            return max(abs(float(speed)) for speed in link.call("states").dtheta)

        if not link.wait(lambda: fastest() <= profile.zero_max_joint_speed, STILL_S):
            raise DeviceError(
                f"the force sensor cannot be zeroed while the arm moves: {fastest():.3f} rad/s, "
                f"at most {profile.zero_max_joint_speed:g} rad/s are allowed"
            )
        force, torque = self._sensed()
        if not (force <= profile.zero_max_force and torque <= profile.zero_max_torque):
            raise DeviceError(
                f"the force sensor cannot be zeroed while something touches the tool: {force:.1f} N, {torque:.1f} Nm "
                f"(limits {profile.zero_max_force:g} N, {profile.zero_max_torque:g} Nm); free tool and gripper"
            )

    # --- motion mode ------------------------------------------------------------------------------------------

    def _enter_motion(self) -> list[str]:
        link, profile = self._link, self._profile
        nominal = [float(value) for value in link.call("info").K_x_nom]
        if any(wanted > allowed for wanted, allowed in zip(profile.stiffness, nominal, strict=True)):
            raise DeviceError(
                f"motion profile {profile.name!r} wants a stiffness of {list(profile.stiffness)}, more than the arm's "
                f"nominal {nominal} N/m, Nm/rad"
            )
        mode = link.rdk.Mode.NRT_CARTESIAN_MOTION_FORCE
        try:
            link.call("SwitchMode", mode)
            # All of this falls back to the vendor's defaults whenever the mode is entered.
            link.call("SetCartesianImpedance", list(profile.stiffness), list(profile.damping))
            link.call("SetMaxContactWrench", list(profile.max_contact_wrench))
            link.call("SetNullSpacePosture", self._posture)
        except ConnectionLostError:
            raise
        except DeviceError:
            self._require_operational()  # a fault says more than the refusal it caused
            raise
        self._wait(lambda: link.call("mode") == mode or self._status().status != "READY", MODE_S, "entering the mode")
        self._require_operational()
        return [
            f"mode: NRT_CARTESIAN_MOTION_FORCE with profile {profile.name}, at most "
            f"{profile.max_linear_velocity:g} m/s, {profile.max_angular_velocity:g} rad/s, "
            f"{profile.max_linear_acceleration:g} m/s^2, {profile.max_angular_acceleration:g} rad/s^2",
            f"impedance: {_values(profile.stiffness)} N/m and Nm/rad; contact: {_values(profile.max_contact_wrench)} "
            "N and Nm; null-space posture: home",
        ]


def event_words(link: FlexivLink, *, since: int) -> str:
    """ "; <newest error of the event log>" or nothing; `since` counts events that are known already."""
    for event in reversed(link.call("event_log")[since:]):
        if event.level.name in ("ERROR", "CRITICAL"):
            return f"; event {event.id}: {' '.join(str(event.description).split())}"
    return ""


def _place(pose: Pose) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in pose.position) + ") m"


def _values(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)
