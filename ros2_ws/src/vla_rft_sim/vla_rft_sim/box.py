"""The controller box: operational status, modes, faults, gripper, tools and events around a simulated world.

It survives its clients and knows none of them, nor the vendor's wording (`rdk_calls`). Its time is the world's;
`durations` scales what takes the real one seconds. Force control, impedance and contact wrench are kept, not played.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Array, Pose
from vla_rft_hardware.description import load_rizon4s
from vla_rft_sim.controller import MotionCaps
from vla_rft_sim.layout import MAX_WIDTH_M
from vla_rft_sim.rdk_tools import FLANGE, T_FLANGE_WORLD_TCP, ToolFacts, gn01_tool, gripper_name
from vla_rft_sim.world_protocol import STEP_NS, World

BOX_FAULTS = (
    *("estop", "minor_fault", "critical_fault", "reduced_state", "manual_mode", "connection_lost", "joint_limit"),
    *("ft_not_zeroed", "gripper_not_enabled", "gil_stall"),
)
"""What can be injected; a fault proper (minor, critical) ends by being cleared, the others by being withdrawn."""

BRAKE_RELEASE_S, GRIPPER_INIT_S, ZERO_FT_S, AUTO_RECOVERY_S = 3.0, 10.0, 2.0, 5.0
CLEARING_S = {"minor": 2.0, "critical": 12.0}
FT_EVENT = 301004
CARTESIAN_MODES = ("NRT_CARTESIAN_MOTION_FORCE", "NRT_SUPER_PRIMITIVE")
JOINT_MODES = ("NRT_JOINT_POSITION", "NRT_JOINT_IMPEDANCE")
_HOME_VELOCITY, _HOME_ACCELERATION = 0.5, 1.0
"""Of the Home primitive [rad/s], [rad/s^2]."""
_REACHED_M, _REACHED_RAD = 1e-3, 1e-2
"""A waypoint counts as reached this near."""


@dataclass(frozen=True)
class Event:
    """An entry of the event log."""

    level: str
    id: int
    description: str
    timestamp: float
    """Seconds since the epoch."""


@dataclass
class Fingers:
    """The gripper as a device of the box."""

    name: str = ""
    """Of the enabled gripper; empty while none is."""
    initialised: bool = False
    homing_until: float = 0.0
    force_limit: float = 0.0


@dataclass
class Primitive:
    """What runs in primitive or plan execution."""

    name: str
    began: float
    ends: float
    """When it terminates by itself; infinite when it never does."""


class ControllerBox:
    """All calls belong to the world's thread; other threads may read."""

    def __init__(self, world: World, *, durations: float = 1.0, tool: str | None = None) -> None:
        self.world = world
        self.durations = durations
        self.time = 0.0
        self.mode = "IDLE"
        self.fault = ""
        """minor, critical or none."""
        self.recovering = False
        self.ft_zeroed = False
        self.fingers = Fingers()
        self.tools = {FLANGE: ToolFacts(), gripper_name(): gn01_tool()}
        self.tool = tool or gripper_name()
        self.settings: dict[str, Any] = {}
        self.events: list[Event] = []
        self.primitive: Primitive | None = None
        self.injected: frozenset[str] = frozenset()
        self._enabled = False
        self._brakes_released_at = 0.0
        self._waypoints: deque[tuple[Pose, MotionCaps]] = deque()

    # --- status ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The vendor's OperationalStatus, by name."""
        injected = self.injected
        for holds, name in (
            ("estop" in injected, "ESTOP_NOT_RELEASED"),
            (self.recovering, "IN_RECOVERY_STATE"),
            (self.fault == "critical", "CRITICAL_FAULT"),
            (self.fault == "minor", "MINOR_FAULT"),
            ("reduced_state" in injected, "IN_REDUCED_STATE"),
            ("manual_mode" in injected, "IN_MANUAL_MODE"),
            (not self._enabled, "NOT_ENABLED"),
            (self.time < self._brakes_released_at, "RELEASING_BRAKE"),
        ):
            if holds:
                return name
        return "READY"

    @property
    def operational(self) -> bool:
        """It will execute commands."""
        return self.status == "READY"

    @property
    def moving(self) -> bool:
        """The arm has not come to a stop."""
        return self.world.controller.moving

    @property
    def busy(self) -> bool:
        """A motion or a primitive is under way."""
        running = self.primitive is not None and self.time < self.primitive.ends
        return self.moving or bool(self._waypoints) or running

    def describe(self) -> dict[str, Any]:
        """Everything, for tests and demonstrations."""
        return {
            **{"status": self.status, "mode": self.mode, "fault": self.fault, "ft_zeroed": self.ft_zeroed},
            **{"tool": self.tool, "settings": self.settings, "gripper": asdict(self.fingers), "time": self.time},
            "events": [asdict(event) for event in self.events],
        }

    # --- enabling, faults --------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Release the brakes, where nothing forbids it; READY some seconds later."""
        hindered = self.status not in ("NOT_ENABLED", "RELEASING_BRAKE", "READY")
        if hindered or self._enabled:
            return
        self._enabled = True
        self._brakes_released_at = self.time + BRAKE_RELEASE_S * self.durations

    def prepare_directly(self) -> None:
        """Be ready for Cartesian targets at once: the short way of the direct devices. DeviceError in a fault."""
        self._enabled, self._brakes_released_at, self.ft_zeroed = True, self.time, True
        if not self.operational:
            raise DeviceError(f"the arm cannot be enabled: {self.status}")
        self.fingers = Fingers(gripper_name(), initialised=True)
        self.world.controller.caps = MotionCaps()
        posture = self.world.controller.posture
        self.enter("NRT_CARTESIAN_MOTION_FORCE")
        self.world.controller.posture = posture

    def inject(self, name: str, active: bool) -> None:
        """Break or repair something of BOX_FAULTS."""
        was_active = name in self.injected
        self.injected = self.injected | {name} if active else self.injected - {name}
        if active and not was_active:
            self._break(name)
        elif not active and was_active:
            self._repair(name)
        self._supervise()

    def _break(self, name: str) -> None:
        if name == "minor_fault":
            self._fail("minor", 1, "injected minor fault")
        elif name == "critical_fault":
            self._fail("critical", 2, "injected critical fault")
        elif name == "joint_limit":
            self.recovering = True
            self._fail("critical", 3, "a joint is outside its allowed position range")
        elif name == "estop":
            self._enabled = False
            self._log("CRITICAL", 4, "the emergency stop was pressed")
        elif name == "manual_mode":
            self._enabled = False
            self._log("WARNING", 5, "switched to manual mode")
        elif name == "reduced_state":
            self._log("WARNING", 6, "the robot is in reduced state")
        elif name == "ft_not_zeroed":
            self.ft_zeroed = False
            if self.mode in CARTESIAN_MODES:
                self.fail_for_sensor()
        elif name == "gripper_not_enabled":
            self.fingers = Fingers()

    def _repair(self, name: str) -> None:
        if name in ("minor_fault", "critical_fault"):
            self.fault = ""
        elif name == "joint_limit":  # the reboot after the recovery
            self.recovering, self.fault = False, ""

    def fail_for_sensor(self) -> None:
        """What the robot does when Cartesian force mode meets a sensor that was not zeroed in this session."""
        self._fail("minor", FT_EVENT, "FT sensor is not calibrated using primitive [ZeroFTSensor]")

    def _fail(self, fault: str, number: int, description: str) -> None:
        self.fault = fault
        self._enabled = False
        self._log("ERROR" if fault == "minor" else "CRITICAL", number, description)
        self._supervise()

    def clear(self) -> bool:
        """The fault is gone; False where only a recovery or a power cycle helps."""
        if self.recovering:
            return False
        self.fault = ""
        self.injected -= {"minor_fault", "critical_fault"}
        return True

    def _log(self, level: str, number: int, description: str) -> None:
        self.events.append(Event(level, number, description, time.time()))

    # --- modes and motion --------------------------------------------------------------------------------------

    def enter(self, mode: str) -> None:
        """Be in a mode from now on, at rest; what the mode's settings were is forgotten."""
        controller = self.world.controller
        self.settings, self.primitive = {}, None
        self._waypoints.clear()
        if mode in CARTESIAN_MODES:
            if not self.ft_zeroed:
                self.fail_for_sensor()
                return
            controller.enter_motion(self.world.arm_state(0).q)
            controller.posture = controller.q.copy()
        elif mode in JOINT_MODES:
            controller.enter_joint_motion(self.world.arm_state(0).q)
        else:
            controller.stop()
        self.mode = mode

    def stop(self) -> None:
        """Brake and be IDLE."""
        self._waypoints.clear()
        self.primitive = None
        self.world.controller.stop()
        self.mode = "IDLE"

    def go(self, T_base_tool: Pose, caps: MotionCaps) -> None:
        """Take the active tool's tcp there; nothing where the mode was left meanwhile."""
        if self.mode in CARTESIAN_MODES:
            self._waypoints.clear()
            self.world.controller.set_target(self._world_target(T_base_tool), caps)

    def go_along(self, waypoints: list[tuple[Pose, MotionCaps]]) -> None:
        """Take the active tool's tcp from one pose to the next."""
        if self.mode in CARTESIAN_MODES:
            self._waypoints = deque((self._world_target(pose), caps) for pose, caps in waypoints)
            self.world.controller.set_target(*self._waypoints.popleft())

    def go_joints(self, q: Array, velocity: Array, acceleration: Array) -> None:
        """Take the joints there; nothing where the mode was left meanwhile."""
        if self.mode in JOINT_MODES:
            self.world.controller.set_joint_target(q, velocity, acceleration)

    def start_primitive(self, name: str) -> None:
        """ZeroFTSensor, Home or Hold."""
        zeroing = name == "ZeroFTSensor"
        ends = self.time + ZERO_FT_S * self.durations if zeroing else float("inf")
        self.primitive = Primitive(name, self.time, ends)
        if name == "Home":
            controller = self.world.controller
            controller.enter_joint_motion(self.world.arm_state(0).q)
            home = np.array(load_rizon4s()["home_q"])
            controller.set_joint_target(home, np.full(7, _HOME_VELOCITY), np.full(7, _HOME_ACCELERATION))

    def primitive_states(self) -> dict[str, Any]:
        """What the running primitive says about itself."""
        primitive = self.primitive
        if primitive is None:
            return {}
        states: dict[str, Any] = {"timePeriod": self.time - primitive.began}
        if primitive.name == "Home":
            states["reachedTarget"] = int(not self.moving and self.time > primitive.began + 0.1)
        else:
            states["terminated"] = int(self.time >= primitive.ends)
        return states

    def _world_target(self, T_base_tool: Pose) -> Pose:
        return T_base_tool.compose(self.tools[self.tool].T_flange_tcp.inverse()).compose(T_FLANGE_WORLD_TCP)

    # --- gripper -----------------------------------------------------------------------------------------------

    def initialise_gripper(self) -> None:
        """Home the fingers: they close and open; commands count only afterwards."""
        self.fingers.initialised = True
        self.fingers.homing_until = self.time + GRIPPER_INIT_S * self.durations
        self.world.set_width(0.0)

    @property
    def homing(self) -> bool:
        """The fingers are finding their zero."""
        return self.time < self.fingers.homing_until

    def move_fingers(self, width: float, speed: float, force_limit: float) -> None:
        """Go to an opening; without effect, and without a word, before the gripper was initialised."""
        if self.fingers.initialised and not self.homing:
            self.fingers.force_limit = abs(force_limit)
            self.world.set_width(width, speed=speed)

    # --- time --------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One step of the world has passed."""
        before, self.time = self.time, self.time + STEP_NS * 1e-9
        self._supervise()
        half = self.fingers.homing_until - 0.5 * GRIPPER_INIT_S * self.durations
        if before < half <= self.time:
            self.world.set_width(MAX_WIDTH_M)
        primitive = self.primitive
        if primitive is not None and primitive.name == "ZeroFTSensor" and before < primitive.ends <= self.time:
            self.ft_zeroed = "ft_not_zeroed" not in self.injected
        if self._waypoints and self._arrived():
            self.world.controller.set_target(*self._waypoints.popleft())

    def _supervise(self) -> None:
        """A robot that is not operational is IDLE, and so is one whose world was reset."""
        lost = self.mode in (*CARTESIAN_MODES, *JOINT_MODES) and self.world.controller.mode == "idle"
        if self.mode != "IDLE" and (lost or not self.operational):
            self.stop()

    def _arrived(self) -> bool:
        distance, turn = self.world.controller.reference.distance_to(self.world.controller.target)
        return distance < _REACHED_M and turn < _REACHED_RAD
