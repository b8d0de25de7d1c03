"""The Flexiv driver against a small fake of the vendor's library: steps, refusals, deadlines, faults, stamps."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.clock import NS_PER_S, ManualClock, nanoseconds
from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.motion_profile import MotionProfile
from vla_rft_hardware import flexiv, flexiv_link
from vla_rft_hardware.flexiv_clock import WINDOW_NS, RobotClock
from vla_rft_hardware.flexiv_faults import FAULT_TABLE, RECONNECT_BACKOFF_S, Response, fault_row, markdown
from vla_rft_hardware.flexiv_link import load_rdk
from vla_rft_hardware.protocols import Arm, Gripper

CELL = find_cell("vla_rft_sim:towel_cell")
assert CELL.motion is not None
PROFILE: MotionProfile = CELL.motion
SERIAL = "Rizon4s-123456"
ROBOT_BEHIND_NS = 7_250_000_000
"""The robot's clock in the fake is this far behind the host's."""

Mode = Enum("Mode", "UNKNOWN IDLE NRT_PRIMITIVE_EXECUTION NRT_CARTESIAN_MOTION_FORCE")
Status = Enum("Status", [*(row.status for row in FAULT_TABLE), "FROM_THE_FUTURE"])


@dataclass
class Controller:
    """What the fake's robot, gripper and tool are about: it outlives connections."""

    clock: ManualClock
    mode: Mode = Mode.IDLE
    fault: str = ""
    enabled: bool = False
    brakes_ns: int = 0
    override: str = ""
    """A status that holds whatever else is true."""
    connected: bool = True
    answers: bool = True
    """A new connection can be made."""
    clearable: bool = True
    zeroes: bool = True
    zeroed: bool = False
    gripper: str = ""
    tool: str = "Flexiv-GN01"
    tcp: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
    mass: float = 1.186
    dtheta: list[float] = field(default_factory=lambda: [0.0] * 7)
    wrench: list[float] = field(default_factory=lambda: [0.0] * 6)
    tcp_pose: list[float] = field(default_factory=lambda: [0.4, 0.0, 0.28, 0.0, 0.0, 2.0, 0.0])
    events: list[Any] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    homing_ns: int = 0

    @property
    def status(self) -> Status:
        if self.override:
            return Status[self.override]
        if self.fault:
            return Status[self.fault]
        if not self.enabled:
            return Status.NOT_ENABLED
        return Status.READY if self.clock.monotonic_ns() >= self.brakes_ns else Status.RELEASING_BRAKE

    def fail(self, status: str, number: int, description: str) -> None:
        self.fault, self.enabled, self.mode = status, False, Mode.IDLE
        level = SimpleNamespace(name="ERROR")
        self.events.append(SimpleNamespace(level=level, id=number, description=description))

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def last(self, name: str) -> Any:
        return [arguments for called, arguments in self.calls if called == name][-1]


