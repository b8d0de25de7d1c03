"""Stand-in for the vendor's `flexivrdk` 1.9.4.1: `module_for` makes a module with its names over a `sim_world`.

Names, signatures, defaults, conversions, exceptions and their texts are the library's (checked by `conformance`), and
so is the time its calls take, the interpreter's lock held. What the robot does is `box` and `rdk_calls`. A lite
instance here may only stop the robot. Device, Model, Safety and other classes that drive nothing are left out.
"""

# No deferred annotations here: they are the kinds of the arguments themselves, and lists as defaults are the library's.
# ruff: noqa: B006
import types
from collections.abc import Callable
from datetime import datetime
from typing import Any

from vla_rft_sim import rdk_types
from vla_rft_sim.rdk_calls import SERIAL
from vla_rft_sim.rdk_kinds import (
    BOOL,
    FLOAT,
    FLOATS,
    FLOATS3,
    FLOATS6,
    FLOATS7,
    INT,
    TEXT,
    TEXTS,
    binding,
    instance,
    mapping,
    overloads,
    several,
)
from vla_rft_sim.rdk_link import FAILED_CONNECT_S, FAILED_LITE_S, LOST_CALL_S, GilHold, Link, LinkLost, SocketLink
from vla_rft_sim.rdk_types import (
    VALUE,
    ZEROS6,
    CoordType,
    GripperParams,
    GripperStates,
    Mode,
    NrtCartesianCmd,
    OperationalStatus,
    PlanInfo,
    RobotActions,
    RobotEvent,
    RobotEvent_Level,
    RobotInfo,
    RobotStates,
    Struct,
    ToolParams,
    VendorEnum,
    fields_of,
    filled,
)

VERSION = "1.9.4.1"
_MODELS = ("Rizon4", "Rizon4s", "Rizon4R", "Rizon4sR", "Rizon4M", "Rizon10", "Rizon10s", "Rizon10R", "Moonlight")
_ADVICE = (
    "Please check that: a) Remote mode (Ethernet) is enabled on the target robot; b) Ethernet connection with the "
    "target robot is established; c) The specified serial number of the target robot is correct; d) No firewall is "
    "active or this RDK program is whitelisted; e) RDK version is compatible with the target robot's software version"
)
_DIGITAL_INPUTS = 18
_FALLBACK: dict[str, Any] = {
    **{"mode": "UNKNOWN", "status": "UNKNOWN", "busy": False, "stopped": False, "fault": False, "recovery": False},
    **{"reduced": False, "estop_released": False, "states": {}},
    **{"gripper_params": {}, "gripper_states": {}},
}


def _plain(value: Any) -> Any:
    """A converted argument as JSON: enums by name, structs by field."""
    if isinstance(value, float | int | str):
        return value
    if isinstance(value, VendorEnum):
        return value.name
    if isinstance(value, NrtCartesianCmd):
        caps = [value.max_linear_vel, value.max_angular_vel, value.max_linear_acc, value.max_angular_acc]
        return {"pose_d": value.pose_d, "caps": caps, "duration": value.duration}
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in fields_of(type(value))}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {str(key): _plain(element) for key, element in value.items()}
    return value


def normalised_serial(robot_sn: str) -> str:
    """The serial as the library searches for it; ValueError or RuntimeError where it does not even search."""
    serial = robot_sn.replace(" ", "").replace("_", "-")
    parts = serial.split("-")
    if len(parts) != 2:
        raise ValueError(f"[flexiv::rdk::Robot] Format of the provided robot serial number [{robot_sn}] is invalid")
    if parts[0] not in _MODELS:
        raise RuntimeError(f"[flexiv::rdk::Robot] Robot model [{parts[0]}] is not supported")
    return serial


def not_found(serial: str, lite: bool) -> str:
    """What the library says when no robot of this serial answers."""
    if lite:
        return "[flexiv::rdk::Robot] Failed to sync RDK server version"
    return f"[flexiv::rdk::Robot] Failed to connect to [{serial}]. {_ADVICE}"


class _Caller:
    """Passes calls on to the robot, under its class's name."""

    _family = ""
    _link: Link

    def _call(self, name: str, *arguments: Any, lost: str = "Failed to deliver the request") -> Any:
        try:
            return self._link.call(f"{self._family}.{name}", *map(_plain, arguments))
        except LinkLost:
            self._link.hold(LOST_CALL_S * self._link.durations)
            raise RuntimeError(f"[flexiv::rdk::{self._family}::{name}] {lost}") from None

    def __repr__(self) -> str:
        return f"<flexivrdk.{self._family}>"


_NO_REPLY = "No reply from the robot"
_NOT_CONNECTED = "Robot is not operational: Unknown status"


