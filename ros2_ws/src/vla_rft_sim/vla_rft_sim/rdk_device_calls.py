"""What every vendor's call shares, and the calls on gripper and tools; the robot's are in `rdk_calls`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict
from typing import Any, NoReturn

from vla_rft_core.types import ArmState, GripperState
from vla_rft_sim.box import ControllerBox
from vla_rft_sim.rdk_settings import gripper_limits
from vla_rft_sim.rdk_tools import FLANGE, ToolFacts, gripper_name

Blocking = Generator[float, None, Any]
"""A call that blocks: yields how long [s], returns the call's result."""

DELIVERY_S = 0.005
_STATUS_TEXTS = {
    **{"BOOTING": "System booting", "ESTOP_NOT_RELEASED": "E-Stop not released", "NOT_ENABLED": "Not enabled"},
    **{"RELEASING_BRAKE": "Releasing brakes", "MINOR_FAULT": "Minor fault occurred"},
    **{"CRITICAL_FAULT": "Critical fault occurred", "IN_REDUCED_STATE": "In reduced state"},
    **{"IN_RECOVERY_STATE": "In recovery state", "IN_MANUAL_MODE": "In Manual mode"},
}


class DeviceCalls:
    """Calls on a box; `read` gives the newest measurement, `post` runs a function between two steps of the world."""

    def __init__(
        self,
        box: ControllerBox,
        read: Callable[[], tuple[ArmState, GripperState]],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.box, self._read, self._post = box, read, post
        self._first_event = len(box.events)
        self._class = self._call = ""
        """Of the call that has just begun; a blocking call names itself."""

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _text(self, text: str) -> str:
        return f"[flexiv::rdk::{self._class}::{self._call}] {text}"

    def _require_operational(self) -> None:
        if not self.box.operational:
            reason = _STATUS_TEXTS.get(self.box.status, "Unknown status")
            raise RuntimeError(self._text(f"Robot is not operational: {reason}"))

    def _require_mode(self, *modes: str) -> None:
        if self.box.mode not in modes:
            only_idle = modes == ("IDLE",)
            raise RuntimeError(self._text(f"Robot is not in {'IDLE' if only_idle else 'an applicable control'} mode"))

    def _refuse_value(self, text: str) -> NoReturn:
        raise ValueError(self._text(text))

    def _scaled(self, duration_s: float) -> float:
        return duration_s * self.box.durations

    def _delivered(self) -> Blocking:
        yield self._scaled(DELIVERY_S)

    # --- Gripper -----------------------------------------------------------------------------------------------------

    def _require_gripper(self) -> None:
        if not self.box.fingers.name:
            raise RuntimeError(self._text("No gripper enabled"))

    def Gripper_Enable(self, name: str) -> Blocking:
        enabled = self.box.fingers.name
        if enabled:
            rest = "is currently enabled and needs to be disabled before another gripper can be enabled"
            raise RuntimeError(self._text(f"Gripper [{enabled}] {rest}"))
        if name != gripper_name():
            self._refuse_value(f"The specified gripper [{name}] does not exist")
        yield from self._delivered()
        if "gripper_not_enabled" in self.box.injected:
            raise RuntimeError("[flexiv::rdk::Gripper::Enable] Failed to deliver the request")
        self.box.fingers.name = name

    def Gripper_Disable(self) -> Blocking:
        self._require_gripper()
        yield from self._delivered()
        self.box.fingers.name = ""

    def Gripper_Init(self) -> Blocking:
        self._require_gripper()
        yield from self._delivered()
        self.box.initialise_gripper()

    def Gripper_Move(self, width: float, velocity: float, force_limit: float) -> Blocking:
        self._require_gripper()
        limits = gripper_limits()
        for name, kind, value in (
            ("width", "width", width),
            ("velocity", "vel", velocity),
            ("force_limit", "force", force_limit),
        ):
            if not limits[f"min_{kind}"] <= value <= limits[f"max_{kind}"]:
                self._refuse_value(f"Input parameter [{name}] is outside the valid range")
        yield from self._delivered()
        self.box.move_fingers(width, velocity, force_limit)

    def Gripper_Grasp(self, force: float) -> Blocking:
        self._require_gripper()
        limits = gripper_limits()
        if not limits["min_force"] <= force <= limits["max_force"]:
            self._refuse_value("Input parameter [force] is outside the valid range")
        yield from self._delivered()
        self.box.move_fingers(0.0 if force > 0.0 else limits["max_width"], limits["max_vel"], force)

    def Gripper_Stop(self) -> Blocking:
        self._require_gripper()
        yield from self._delivered()
        self.box.move_fingers(self._read()[1].width, gripper_limits()["max_vel"], 0.0)

    # --- Tool --------------------------------------------------------------------------------------------------------

    def _require_tool(self, name: str) -> None:
        if name not in self.box.tools:
            self._refuse_value(f"The specified tool [{name}] does not exist")

    def Tool_list(self) -> Blocking:
        yield from self._delivered()
        return list(self.box.tools)

    def Tool_name(self) -> Blocking:
        yield from self._delivered()
        return self.box.tool

    def Tool_exist(self, name: str) -> Blocking:
        yield from self._delivered()
        return name in self.box.tools

    def Tool_params(self, name: str | None = None) -> Blocking:
        name = self.box.tool if name is None else name
        self._require_tool(name)
        yield from self._delivered()
        return asdict(self.box.tools[name])

    def Tool_Switch(self, name: str) -> Blocking:
        self._require_mode("IDLE")
        self._require_tool(name)
        yield from self._delivered()
        self.box.tool = name

    def Tool_Add(self, name: str, params: dict[str, Any]) -> Blocking:
        self._require_mode("IDLE")
        if name in self.box.tools:
            self._refuse_value(f"The specified tool [{name}] already exists")
        yield from self._delivered()
        self.box.tools[name] = ToolFacts(**params)

    def Tool_Update(self, name: str, params: dict[str, Any]) -> Blocking:
        self._require_mode("IDLE")
        self._require_tool(name)
        yield from self._delivered()
        self.box.tools[name] = ToolFacts(**params)

    def Tool_Remove(self, name: str) -> Blocking:
        self._require_mode("IDLE")
        if name == FLANGE:
            raise RuntimeError(self._text(f"Removing [{FLANGE}] is not allowed"))
        self._require_tool(name)
        yield from self._delivered()
        del self.box.tools[name]
        self.box.tool = FLANGE if self.box.tool == name else self.box.tool

    def Tool_CalibratePayloadParams(self, tool_mounted: bool) -> Blocking:
        self._require_mode("IDLE")
        yield from self._delivered()
        found = asdict(self.box.tools[self.box.tool if tool_mounted else FLANGE])
        return {**found, "tcp_location": [0.0] * 7}