class FakeRobot:
    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._first_event = len(controller.events)

    def connected(self) -> bool:
        return self._c.connected

    def info(self) -> Any:
        return SimpleNamespace(
            serial_num=SERIAL,
            model_name="Rizon4s",
            software_ver="v3.11.3",
            license_type="Standard",
            DoF=7,
            has_FT_sensor=True,
            K_x_nom=[10000.0] * 3 + [1500.0] * 3,
        )

    def states(self) -> Any:
        c = self._c
        return SimpleNamespace(
            timestamp=divmod(c.clock.realtime_ns() - ROBOT_BEHIND_NS, NS_PER_S),
            q=[0.1] * 7,
            dtheta=list(c.dtheta),
            tau_ext=[0.0] * 7,
            temperature=[31.0, 44.5],
            tcp_pose=list(c.tcp_pose),
            tcp_vel=[0.0] * 6,
            ext_wrench_in_world=list(c.wrench),
        )

    def mode(self) -> Mode:
        return self._c.mode

    def operational_status(self) -> Status:
        return self._c.status

    def fault(self) -> bool:
        return bool(self._c.fault)

    def estop_released(self) -> bool:
        return self._c.override != "ESTOP_NOT_RELEASED"

    def event_log(self) -> list[Any]:
        return list(self._c.events[self._first_event :])

    def ClearFault(self, timeout: int) -> bool:
        self._c.calls.append(("ClearFault", timeout))
        if self._c.clearable:
            self._c.fault = ""
        return self._c.clearable

    def Enable(self) -> None:
        self._c.calls.append(("Enable", None))
        self._c.enabled, self._c.brakes_ns = True, self._c.clock.monotonic_ns() + 3 * NS_PER_S

    def Stop(self) -> None:
        self._c.calls.append(("Stop", None))
        self._c.mode = Mode.IDLE

    def SwitchMode(self, mode: Mode) -> None:
        self._c.calls.append(("SwitchMode", mode.name))
        if self._c.status is not Status.READY:
            raise RuntimeError("[flexiv::rdk::Robot::SwitchMode] Robot is not operational")
        self._c.mode = mode
        if mode is Mode.NRT_CARTESIAN_MOTION_FORCE and not self._c.zeroed:
            self._c.fail("MINOR_FAULT", 301004, "FT sensor is not calibrated using primitive [ZeroFTSensor]")

    def ExecutePrimitive(self, name: str, parameters: dict[str, Any]) -> None:
        self._c.calls.append(("ExecutePrimitive", name))
        self._c.zeroed = self._c.zeroes

    def primitive_states(self) -> dict[str, int]:
        return {"terminated": int(self._c.zeroed)}

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The setters and the target: kept; the target is refused outside its mode."""

        def keep(*arguments: Any) -> None:
            if self._c.mode is not Mode.NRT_CARTESIAN_MOTION_FORCE:
                raise RuntimeError(f"[flexiv::rdk::Robot::{name}] Robot is not in an applicable control mode")
            self._c.calls.append((name, arguments))

        return keep


class FakeGripper:
    def __init__(self, robot: FakeRobot) -> None:
        self._c = robot._c

    def Enable(self, name: str) -> None:
        if self._c.gripper:
            text = f"Gripper [{self._c.gripper}] is currently enabled and needs to be disabled before another gripper"
            raise RuntimeError(f"[flexiv::rdk::Gripper::Enable] {text} can be enabled")
        self._c.calls.append(("Gripper.Enable", name))
        self._c.gripper = name

    def Disable(self) -> None:
        self._c.gripper = ""

    def Init(self) -> None:
        self._c.calls.append(("Gripper.Init", None))
        self._c.homing_ns = self._c.clock.monotonic_ns() + 6 * NS_PER_S

    def Move(self, width: float, velocity: float, force: float) -> None:
        if not self._c.gripper:
            raise RuntimeError("[flexiv::rdk::Gripper::Move] No gripper enabled")
        self._c.calls.append(("Gripper.Move", (width, velocity, force)))

    def params(self) -> Any:
        low = {"min_width": 0.0, "min_vel": 0.01, "min_force": 5.0}
        return SimpleNamespace(name=self._c.gripper, max_width=0.1, max_vel=0.15, max_force=30.0, **low)

    def states(self) -> Any:
        if not self._c.gripper:
            raise RuntimeError("[flexiv::rdk::Gripper::states] No gripper enabled")
        homing = self._c.clock.monotonic_ns() < self._c.homing_ns
        return SimpleNamespace(width=np.float64(0.05), force=-3.0, is_moving=homing)


class FakeTool:
    def __init__(self, robot: FakeRobot) -> None:
        self._c = robot._c

    def name(self) -> str:
        return self._c.tool

    def params(self) -> Any:
        return SimpleNamespace(tcp_location=list(self._c.tcp), mass=self._c.mass)

    def Switch(self, name: str) -> None:
        if self._c.mode is not Mode.IDLE:
            raise RuntimeError("[flexiv::rdk::Tool::Switch] Robot is not in IDLE mode")
        self._c.calls.append(("Tool.Switch", name))
        self._c.tool = name


class Bench:
    """A fake library, its controller, and our devices on it; sleeping moves the clock."""

    def __init__(self, profile: MotionProfile = PROFILE, **facts: Any) -> None:
        self.clock = ManualClock(now_ns=100 * NS_PER_S, realtime_offset_ns=1_700_000_000 * NS_PER_S)
        self.controller = Controller(self.clock, **facts)
        self.connections: list[tuple[Any, ...]] = []
        rdk = SimpleNamespace(Robot=self._robot, Gripper=FakeGripper, Tool=FakeTool, Mode=Mode)
        self.arm, self.gripper = flexiv.connect(
            SERIAL,
            rdk=rdk,
            profile=profile,
            tool=CELL.spec.tool,
            posture=CELL.spec.home.q,
            interface="192.168.2.10",
            clock=self.clock,
            sleep=lambda s: self.clock.advance(nanoseconds(s)),
        )

    def _robot(self, *arguments: Any) -> FakeRobot:
        self.connections.append((self.clock.monotonic_ns(), *arguments))
        if not self.controller.answers:
            raise RuntimeError(f"[flexiv::rdk::Robot] Failed to connect to [{arguments[0]}]. Please check that: a) ...")
        self.controller.connected = True
        return FakeRobot(self.controller)


# --- connecting, preparing ----------------------------------------------------------------------------------------


def test_connecting_reads_and_commands_nothing():
    bench = Bench()
    assert isinstance(bench.arm, Arm) and isinstance(bench.gripper, Gripper)
    state = bench.arm.state()
    assert bench.controller.calls == []
    assert bench.connections == [(100 * NS_PER_S, SERIAL, ["192.168.2.10"], False, False)]
    assert not state.operational and state.fault == "", "an arm that was not prepared yet has no fault"
    assert math.isnan(bench.gripper.state().width), "an opening that nobody measured is not a number"


def test_prepare_takes_every_step_in_order_and_names_it():
    bench = Bench()
    steps = bench.arm.prepare()
    assert bench.controller.names() == [
        *("Enable", "SwitchMode", "ExecutePrimitive", "Gripper.Enable", "Gripper.Init", "SwitchMode"),
        *("SetCartesianImpedance", "SetMaxContactWrench", "SetNullSpacePosture"),
    ]
    beginnings = [
        *("fault: none", "emergency stop: released", "arm: enabled", "arm: operational", "tool: Flexiv-GN01 agrees"),
        *("force sensor: zeroed", "gripper: enabled Flexiv-GN01", "gripper: initialised", "mode: NRT_CARTESIAN"),
        "impedance:",
    ]
    assert len(steps) == len(beginnings)
    for step, beginning in zip(steps, beginnings, strict=True):
        assert step.startswith(beginning)
    assert bench.controller.last("SetCartesianImpedance") == (list(PROFILE.stiffness), list(PROFILE.damping))
    assert bench.controller.last("SetNullSpacePosture") == (list(CELL.spec.home.q),)
    assert bench.arm.state().operational and bench.arm.state().fault == ""
    assert bench.gripper.state().width == 0.05
    assert bench.gripper.prepare() == [], "the gripper was prepared with the arm"


def test_a_second_prepare_stops_first_and_neither_zeroes_nor_moves_the_fingers_again():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.calls.clear()
    steps = bench.arm.prepare()
    assert "arm: stopped, it was in NRT_CARTESIAN_MOTION_FORCE" in steps
    assert "force sensor: zeroed before in this connection" in steps
    settings = ["SetCartesianImpedance", "SetMaxContactWrench", "SetNullSpacePosture"]
    assert bench.controller.names() == ["Stop", "SwitchMode", *settings]


@pytest.mark.parametrize("row", [row for row in FAULT_TABLE if row.response in (Response.LOCKOUT, Response.OPERATOR)])
def test_a_status_that_only_a_person_ends_refuses_with_what_to_do(row):
    bench = Bench(override=row.status)
    with pytest.raises(DeviceError) as refusal:
        bench.arm.prepare()
    assert str(refusal.value) == row.sentence()
    assert bench.controller.calls == []


@pytest.mark.parametrize("status", ["BOOTING", "UNKNOWN"])
def test_a_status_that_passes_is_waited_for_up_to_its_deadline(status):
    bench = Bench(override=status)
    started_ns = bench.clock.monotonic_ns()
    with pytest.raises(DeviceError, match=rf"longer than 20 s.*\({status}\)"):
        bench.arm.prepare()
    assert bench.clock.monotonic_ns() - started_ns == pytest.approx(20 * NS_PER_S, abs=0.2 * NS_PER_S)


def test_an_emergency_stop_while_the_brakes_release_ends_the_preparation():
    bench = Bench(enabled=True)
    bench.controller.brakes_ns = bench.clock.monotonic_ns() + 3 * NS_PER_S
    bench.arm._preparation._link.sleep = lambda s: setattr(bench.controller, "override", "ESTOP_NOT_RELEASED")
    with pytest.raises(DeviceError, match="the emergency stop is pressed"):
        bench.arm.prepare()


def test_a_fault_is_cleared_and_one_that_stays_is_reported_with_the_event():
    bench = Bench()
    bench.controller.fail("CRITICAL_FAULT", 42, "torque limit exceeded")
    assert "fault: cleared (CRITICAL_FAULT; event 42: torque limit exceeded)" in bench.arm.prepare()
    bench.controller.fail("MINOR_FAULT", 43, "collision")
    bench.controller.clearable = False
    with pytest.raises(DeviceError, match=r"within 30 s \(MINOR_FAULT; event 43: collision\).*power-cycle"):
        bench.arm.prepare()


# --- tool and force sensor ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"tcp": [0.0, 0.0, 0.2011, 1.0, 0.0, 0.0, 0.0]}, ["0.2011", "0.2000", "1.1 mm"]),
        ({"tcp": [0.0, 0.0, 0.2, 0.9998, 0.0, 0.0, 0.02]}, ["0.040 rad"]),
        ({"mass": 1.25}, ["1.250 kg", "1.186 kg"]),
        ({"mass": math.nan}, ["nan kg"]),
    ],
)
def test_a_tool_that_is_not_the_specs_refuses_naming_both_values(facts, words):
    bench = Bench(**facts)
    with pytest.raises(DeviceError) as refusal:
        bench.arm.prepare()
    for word in words:
        assert word in str(refusal.value)
    assert "SwitchMode" not in bench.controller.names()


def test_a_tool_within_the_tolerances_is_accepted():
    bench = Bench(tcp=[0.0, 0.0009, 0.2, -1.0, 0.0, 0.0, 0.0], mass=1.186 * 1.04)
    bench.arm.prepare()
    assert bench.arm.state().operational


def test_the_profiles_tool_is_switched_to_in_idle_before_it_is_compared():
    bench = Bench(replace(PROFILE, tool="Flexiv-GN01"), tool="Flange", enabled=True)
    bench.controller.mode, bench.controller.zeroed = Mode.NRT_CARTESIAN_MOTION_FORCE, True
    assert "tool: switched to Flexiv-GN01" in bench.arm.prepare()
    assert bench.controller.names()[:2] == ["Stop", "Tool.Switch"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"dtheta": [0.0] * 6 + [-0.1]}, "while the arm moves: 0.100 rad/s"),
        ({"wrench": [0.0, 0.0, -16.0, 0.0, 0.0, 0.0]}, "something touches the tool: 16.0 N"),
        ({"wrench": [0.0, 0.0, math.nan, 0.0, 0.0, 0.0]}, "something touches the tool: nan N"),
        ({"zeroes": False}, "zeroing the force sensor took longer than 10 s"),
    ],
)
def test_the_force_sensor_is_zeroed_only_still_and_free_and_only_confirmed_zeroing_counts(facts, words):
    bench = Bench(**facts)
    with pytest.raises(DeviceError, match=words):
        bench.arm.prepare()
    assert Mode.NRT_CARTESIAN_MOTION_FORCE.name not in [call for name, call in bench.controller.calls]


def test_a_complaint_about_the_force_sensor_makes_the_next_preparation_zero_again():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.zeroed = False
    with pytest.raises(DeviceError, match="event 301004: FT sensor is not calibrated"):
        bench.arm.prepare()
    bench.controller.calls.clear()
    bench.arm.prepare()
    assert ("ExecutePrimitive", "ZeroFTSensor") in bench.controller.calls
    assert bench.arm.state().operational


def test_a_stiffness_above_nominal_is_refused_before_the_mode_is_entered():
    bench = Bench(replace(PROFILE, stiffness=(12000.0, 1.0, 1.0, 1.0, 1.0, 1.0)))
    with pytest.raises(DeviceError, match=r"12000\.0.*10000\.0"):
        bench.arm.prepare()
    assert bench.controller.mode is not Mode.NRT_CARTESIAN_MOTION_FORCE


# --- moving -------------------------------------------------------------------------------------------------------


def test_a_target_goes_out_wxyz_as_plain_floats_with_every_cap():
    bench = Bench()
    bench.arm.prepare()
    bench.arm.send(Pose(np.array([0.5, 0.1, 0.2]), np.array([0.6, 0.0, 0.0, 0.8])))
    pose, wrench, velocity, *caps = bench.controller.last("SendCartesianMotionForce")
    assert pose == pytest.approx([0.5, 0.1, 0.2, 0.8, 0.6, 0.0, 0.0])
    assert wrench == velocity == [0.0] * 6
    assert all(type(value) is float for value in [*pose, *wrench, *velocity, *caps])
    assert caps == [
        *(PROFILE.max_linear_velocity, PROFILE.max_angular_velocity),
        *(PROFILE.max_linear_acceleration, PROFILE.max_angular_acceleration),
    ]


def test_a_stream_of_targets_keeps_the_sign_of_its_quaternions():
    bench = Bench()
    bench.arm.prepare()
    sent = []
    for angle in (-0.02, -0.01, 0.01, 0.02):  # about tool-down, where w passes through zero
        quaternion = np.array([0.0, math.cos(angle), 0.0, math.sin(angle)])
        bench.arm.send(Pose(np.array([0.5, 0.0, 0.2]), quaternion))
        sent.append(bench.controller.last("SendCartesianMotionForce")[0][3:])
    for before, after in itertools.pairwise(sent):
        assert np.dot(before, after) > 0.99


def test_no_target_before_prepare_after_stop_or_after_a_fault():
    bench = Bench()
    target = CELL.spec.home.T_base_tcp
    with pytest.raises(DeviceError, match="not prepared"):
        bench.arm.send(target)
    bench.arm.prepare()
    bench.arm.stop()
    assert not bench.arm.state().operational and bench.arm.state().fault == ""
    with pytest.raises(DeviceError, match="not prepared"):
        bench.arm.send(target)
    bench.arm.prepare()
    bench.controller.fail("MINOR_FAULT", 7, "collision")
    state = bench.arm.state()
    assert not state.operational
    assert state.fault == f"{fault_row('MINOR_FAULT').sentence()}; event 7: collision"
    with pytest.raises(DeviceError, match="event 7"):
        bench.arm.send(target)
    assert "SendCartesianMotionForce" not in bench.controller.names()


def test_a_mode_left_behind_our_back_needs_a_new_preparation_even_when_it_returns():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.mode = Mode.IDLE  # as when the watchdog stops the arm
    assert "left the motion mode (now IDLE)" in bench.arm.state().fault
    bench.controller.mode = Mode.NRT_CARTESIAN_MOTION_FORCE
    assert not bench.arm.state().operational, "the settings of a mode entered by somebody else are not ours"
    bench.arm.prepare()
    assert bench.arm.state().operational and bench.arm.state().fault == ""


def test_a_refusal_and_a_lost_connection_are_told_apart():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.mode = Mode.IDLE
    with pytest.raises(DeviceError, match=r"refused SendCartesian.*applicable control mode") as refusal:
        bench.arm.send(CELL.spec.home.T_base_tcp)
    assert not isinstance(refusal.value, ConnectionLostError)
    bench.controller.connected = False
    for ask in (bench.arm.state, bench.gripper.state, lambda: bench.arm.send(CELL.spec.home.T_base_tcp)):
        with pytest.raises(ConnectionLostError, match="check the cable"):
            ask()


def test_reconnecting_waits_for_the_back_off_and_starts_all_over():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.connected = bench.controller.answers = False
    for _ in range(2):
        with pytest.raises(DeviceError, match="Failed to connect"):
            bench.arm.prepare()
    bench.controller.answers = True
    bench.controller.calls.clear()
    steps = bench.arm.prepare()
    assert steps[0] == f"connection: made anew to {SERIAL}"
    times = [at for at, *_ in bench.connections]
    assert min(np.diff(times)) >= RECONNECT_BACKOFF_S * NS_PER_S
    assert "ExecutePrimitive" in bench.controller.names(), "a new connection needs a zeroed sensor again"
    assert "gripper: enabled Flexiv-GN01 anew" in steps and "Gripper.Init" in bench.controller.names()
    assert bench.arm.state().operational
    assert bench.arm.diagnostics()["connections made"] == "2"


@pytest.mark.parametrize("quaternion", [[0.0] * 4, [math.nan] * 4])
def test_an_orientation_that_is_none_is_a_device_error(quaternion):
    bench = Bench()
    bench.controller.tcp_pose[3:] = quaternion
    with pytest.raises(DeviceError, match="pose that is none"):
        bench.arm.state()


def test_the_state_is_ours_normalised_and_stamped_in_host_time():
    bench = Bench()
    state = bench.arm.state()
    assert state.T_base_tcp.quaternion.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert state.stamp_ns == bench.clock.realtime_ns()
    assert state.q.dtype == np.float64 and state.q.shape == (7,)


def test_diagnostics_name_status_temperature_and_call_times():
    bench = Bench()
    bench.arm.prepare()
    bench.arm.state()
    bench.gripper.move(0.05)
    values = bench.arm.diagnostics()
    assert values["status"] == "READY" and values["hottest joint"] == "44.5 degC"
    assert values["call Gripper.Move"].startswith("p50 ")
    assert bench.gripper.diagnostics()["gripper"] == "Flexiv-GN01, initialised"
    assert bench.gripper.diagnostics()["gripper limits"] == "0 to 0.1 m"


def test_describe_asks_without_changing_anything():
    bench = Bench()
    facts = bench.arm.describe()
    assert bench.controller.calls == []
    assert facts["emergency stop"] == "released" and facts["force sensor zeroed"] == "no"
    assert [float(word) for word in facts["tool tcp"].split()[:3]] == [0.0, 0.0, 0.2]
    assert facts["tool mass"] == "1.1860 kg"
    bench.arm.prepare()
    assert bench.arm.describe()["force sensor zeroed"] == "yes"


def test_a_closed_device_says_so_and_the_other_one_goes_on():
    bench = Bench()
    bench.arm.close()
    bench.arm.close()
    with pytest.raises(DeviceError, match="closed"):
        bench.arm.state()
    bench.gripper.prepare()
    assert bench.gripper.state().width == 0.05
    bench.gripper.close()
    with pytest.raises(DeviceError, match="closed"):
        bench.gripper.state()


# --- gripper ------------------------------------------------------------------------------------------------------


def test_the_gripper_moves_within_the_limits_it_reports():
    bench = Bench()
    with pytest.raises(DeviceError, match="not enabled"):
        bench.gripper.move(0.05)
    bench.gripper.prepare()
    for wanted, width in ((0.3, 0.1), (-0.1, 0.0), (np.float64(0.04), 0.04)):
        bench.gripper.move(wanted)
        assert bench.controller.last("Gripper.Move") == (width, 0.15, 30.0), "speed and force: the gripper's largest"
    for wanted in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            bench.gripper.move(wanted)


def test_initialising_waits_for_the_fingers_and_at_least_as_long_as_the_profile_says():
    bench = Bench(replace(PROFILE, gripper_init_s=2.0))
    started_ns = bench.clock.monotonic_ns()
    bench.gripper.prepare()
    assert bench.clock.monotonic_ns() - started_ns == pytest.approx(6 * NS_PER_S, abs=0.1 * NS_PER_S)
    bench = Bench(replace(PROFILE, gripper_init_s=10.0))
    started_ns = bench.clock.monotonic_ns()
    bench.gripper.prepare()
    assert bench.clock.monotonic_ns() - started_ns == pytest.approx(10 * NS_PER_S, abs=0.1 * NS_PER_S)


def test_a_gripper_disabled_behind_our_back_refuses_and_is_prepared_anew():
    bench = Bench()
    bench.arm.prepare()
    bench.controller.gripper = ""
    with pytest.raises(DeviceError, match="No gripper enabled"):
        bench.gripper.move(0.05)
    assert math.isnan(bench.gripper.state().width)
    assert bench.gripper.prepare()[0] == "gripper: enabled Flexiv-GN01"
    assert bench.gripper.state().width == 0.05


@pytest.mark.parametrize("text", ["a gripper is already enabled", "[Flexiv-GN01] is currently enabled"])
def test_a_gripper_left_enabled_is_enabled_anew_however_the_library_words_it(text, monkeypatch):
    def refuse_once(self: FakeGripper, name: str) -> None:
        if self._c.gripper:
            raise RuntimeError(f"[flexiv::rdk::Gripper::Enable] {text}")
        self._c.gripper = name

    bench = Bench(gripper="Flexiv-GN01")
    monkeypatch.setattr(FakeGripper, "Enable", refuse_once)
    assert bench.gripper.prepare()[0] == "gripper: enabled Flexiv-GN01 anew"


def test_another_gripper_on_the_controller_is_not_taken_for_ours():
    bench = Bench(gripper="Robotiq")
    with pytest.raises(DeviceError, match=r"\[Robotiq\] is currently enabled.*wants 'Flexiv-GN01'"):
        bench.gripper.prepare()


# --- the library, the stop, the command line ----------------------------------------------------------------------


def test_a_missing_or_wrong_library_gets_one_sentence(monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(flexiv_link.sys, "version_info", (3, 11, 7))
    with pytest.raises(DeviceError, match=r"cannot be installed in Python 3\.11.*use 3\.12"):
        load_rdk()
    monkeypatch.setattr(flexiv_link.sys, "version_info", (3, 12, 1))
    with pytest.raises(DeviceError, match=r"not installed in this Python 3\.12: pip install flexivrdk==1\.9\.4\.1"):
        load_rdk()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")
    with pytest.raises(DeviceError, match=r"flexivrdk 2\.1\.0 is installed"):
        load_rdk()


def test_a_library_that_does_not_load_is_a_device_error(monkeypatch):
    def broken(name: str) -> Any:
        raise ImportError("GLIBC_2.35 not found")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.9.4.1")
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(DeviceError, match=r"GLIBC_2\.35"):
        load_rdk()


def test_the_stop_is_a_lite_connection_that_waits_for_the_robots_own(monkeypatch):
    made, slept = [], []

    def robot(*arguments: Any) -> Any:
        made.append(arguments)
        if len(made) < 3:
            raise RuntimeError("[flexiv::rdk::Robot] Failed to sync RDK server version")
        return SimpleNamespace(Stop=lambda: made.append("Stop"))

    stop = flexiv.connect_stop(SERIAL, rdk=SimpleNamespace(Robot=robot), sleep=slept.append)
    stop.stop()
    assert made == [(SERIAL, [], False, True)] * 3 + ["Stop"]
    assert slept == [RECONNECT_BACKOFF_S] * 2
    stop.close()
    with pytest.raises(DeviceError, match="closed"):
        stop.stop()
    with pytest.raises(DeviceError, match="sync RDK"):
        made.clear()
        flexiv.connect_stop(SERIAL, rdk=SimpleNamespace(Robot=robot), timeout_s=0.0)


def test_the_command_line_fails_with_one_sentence(monkeypatch, capsys):
    def no_robot(*arguments: Any) -> Any:
        raise RuntimeError(f"[flexiv::rdk::Robot] Failed to connect to [{arguments[0]}]. Please check that: a) cable")

    monkeypatch.setattr(flexiv, "load_rdk", lambda: SimpleNamespace(Robot=no_robot))
    assert flexiv.main([SERIAL]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "Failed to connect" in captured.err


def test_the_command_line_prints_what_it_read(monkeypatch, capsys):
    controller = Controller(ManualClock())
    rdk = SimpleNamespace(Robot=lambda *arguments: FakeRobot(controller), Gripper=FakeGripper, Tool=FakeTool)
    monkeypatch.setattr(flexiv, "load_rdk", lambda: rdk)
    assert flexiv.main([SERIAL]) == 0
    printed = capsys.readouterr().out
    assert f"serial: {SERIAL}\n" in printed and "status: NOT_ENABLED\n" in printed
    assert controller.calls == []


def test_a_cell_without_a_motion_profile_cannot_drive_the_arm():
    cell = CellFolder(path=Path("lab"), spec=CELL.spec, safety=CELL.safety, calibration=CELL.calibration)
    with pytest.raises(DeviceError, match=r"lab: .*motion\.yaml"):
        flexiv.connect_robot(SERIAL, cell=cell, rdk=SimpleNamespace())


@pytest.mark.parametrize(
    ("field_", "value"),
    [
        ("max_linear_velocity", 0.0),
        ("max_angular_acceleration", math.inf),
        ("damping", (0.9,) * 6),
        ("stiffness", (0.0,) * 6),
        ("gripper", ""),
        ("gripper_init_s", -1.0),
    ],
)
def test_a_motion_profile_refuses_what_the_arm_must_not_get(field_, value):
    with pytest.raises(ValueError, match=field_):
        replace(PROFILE, **{field_: value})


# --- the table, the clock -----------------------------------------------------------------------------------------


def test_the_fault_table_has_one_row_per_status_of_the_vendor_and_one_for_no_connection():
    names = {
        *("UNKNOWN", "READY", "BOOTING", "ESTOP_NOT_RELEASED", "NOT_ENABLED", "RELEASING_BRAKE", "MINOR_FAULT"),
        *("CRITICAL_FAULT", "IN_REDUCED_STATE", "IN_RECOVERY_STATE", "IN_MANUAL_MODE", "IN_AUTO_MODE", "DISCONNECTED"),
    }
    assert [row.status for row in FAULT_TABLE] and {row.status for row in FAULT_TABLE} == names
    assert len(FAULT_TABLE) == len(names)
    assert all(name in markdown() for name in names)
    assert fault_row("FROM_THE_FUTURE").response is Response.OPERATOR


def test_the_robots_clock_is_mapped_by_its_fastest_reading_and_follows_drift():
    clock = ManualClock(now_ns=50 * NS_PER_S, realtime_offset_ns=1_000 * NS_PER_S)
    mapped = RobotClock(clock)
    for delay_ms in (5, 1, 9):
        clock.advance(NS_PER_S // 10)
        made_ns = clock.realtime_ns()
        clock.advance(delay_ms * 1_000_000)
        stamp_ns = mapped.stamp_ns(made_ns - ROBOT_BEHIND_NS)
        assert stamp_ns <= clock.realtime_ns()
    assert stamp_ns - made_ns == 1_000_000, "the shortest delay seen is all that is left"
    assert mapped.offset_s() == pytest.approx(ROBOT_BEHIND_NS / NS_PER_S + 0.001)
    clock.realtime_offset_ns += NS_PER_S  # the host's clock is set: stamps follow at once
    assert mapped.stamp_ns(made_ns - ROBOT_BEHIND_NS) - made_ns == NS_PER_S + 1_000_000
    slow_ns = clock.realtime_ns() - ROBOT_BEHIND_NS
    for _ in range(3):  # the robot loses 20 ms per window
        clock.advance(WINDOW_NS)
        slow_ns += WINDOW_NS - 20_000_000
        stamp_ns = mapped.stamp_ns(slow_ns)
    assert clock.realtime_ns() - stamp_ns <= 20_000_000


def test_a_stamp_that_stands_still_grows_old():
    clock = ManualClock(now_ns=50 * NS_PER_S)
    mapped = RobotClock(clock)
    first_ns = mapped.stamp_ns(NS_PER_S)
    for _ in range(5):
        clock.advance(WINDOW_NS)
        assert mapped.stamp_ns(NS_PER_S) == first_ns


def test_stamps_of_newer_readings_never_go_back_and_a_repeated_one_keeps_its_own():
    clock = ManualClock(now_ns=50 * NS_PER_S, realtime_offset_ns=1_000 * NS_PER_S)
    mapped = RobotClock(clock)
    robot_ns, stamps = 0, []
    for delay_ms, jitter_ns in ((9, 0), (9, -300), (4, 200), (0, -100), (6, -500)):
        clock.advance(2_000_000)
        robot_ns = clock.monotonic_ns()
        clock.advance(delay_ms * 1_000_000)
        clock.realtime_offset_ns = 1_000 * NS_PER_S + jitter_ns  # two clocks are not read in one instant
        stamps.append(mapped.stamp_ns(robot_ns))
        clock.realtime_offset_ns -= 250
        assert mapped.stamp_ns(robot_ns) == stamps[-1]
    assert all(b > a for a, b in itertools.pairwise(stamps))