class Robot(_Caller):
    """The connection to the robot."""

    _family = "Robot"
    _open: Callable[[str, bool], Link]

    @binding
    def __init__(
        self, robot_sn: TEXT, network_interface_whitelist: TEXTS = [], verbose: BOOL = True, lite: BOOL = False
    ) -> None:
        serial = normalised_serial(robot_sn)
        self._lite = lite
        self._last: dict[str, Any] = _FALLBACK
        self._link = type(self)._open(serial, lite)
        self._info = {} if lite else self._call("connect")

    def _report(self) -> dict[str, Any]:
        """The newest report; while the connection is lost, the last one with an unknown status. Lite: none."""
        if self._lite:
            return _FALLBACK
        try:
            self._last = self._link.report()
        except LinkLost:
            return {**self._last, "status": "UNKNOWN"}
        return self._last

    def _send(self, name: str, *arguments: Any) -> None:
        try:
            self._link.call(f"Robot.{name}", *map(_plain, arguments))
        except LinkLost:
            raise RuntimeError(f"[flexiv::rdk::Robot::{name}] {_NOT_CONNECTED}") from None

    @binding
    def Brake(self, engage: BOOL) -> None:
        self._call("Brake", engage)

    @binding
    def ClearFault(self, timeout_sec: INT = 30) -> BOOL:
        return self._call("ClearFault", timeout_sec)

    @binding
    def Enable(self) -> None:
        self._call("Enable", lost="Robot is not connected")

    def _plan_by_index(self, index: INT, continue_exec: BOOL = False, block_until_started: BOOL = True) -> None:
        self._call("ExecutePlan", index, continue_exec, block_until_started)

    def _plan_by_name(self, name: TEXT, continue_exec: BOOL = False, block_until_started: BOOL = True) -> None:
        self._call("ExecutePlan", name, continue_exec, block_until_started)

    _plan_by_index.__name__ = "ExecutePlan"
    ExecutePlan = overloads(_plan_by_index, _plan_by_name)

    @binding
    def ExecutePrimitive(
        self, primitive_name: TEXT, input_params: mapping(TEXT, VALUE), block_until_started: BOOL = True
    ) -> None:
        self._call("ExecutePrimitive", primitive_name, input_params, block_until_started)

    @binding
    def LockExternalAxes(self, toggle: BOOL) -> None:
        self._call("LockExternalAxes", toggle)

    @binding
    def PausePlan(self, toggle: BOOL) -> None:
        self._call("PausePlan", toggle)

    @binding
    def RunAutoRecovery(self) -> None:
        self._call("RunAutoRecovery", lost="Failed to enter automatic recovery mode")

    @binding
    def SendCartesianMotionForce(
        self,
        pose: FLOATS7,
        wrench: FLOATS6 = ZEROS6,
        velocity: FLOATS6 = ZEROS6,
        max_linear_vel: FLOAT = 0.5,
        max_angular_vel: FLOAT = 1.0,
        max_linear_acc: FLOAT = 2.0,
        max_angular_acc: FLOAT = 5.0,
    ) -> None:
        caps = max_linear_vel, max_angular_vel, max_linear_acc, max_angular_acc
        self._send("SendCartesianMotionForce", pose, wrench, velocity, *caps)

    @binding
    def SendJointPosition(self, positions: FLOATS, velocities: FLOATS, max_vel: FLOATS, max_acc: FLOATS) -> None:
        self._send("SendJointPosition", positions, velocities, max_vel, max_acc)

    @binding
    def SendMultiCartesianMotionForce(
        self, cart_cmds: several(instance(NrtCartesianCmd)), joint_pos: several(FLOATS)
    ) -> None:
        self._send("SendMultiCartesianMotionForce", cart_cmds, joint_pos)

    @binding
    def SetBreakpointMode(self, is_enabled: BOOL) -> None:
        self._call("SetBreakpointMode", is_enabled)

    @binding
    def SetCartesianImpedance(self, K_x: FLOATS6, Z_x: FLOATS6 = [0.7] * 6) -> None:
        self._call("SetCartesianImpedance", K_x, Z_x)

    @binding
    def SetDigitalOutputs(self, digital_outputs: mapping(INT, BOOL)) -> None:
        self._call("SetDigitalOutputs", digital_outputs)

    @binding
    def SetForceControlAxis(self, enabled_axes: several(BOOL, 6), max_linear_vel: FLOATS3 = [1.0] * 3) -> None:
        self._call("SetForceControlAxis", enabled_axes, max_linear_vel)

    @binding
    def SetForceControlFrame(
        self, root_coord: instance(CoordType), T_in_root: FLOATS7 = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    ) -> None:
        self._call("SetForceControlFrame", root_coord, T_in_root)

    @binding
    def SetGlobalVariables(self, global_vars: mapping(TEXT, VALUE)) -> None:
        self._call("SetGlobalVariables", global_vars)

    @binding
    def SetJointImpedance(self, K_q: FLOATS, Z_q: FLOATS = []) -> None:
        self._call("SetJointImpedance", K_q, Z_q)

    @binding
    def SetJointInertiaScale(self, inertia_scales: FLOATS) -> None:
        self._call("SetJointInertiaScale", inertia_scales)

    @binding
    def SetMaxContactTorque(self, max_torques: FLOATS) -> None:
        self._call("SetMaxContactTorque", max_torques)

    @binding
    def SetMaxContactWrench(self, max_wrench: FLOATS6) -> None:
        self._call("SetMaxContactWrench", max_wrench)

    @binding
    def SetNullSpaceObjectives(
        self,
        linear_manipulability: FLOAT = 0.0,
        angular_manipulability: FLOAT = 0.0,
        ref_positions_tracking: FLOAT = 0.5,
    ) -> None:
        self._call("SetNullSpaceObjectives", linear_manipulability, angular_manipulability, ref_positions_tracking)

    @binding
    def SetNullSpacePosture(self, ref_positions: FLOATS) -> None:
        self._call("SetNullSpacePosture", ref_positions)

    @binding
    def SetPassiveForceControl(self, is_enabled: BOOL) -> None:
        self._call("SetPassiveForceControl", is_enabled)

    @binding
    def SetTimelinessFailureLimit(self, percentage: FLOAT = 2.0) -> None:
        self._call("SetTimelinessFailureLimit", percentage)

    @binding
    def SetVelocityScale(self, velocity_scale: INT) -> None:
        self._call("SetVelocityScale", velocity_scale)

    @binding
    def StepBreakpoint(self) -> None:
        self._call("StepBreakpoint")

    @binding
    def Stop(self) -> None:
        try:
            self._link.call("Robot.Stop")
        except LinkLost:
            self._link.hold(LOST_CALL_S * self._link.durations)
            raise RuntimeError("[flexiv::rdk::Robot::SwitchMode] Failed to switch control mode to IDLE") from None

    @binding
    def StopPlan(self) -> None:
        self._call("StopPlan")

    @binding
    def SwitchMode(self, mode: instance(Mode)) -> None:
        self._call("SwitchMode", mode, lost=_NOT_CONNECTED)

    @binding
    def SyncWithPositioner(self, toggle: BOOL) -> None:
        self._call("SyncWithPositioner", toggle)

    @binding
    def actions(self) -> instance(RobotActions):
        try:
            return filled(RobotActions, self._link.call("Robot.actions") if not self._lite else {})
        except LinkLost:
            return RobotActions()

    @binding
    def busy(self) -> BOOL:
        return self._report()["busy"]

    @binding
    def connected(self) -> BOOL:
        try:
            return self._lite or bool(self._link.report())
        except LinkLost:
            return False

    @binding
    def digital_inputs(self) -> several(BOOL, _DIGITAL_INPUTS):
        return [False] * _DIGITAL_INPUTS

    @binding
    def enabling_button_pressed(self) -> BOOL:
        return False

    @binding
    def estop_released(self) -> BOOL:
        return self._report()["estop_released"]

    @binding
    def event_log(self) -> several(instance(RobotEvent)):
        try:
            events = self._link.call("Robot.event_log") if not self._lite else []
        except LinkLost:
            events = []
        return [_event(event) for event in events]

    @binding
    def fault(self) -> BOOL:
        return self._report()["fault"]

    @binding
    def global_variables(self) -> mapping(TEXT, VALUE):
        return {}

    @binding
    def info(self) -> instance(RobotInfo):
        return filled(RobotInfo, self._info)

    @binding
    def lite(self) -> BOOL:
        return self._lite

    @binding
    def mode(self) -> instance(Mode):
        return Mode.__members__[self._report()["mode"]]

    @binding
    def operational(self) -> BOOL:
        return self._report()["status"] == "READY"

    @binding
    def operational_status(self) -> instance(OperationalStatus):
        return OperationalStatus.__members__[self._report()["status"]]

    @binding
    def plan_info(self) -> instance(PlanInfo):
        return filled(PlanInfo, self._call("plan_info", lost=_NO_REPLY))

    @binding
    def plan_list(self) -> TEXTS:
        return self._call("plan_list", lost=_NO_REPLY)

    @binding
    def primitive_states(self) -> mapping(TEXT, VALUE):
        return self._call("primitive_states", lost=_NO_REPLY)

    @binding
    def reached_timeliness_failure_limit(self) -> BOOL:
        return False

    @binding
    def recovery(self) -> BOOL:
        return self._report()["recovery"]

    @binding
    def reduced(self) -> BOOL:
        return self._report()["reduced"]

    @binding
    def states(self) -> instance(RobotStates):
        return filled(RobotStates, self._report()["states"])

    @binding
    def stopped(self) -> BOOL:
        return self._report()["stopped"]


