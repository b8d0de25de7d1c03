"""The stand-in of the vendor's library: the robot it shows, what it refuses and with which words, how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_sim.box import ControllerBox
from vla_rft_sim.client import SimWorldClient, connect_truth
from vla_rft_sim.kinematic_world import KinematicWorld
from vla_rft_sim.rdk import module_for, module_over
from vla_rft_sim.rdk_calls import SERIAL
from vla_rft_sim.rdk_link import LinkLost
from vla_rft_sim.rdk_service import RdkService
from vla_rft_sim.world_protocol import STEP_NS

DURATIONS = 0.01
HOME = [0.4, 0.0, 0.28, 0.0, 0.0, 1.0, 0.0]


class LocalLink:
    """A link to a box in this process, whose time passes only while somebody waits."""

    def __init__(self, box: ControllerBox) -> None:
        self.box = box
        self.durations = DURATIONS
        self.held_s = 0.0
        self._service = RdkService(box, read=self._read, run=lambda f: f(), post=lambda f: f())
        self._session = self._service.answer({"call": "open"})

    def _read(self) -> Any:
        return self.box.world.arm_state(0), self.box.world.gripper_state(0)

    def call(self, name: str, *arguments: Any) -> Any:
        answer = self._ask({"call": name, "session": self._session, "arguments": list(arguments)})
        while "ticket" in answer:
            self.hold(answer["hold_s"])
            answer = self._ask({"ticket": answer["ticket"]})
        if "raises" in answer:
            kind, text = answer["raises"]
            raise (ValueError if kind == "ValueError" else RuntimeError)(text)
        return answer["value"]

    def _ask(self, fields: dict[str, Any]) -> Any:
        answer = self._service.answer(fields)
        self.hold(answer.get("stall_s", 0.0))
        if "lost" in answer:
            raise LinkLost
        return answer

    def report(self) -> dict[str, Any]:
        return self.call("Robot.report")

    def hold(self, duration_s: float) -> None:
        self.held_s += duration_s
        for _ in range(round(duration_s * 1e9 / STEP_NS) + (duration_s > 0.0)):
            self.box.world.advance(STEP_NS)
            self.box.step()


@pytest.fixture
def link() -> LocalLink:
    return LocalLink(ControllerBox(KinematicWorld(), durations=DURATIONS))


@pytest.fixture
def rdk(link: LocalLink) -> Any:
    return module_over(lambda serial, lite: link)


@pytest.fixture
def robot(rdk: Any) -> Any:
    return rdk.Robot(SERIAL)


def let_until(link: LocalLink, condition: Callable[[], bool]) -> None:
    for _ in range(4000):
        if condition():
            return
        link.hold(0.005)
    raise AssertionError("it never happened")


def prepare(rdk: Any, robot: Any, link: LocalLink) -> None:
    robot.Enable()
    let_until(link, robot.operational)
    robot.SwitchMode(rdk.Mode.NRT_PRIMITIVE_EXECUTION)
    robot.ExecutePrimitive("ZeroFTSensor", {})
    let_until(link, lambda: robot.primitive_states()["terminated"] == 1)
    robot.SwitchMode(rdk.Mode.NRT_CARTESIAN_MOTION_FORCE)


def test_it_comes_up_as_the_real_one_does(rdk: Any, robot: Any, link: LocalLink) -> None:
    assert robot.connected() and robot.mode() == rdk.Mode.IDLE
    assert robot.operational_status() == rdk.OperationalStatus.NOT_ENABLED
    assert robot.info().DoF == 7 and robot.info().K_x_nom[0] == 10000.0 and robot.info().has_FT_sensor
    robot.Enable()
    assert robot.operational_status() == rdk.OperationalStatus.RELEASING_BRAKE
    let_until(link, robot.operational)


def test_states_are_fresh_copies(robot: Any) -> None:
    states = robot.states()
    states.tcp_pose[0] = 5.0
    assert states.tcp_pose == pytest.approx(HOME, abs=1e-5)
    assert robot.states() is not robot.states()


def test_a_command_is_played_and_finished(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    goal = [0.45, 0.05, 0.25, *HOME[3:]]
    robot.SendCartesianMotionForce(goal, max_linear_vel=0.3)
    link.hold(0.05)
    assert robot.busy() and not robot.stopped()
    let_until(link, robot.stopped)
    assert robot.states().tcp_pose[:3] == pytest.approx(goal[:3], abs=2e-3)


def test_stop_blocks_until_the_arm_stands(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    robot.SendCartesianMotionForce([0.5, 0.1, 0.25, *HOME[3:]])
    link.hold(0.2)
    robot.Stop()
    assert robot.stopped() and robot.mode() == rdk.Mode.IDLE
    with pytest.raises(RuntimeError, match=r"SendCartesianMotionForce. Robot is not in an applicable control mode"):
        robot.SendCartesianMotionForce(HOME)


def test_cartesian_mode_without_a_zeroed_sensor_is_a_fault(rdk: Any, robot: Any, link: LocalLink) -> None:
    robot.Enable()
    let_until(link, robot.operational)
    with pytest.raises(RuntimeError, match=r"Failed to switch control mode to .NRT_CARTESIAN_MOTION_FORCE"):
        robot.SwitchMode(rdk.Mode.NRT_CARTESIAN_MOTION_FORCE)
    (event,) = robot.event_log()
    assert event.id == 301004 and event.level == rdk.RobotEvent.Level.ERROR
    assert robot.fault() and robot.operational_status() == rdk.OperationalStatus.MINOR_FAULT
    assert robot.ClearFault() is True and not robot.fault()


def test_a_new_session_must_zero_again(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    other = rdk.Robot(SERIAL)
    with pytest.raises(RuntimeError, match=r"Failed to switch"):
        other.SwitchMode(rdk.Mode.NRT_CARTESIAN_MOTION_FORCE)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda r: r.SetCartesianImpedance([20000.0] * 6), ValueError, r"\[K_x\] contains value outside"),
        (lambda r: r.SetCartesianImpedance([1.0] * 6, [0.9] * 6), ValueError, r"\[Z_x\] contains value outside"),
        (lambda r: r.SetMaxContactWrench([-1.0] * 6), ValueError, r"\[max_wrench\] contains negative"),
        (lambda r: r.SetNullSpacePosture([0.0] * 6), ValueError, r"\[ref_positions\] does not match robot DoF"),
        (lambda r: r.SetNullSpaceObjectives(0.0, 0.0, 0.05), ValueError, r"\[ref_positions_tracking\]"),
        (lambda r: r.SendCartesianMotionForce(HOME, max_linear_vel=0.0), ValueError, "must be greater than 0"),
        (lambda r: r.SendCartesianMotionForce([0.0] * 6), TypeError, "incompatible function arguments"),
        (lambda r: r.SendJointPosition([0.0] * 7, [0.0] * 7, [1.0] * 7, [1.0] * 7), RuntimeError, "control mode"),
        (lambda r: r.SetPassiveForceControl(True), RuntimeError, "Robot is not in IDLE mode"),
        (lambda r: r.SwitchMode(type(r.mode())(2)), ValueError, "Invalid control mode input"),
        (lambda r: r.SwitchMode(1), TypeError, "incompatible function arguments"),
    ],
)
def test_refusals_in_motion_mode(rdk: Any, robot: Any, link: LocalLink, call: Any, error: type, text: str) -> None:
    prepare(rdk, robot, link)
    with pytest.raises(error, match=text):
        call(robot)


def test_settings_are_kept_until_the_mode_is_entered_again(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    robot.SetMaxContactWrench([float("inf")] * 6)
    assert "SetMaxContactWrench" in link.box.settings
    robot.SwitchMode(rdk.Mode.NRT_CARTESIAN_MOTION_FORCE)
    assert link.box.settings == {}


def test_faults_show_and_block(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    link.box.inject("estop", True)
    assert not robot.estop_released() and robot.mode() == rdk.Mode.IDLE
    with pytest.raises(RuntimeError, match=r"E-stop is not released"):
        robot.Enable()
    with pytest.raises(RuntimeError, match=r"Robot is not operational: E-Stop not released"):
        robot.SwitchMode(rdk.Mode.NRT_CARTESIAN_MOTION_FORCE)


def test_clearing_takes_its_time_and_gives_up(robot: Any, link: LocalLink) -> None:
    link.box.inject("critical_fault", True)
    assert robot.ClearFault(5) is False and robot.fault()
    assert robot.ClearFault() is True
    link.box.inject("joint_limit", True)
    assert robot.recovery() and robot.ClearFault() is False


def test_a_lost_connection(rdk: Any, robot: Any, link: LocalLink) -> None:
    q = robot.states().q
    link.box.inject("connection_lost", True)
    assert not robot.connected() and robot.states().q == q
    assert robot.operational_status() == rdk.OperationalStatus.UNKNOWN
    with pytest.raises(RuntimeError, match=r"Robot is not connected"):
        robot.Enable()
    with pytest.raises(RuntimeError, match=r"not operational: Unknown status"):
        robot.SendCartesianMotionForce(HOME)
    with pytest.raises(RuntimeError, match=r"Failed to switch control mode to IDLE"):
        robot.Stop()
    link.box.inject("connection_lost", False)
    assert robot.connected()


def test_the_gripper_in_its_order(rdk: Any, robot: Any, link: LocalLink) -> None:
    gripper = rdk.Gripper(robot)
    with pytest.raises(RuntimeError, match=r"Move. No gripper enabled"):
        gripper.Move(0.05, 0.1, 20)
    with pytest.raises(ValueError, match=r"The specified gripper .Robotiq. does not exist"):
        gripper.Enable("Robotiq")
    assert gripper.params().name == ""
    gripper.Enable("Flexiv-GN01")
    with pytest.raises(RuntimeError, match=r"is currently enabled"):
        gripper.Enable("Flexiv-GN01")
    gripper.Init()
    assert gripper.states().is_moving
    let_until(link, lambda: not gripper.states().is_moving)
    assert gripper.params().max_width == 0.1
    with pytest.raises(ValueError, match=r"\[width\] is outside the valid range"):
        gripper.Move(0.2, 0.1, 20)
    gripper.Move(0.02, 0.1, 20)
    let_until(link, lambda: not gripper.states().is_moving)
    assert gripper.states().width == pytest.approx(0.02)
    gripper.Grasp(10.0)
    let_until(link, lambda: not gripper.states().is_moving)
    assert gripper.states().width == 0.0
    link.box.inject("gripper_not_enabled", True)
    with pytest.raises(RuntimeError, match=r"No gripper enabled"):
        gripper.Stop()
    with pytest.raises(RuntimeError, match=r"Failed to deliver"):
        gripper.Enable("Flexiv-GN01")


def test_tools_change_in_idle_only_and_move_the_tcp(rdk: Any, robot: Any, link: LocalLink) -> None:
    tool = rdk.Tool(robot)
    assert tool.list() == ["Flange", "Flexiv-GN01"] and tool.name() == "Flexiv-GN01"
    assert tool.params().mass == 1.186 and tool.params().tcp_location[2] == 0.2
    height = robot.states().tcp_pose[2]
    tool.Switch("Flange")
    assert robot.states().tcp_pose[2] == pytest.approx(height + 0.2)
    with pytest.raises(ValueError, match=r"The specified tool .x. does not exist"):
        tool.Switch("x")
    tool.Add("copy", tool.params("Flexiv-GN01"))
    tool.Switch("copy")
    tool.Remove("copy")
    assert tool.name() == "Flange"
    prepare(rdk, robot, link)
    with pytest.raises(RuntimeError, match=r"Switch. Robot is not in IDLE mode"):
        tool.Switch("Flexiv-GN01")


def test_plans_and_primitives(rdk: Any, robot: Any, link: LocalLink) -> None:
    robot.Enable()
    let_until(link, robot.operational)
    robot.SwitchMode(rdk.Mode.NRT_PLAN_EXECUTION)
    robot.ExecutePlan(robot.plan_list()[0])
    assert robot.busy() and robot.plan_info().pt_name == "Home"
    robot.StopPlan()
    with pytest.raises(ValueError, match=r"\[index\] is outside"):
        robot.ExecutePlan(7)
    robot.SwitchMode(rdk.Mode.NRT_PRIMITIVE_EXECUTION)
    robot.ExecutePrimitive("Home", {})
    let_until(link, lambda: robot.primitive_states()["reachedTarget"] == 1)
    assert robot.states().q[3] == pytest.approx(1.5708, abs=5e-3)


def test_waypoints_of_a_super_primitive(rdk: Any, robot: Any, link: LocalLink) -> None:
    prepare(rdk, robot, link)
    robot.SwitchMode(rdk.Mode.NRT_SUPER_PRIMITIVE)
    ways = [rdk.NrtCartesianCmd([0.4, 0.03, 0.28, *HOME[3:]]), rdk.NrtCartesianCmd([0.4, 0.03, 0.31, *HOME[3:]])]
    with pytest.raises(ValueError, match=r"the same number of waypoints"):
        robot.SendMultiCartesianMotionForce(ways, [[0.0] * 7])
    robot.SendMultiCartesianMotionForce(ways, [[0.0] * 7] * 2)
    let_until(link, lambda: not robot.busy())
    assert robot.states().tcp_pose[1:3] == pytest.approx([0.03, 0.31], abs=2e-3)


def test_setters_know_no_more_than_the_settings(robot: Any) -> None:
    with pytest.raises(ValueError, match=r"port index outside"):
        robot.SetDigitalOutputs({18: True})
    with pytest.raises(ValueError, match=r"Input map .global_vars. is empty"):
        robot.SetGlobalVariables({})
    with pytest.raises(RuntimeError, match=r"only available to medical robots"):
        robot.Brake(True)
    assert robot.digital_inputs() == [False] * 18


def test_over_a_real_world_process(start_world: Callable[..., Any]) -> None:
    world = start_world("--durations", "0.01")
    rdk = module_for(world.address, durations=0.001)
    robot = rdk.Robot(SERIAL)
    truth = connect_truth(world.address)
    robot.Enable()
    while not robot.operational():
        time.sleep(0.005)
    robot.SwitchMode(rdk.Mode.NRT_JOINT_POSITION)
    goal = [value + 0.05 for value in robot.states().q]
    robot.SendJointPosition(goal, [0.0] * 7, [1.0] * 7, [4.0] * 7)
    assert truth.status().commands == 1
    while max(abs(a - b) for a, b in zip(robot.states().q, goal, strict=True)) > 2e-3:
        time.sleep(0.01)
    lite = rdk.Robot(SERIAL, [], False, True)
    lite.Stop()
    assert lite.lite() and truth.status().stop_count == 1 and robot.mode() == rdk.Mode.IDLE
    limited = SimWorldClient(world.address, "lite")
    with pytest.raises(DeviceError, match=r"a lite connection may call"):
        limited.request("lite", session=limited.request("lite", call="open"), call="Robot.Enable", arguments=[])
    with pytest.raises(RuntimeError, match=r"Failed to connect to .Rizon4s-999999."):
        rdk.Robot("Rizon4s-999999")
    truth.close()
    limited.close()


def test_calls_keep_the_interpreters_lock(start_world: Callable[..., Any]) -> None:
    world = start_world("--durations", "0.01")
    robot = module_for(world.address).Robot(SERIAL)
    truth = connect_truth(world.address)
    truth.inject("gil_stall")
    started, ended = threading.Event(), threading.Event()
    ticks = [0]

    def tick() -> None:
        while not ended.wait(0.002):
            ticks[0] += 1
            started.set()

    thread = threading.Thread(target=tick)
    thread.start()
    started.wait()
    before = ticks[0]
    robot.connected()
    during = ticks[0] - before
    ended.set()
    thread.join()
    truth.close()
    assert during < 100, "three seconds have room for more than a thousand"


def test_no_world_at_all(tmp_path: Any) -> None:
    rdk = module_for(str(tmp_path / "none.sock"), durations=0.001)
    with pytest.raises(RuntimeError, match=r"^\[flexiv::rdk::Robot\] Failed to connect to \[Rizon4s-000001\]"):
        rdk.Robot(SERIAL)
    with pytest.raises(RuntimeError, match=r"Failed to sync RDK server version"):
        rdk.Robot(SERIAL, lite=True)
    with pytest.raises(ValueError, match=r"serial number \[bogus\] is invalid"):
        rdk.Robot("bogus")
