"""The vendor's calls as the robot answers them: which mode each needs, which values, what it says otherwise.

One `RdkSession` per connection of the stand-in (`rdk`), inside `sim_world`. Calls are named `Robot.Stop`, their
arguments and results are JSON. A call that blocks is a generator that yields how long to block [s]; Send… calls do not
wait for the world. ValueError and RuntimeError carry the library's own texts. Knows no sockets.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from vla_rft_sim import rdk_settings
from vla_rft_sim.box import AUTO_RECOVERY_S, CARTESIAN_MODES, CLEARING_S, JOINT_MODES
from vla_rft_sim.controller import MotionCaps
from vla_rft_sim.rdk_device_calls import DELIVERY_S, Blocking, DeviceCalls
from vla_rft_sim.rdk_report import actions, info, report
from vla_rft_sim.rdk_tools import pose_from_wxyz

SERIAL = "Rizon4s-000001"
"""The simulated robot's serial number."""
SWITCHING_S, LOADING_S = 0.2, 0.1
GIL_STALL_S = 3.0
PLANS = ("PLAN-Home",)
PRIMITIVES = ("ZeroFTSensor", "Home", "Hold")
_POLL_S = 0.005


class RdkSession(DeviceCalls):
    """What one connection asks of the box, gripper and tools included."""

    def begin(self, name: str, arguments: list[Any]) -> Any:
        """The result of a call, or the generator of one that blocks."""
        self._class, _, self._call = name.partition(".")
        if self._class == "Robot" and self._call in rdk_settings.SETTERS:
            return self._set(self._call, arguments)
        method = getattr(self, f"{self._class}_{self._call}", None)
        if self._class not in ("Robot", "Gripper", "Tool") or method is None:
            raise ValueError(f"the library has no call {name!r}")
        return method(*arguments)

    # --- Robot: connection and status --------------------------------------------------------------------------------

    def Robot_connect(self) -> dict[str, Any]:
        """A normal instance was made: its events start now, and the sensor is to be zeroed in this session."""
        self._first_event = len(self.box.events)
        self.box.ft_zeroed = False
        return info(SERIAL)

    def Robot_report(self) -> dict[str, Any]:
        """All non-blocking getters at once."""
        return report(self.box, *self._read())

    def Robot_actions(self) -> dict[str, Any]:
        return actions(self.box)

    def Robot_event_log(self) -> list[dict[str, Any]]:
        return [asdict(event) for event in self.box.events[self._first_event :]]

    def Robot_Enable(self) -> Blocking:
        if "estop" in self.box.injected:
            raise RuntimeError(self._text("E-stop is not released"))
        yield from self._delivered()
        self.box.enable()

    def Robot_ClearFault(self, timeout_sec: int) -> Blocking:
        fault, needed_s = self.box.fault, CLEARING_S.get(self.box.fault, 0.0)
        possible = not self.box.recovering and needed_s <= timeout_sec
        yield self._scaled(min(timeout_sec, CLEARING_S["critical"]) if not possible else needed_s)
        return self.box.clear() if possible and self.box.fault == fault else False

    def Robot_RunAutoRecovery(self) -> Blocking:
        if not self.box.recovering:
            return
        yield self._scaled(AUTO_RECOVERY_S)

    def Robot_Stop(self) -> Blocking:
        self.box.stop()
        yield self.box.world.controller.stopping_time
        while self.box.moving:
            yield _POLL_S

    def Robot_SwitchMode(self, mode: str) -> Blocking:
        if mode in ("UNKNOWN", "???"):
            self._refuse_value("Invalid control mode input")
        self._require_operational()
        yield from self.Robot_Stop()
        yield self._scaled(SWITCHING_S)
        if self.box.operational:
            self.box.enter(mode)
        if self.box.mode != mode:
            raise RuntimeError(f"[flexiv::rdk::Robot::SwitchMode] Failed to switch control mode to [{mode}]")

    def Robot_Brake(self, engage: bool) -> None:
        raise RuntimeError(self._text("This function is only available to medical robots"))

    # --- Robot: motion -----------------------------------------------------------------------------------------------

    def Robot_SendCartesianMotionForce(self, pose: list[float], wrench: Any, velocity: Any, *caps: float) -> None:
        self._require_operational()
        self._require_mode(*CARTESIAN_MODES)
        target, motion_caps = pose_from_wxyz(pose), self._caps(caps)
        self._post(lambda: self.box.go(target, motion_caps))

    def Robot_SendMultiCartesianMotionForce(self, commands: list[dict[str, Any]], joints: list[list[float]]) -> None:
        self._require_operational()
        self._require_mode("NRT_SUPER_PRIMITIVE")
        for name, given in (("cart_cmds", commands), ("joint_pos", joints)):
            if not given:
                self._refuse_value(f"Input parameter [{name}] cannot be empty")
        if len(commands) != len(joints):
            self._refuse_value("[cart_cmds] and [joint_pos] must contain the same number of waypoints")
        if any(len(q) != 7 for q in joints):
            self._refuse_value("Each joint position vector in [joint_pos] must contain 7 elements")
        if any(command["duration"] < 0.0 for command in commands):
            self._refuse_value("Input parameter [duration] cannot be negative")
        waypoints = [(pose_from_wxyz(command["pose_d"]), self._caps(command["caps"])) for command in commands]
        self._post(lambda: self.box.go_along(waypoints))

    def _caps(self, values: Any) -> MotionCaps:
        if not all(value > 0.0 for value in values):
            names = "max_linear_vel, max_angular_vel, max_linear_acc, max_angular_acc"
            self._refuse_value(f"Input parameters [{names}] must be greater than 0")
        linear_velocity, angular_velocity, linear_acceleration, angular_acceleration = values
        return MotionCaps(
            linear_velocity=linear_velocity,
            angular_velocity=angular_velocity,
            linear_acceleration=linear_acceleration,
            angular_acceleration=angular_acceleration,
        )

    def Robot_SendJointPosition(self, *vectors: list[float]) -> None:
        self._require_operational()
        self._require_mode(*JOINT_MODES)
        for name, vector in zip(("positions", "velocities", "max_vel", "max_acc"), vectors, strict=True):
            if len(vector) != 7:
                self._refuse_value(f"Size of input vector [{name}] does not match robot DoF")
        positions, _, max_vel, max_acc = vectors
        if not all(value > 0.0 for value in (*max_vel, *max_acc)):
            self._refuse_value("Input parameters [max_vel] and [max_acc] must be greater than 0")
        self._post(lambda: self.box.go_joints(np.array(positions), np.array(max_vel), np.array(max_acc)))

    def _set(self, call: str, arguments: list[Any]) -> Blocking:
        """A setter of `rdk_settings`: allowed modes, valid values, and what is kept until the mode is entered again."""
        setter = rdk_settings.SETTERS[call]
        if setter.modes:
            self._require_mode(*setter.modes)
        problem = setter.check(self.box.settings, *arguments)
        if problem:
            self._refuse_value(problem)
        settings = self.box.settings
        yield from self._delivered()
        settings[call] = arguments
        if call == "SetNullSpacePosture" and settings is self.box.settings:
            self.box.world.controller.posture = np.array(arguments[0])

    # --- Robot: primitives and plans ---------------------------------------------------------------------------------

    def Robot_ExecutePrimitive(self, name: str, parameters: dict[str, Any], block_until_started: bool) -> Blocking:
        self._require_operational()
        self._require_mode("NRT_PRIMITIVE_EXECUTION")
        if name not in PRIMITIVES:
            raise RuntimeError(self._text("Failed to deliver the request"))
        yield self._scaled(LOADING_S if block_until_started else DELIVERY_S)
        self.box.start_primitive(name)

    def Robot_primitive_states(self) -> Blocking:
        yield from self._delivered()
        return self.box.primitive_states()

    def Robot_ExecutePlan(self, plan: int | str, continue_exec: bool, block_until_started: bool) -> Blocking:
        self._require_operational()
        self._require_mode("NRT_PLAN_EXECUTION")
        if isinstance(plan, int) and not 0 <= plan < len(PLANS):
            self._refuse_value("Input parameter [index] is outside the valid range")
        if isinstance(plan, str) and plan not in PLANS:
            raise RuntimeError(self._text("Failed to deliver the request"))
        yield self._scaled(LOADING_S if block_until_started else DELIVERY_S)
        self.box.start_primitive("Home")

    def Robot_PausePlan(self, toggle: bool) -> Blocking:
        """Internal plans, and there are no others here, can be paused but not resumed."""
        self._require_mode("NRT_PLAN_EXECUTION")
        yield from self._delivered()
        if not toggle:
            raise RuntimeError("[flexiv::rdk::Robot::PausePlan] Failed to execute resume request")
        self.box.enter("NRT_PLAN_EXECUTION")

    def Robot_StopPlan(self) -> Blocking:
        self._require_mode("NRT_PLAN_EXECUTION")
        yield from self._delivered()
        self.box.enter("NRT_PLAN_EXECUTION")

    def Robot_plan_list(self) -> Blocking:
        yield from self._delivered()
        return list(PLANS)

    def Robot_plan_info(self) -> Blocking:
        self._require_mode("NRT_PLAN_EXECUTION")
        yield from self._delivered()
        running = self.box.primitive is not None
        return {"assigned_plan_name": PLANS[0], "pt_name": "Home", "velocity_scale": 100.0} if running else {}

    def Robot_SetGlobalVariables(self, variables: dict[str, Any]) -> None:
        if not variables:
            self._refuse_value("Input map [global_vars] is empty")
        self._refuse_value(f"The specified global variable [{next(iter(variables))}] does not exist")