def _event(event: dict[str, Any]) -> Any:
    moment = datetime.fromtimestamp(event["timestamp"])  # naive local time, as the binding makes it
    return filled(RobotEvent, {**event, "level": RobotEvent_Level.__members__[event["level"]], "timestamp": moment})


class Gripper(_Caller):
    """The gripper on the robot's flange."""

    _family = "Gripper"

    @binding
    def __init__(self, robot: instance(Robot)) -> None:
        self._robot, self._link = robot, robot._link

    @binding
    def Disable(self) -> None:
        self._call("Disable")

    @binding
    def Enable(self, name: TEXT) -> None:
        self._call("Enable", name)

    @binding
    def Grasp(self, force: FLOAT) -> None:
        self._call("Grasp", force)

    @binding
    def Init(self) -> None:
        self._call("Init")

    @binding
    def Move(self, width: FLOAT, velocity: FLOAT, force_limit: FLOAT) -> None:
        self._call("Move", width, velocity, force_limit)

    @binding
    def Stop(self) -> None:
        self._call("Stop")

    @binding
    def params(self) -> instance(GripperParams):
        return filled(GripperParams, self._robot._report()["gripper_params"])

    @binding
    def states(self) -> instance(GripperStates):
        return filled(GripperStates, self._robot._report()["gripper_states"])


class Tool(_Caller):
    """The robot's tools."""

    _family = "Tool"

    @binding
    def __init__(self, robot: instance(Robot)) -> None:
        self._link = robot._link

    @binding
    def Add(self, name: TEXT, params: instance(ToolParams)) -> None:
        self._call("Add", name, params)

    @binding
    def CalibratePayloadParams(self, tool_mounted: BOOL) -> instance(ToolParams):
        return filled(ToolParams, self._call("CalibratePayloadParams", tool_mounted))

    @binding
    def Remove(self, name: TEXT) -> None:
        self._call("Remove", name)

    @binding
    def Switch(self, name: TEXT) -> None:
        self._call("Switch", name)

    @binding
    def Update(self, name: TEXT, params: instance(ToolParams)) -> None:
        self._call("Update", name, params)

    @binding
    def exist(self, name: TEXT) -> BOOL:
        return self._call("exist", name, lost=_NO_REPLY)

    @binding
    def list(self) -> TEXTS:
        return self._call("list", lost=_NO_REPLY)

    @binding
    def name(self) -> TEXT:
        return self._call("name", lost=_NO_REPLY)

    def _own_params(self) -> instance(ToolParams):
        return filled(ToolParams, self._call("params", lost=_NO_REPLY))

    def _named_params(self, name: TEXT) -> instance(ToolParams):
        return filled(ToolParams, self._call("params", name, lost=_NO_REPLY))

    _own_params.__name__ = "params"
    params = overloads(_own_params, _named_params)


def module_over(open_link: Callable[[str, bool], Link]) -> Any:
    """The library's module, with `open_link(serial, lite)` as the way to a robot."""
    module = types.ModuleType("flexivrdk", __doc__)
    for cls in (*rdk_types.ENUMS, *rdk_types.STRUCTS, Gripper, Tool):
        setattr(module, cls.__name__, cls)
    for enum in (RobotEvent_Level, OperationalStatus, CoordType, Mode):
        for name, member in enum.__members__.items():
            setattr(module, name, member)
    module.Robot = type("Robot", (Robot,), {"_open": staticmethod(open_link)})
    module.__version__ = VERSION
    return module


def module_for(address: str, *, durations: float = 1.0, timeout_s: float = 0.0) -> Any:
    """The library's module over the `sim_world` at `address` (empty: this user's).

    durations: scales what the client itself waits for, the failed connections; timeout_s: how long a constructor waits
    for a world that is just starting, before it fails as the library does.
    """

    def open_link(serial: str, lite: bool) -> Link:
        try:
            if serial != SERIAL:
                raise LinkLost
            return SocketLink(address, lite=lite, durations=durations, timeout_s=timeout_s)
        except LinkLost:
            GilHold()((FAILED_LITE_S if lite else FAILED_CONNECT_S) * durations)
            raise RuntimeError(not_found(serial, lite)) from None

    return module_over(open_link)
