"""Dead-man and lease: what Teleop asks for and sends, tick by tick, on a node that is not there. Starts no process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.clock import ROSClock
from rclpy.serialization import serialize_message

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_hardware.protocols import TeleopCommand
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes import convert, teleop, topics
from vla_rft_nodes.teleop import Teleop
from vla_rft_nodes.watchdog_node import NODE_OF_SOURCE

SPEC = find_cell("vla_rft_sim:towel_cell").spec
HERE = Pose((0.5, 0.0, 0.3), (0.0, 1.0, 0.0, 0.0))
ASK, GIVE_BACK = ("ACTIVE", "teleop"), ("READY", "teleop")


@dataclass
class Hand:
    """A device that does what the test says."""

    enabled: bool = False
    keys: list[str] = field(default_factory=list)
    gone: bool = False
    starts: int = 0
    closed: bool = False

    def start(self) -> None:
        self.starts += 1

    def read(self, state: RobotState) -> TeleopCommand:
        if self.gone:
            raise DeviceError("the hand is gone")
        return TeleopCommand(1, self.enabled, np.array([0.01, 0.0, 0.0]), np.zeros(3), 0.05)

    def recorder_keys(self) -> list[str]:
        keys, self.keys = self.keys, []
        return keys

    def close(self) -> None:
        self.closed = True


class Answer:
    """A future that is done when the test says so."""

    def add_done_callback(self, callback) -> None:
        self.callback = callback

    def give(self, error: str = "") -> None:
        response = SimpleNamespace(error_code=int(bool(error)), error_msg=error)
        self.callback(SimpleNamespace(result=lambda: response))


class FakeNode:
    """What Teleop uses of a node: requests and chunks are kept, messages are handed in."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.answers: list[Answer] = []
        self.chunks: list = []
        self.beats: list = []
        self.timers: list = []
        self.warnings: list[str] = []
        self.callbacks: dict = {}

    def create_publisher(self, kind, topic, qos):
        kept = self.chunks if topic == topics.ACTION_CHUNK else self.beats
        return SimpleNamespace(publish=kept.append)

    def create_timer(self, period_s, callback):
        self.timers.append((period_s, callback))
        return callback

    def destroy_timer(self, timer) -> None:
        self.timers = [(period_s, callback) for period_s, callback in self.timers if callback != timer]

    def get_clock(self):
        return ROSClock()

    def create_client(self, kind, name):
        return SimpleNamespace(call_async=self._call)

    def create_subscription(self, kind, topic, callback, qos, raw=False):
        self.callbacks[topic] = callback

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)

    def _call(self, request) -> Answer:
        self.requests.append((request.mode, request.source))
        self.answers.append(Answer())
        return self.answers[-1]

    def say_mode(self, mode: str, source: str = "") -> None:
        self.callbacks[topics.SAFETY_STATUS](SafetyStatus(mode=mode, source=source))

    def say_state(self) -> None:
        arm = ArmState(1, np.zeros(7), np.zeros(7), np.zeros(7), HERE, np.zeros(6), np.zeros(6))
        state = RobotState(arm, GripperState(1, 0.08, 0.0, False), SetPoint(HERE, 0.08))
        self.callbacks[topics.ROBOT_STATE](serialize_message(convert.to_robot_state(state)))


class Table:
    """A hand, a node and the Teleop between them."""

    def __init__(self, *, linger_s: float = 0.0) -> None:
        self.hand, self.node, self.keys = Hand(), FakeNode(), []
        self.teleop = Teleop(self.node, self.hand, SPEC, on_key=self.keys.append, linger_s=linger_s)
        self.node.say_state()
        self.node.say_mode("READY")

    def tick(self, *, press: bool | None = None) -> None:
        if press is not None:
            self.hand.enabled = press
        self.teleop.tick()

    def take(self) -> None:
        """Press, and be given the lease."""
        self.tick(press=True)
        self.node.say_mode("ACTIVE", "teleop")


def test_pressing_asks_holding_sends_releasing_gives_back():
    table = Table()
    table.tick()
    assert table.node.requests == []
    table.tick(press=True)
    table.tick()
    assert table.node.requests == [ASK]
    assert table.node.chunks == []
    table.node.say_mode("ACTIVE", "teleop")
    table.tick()
    table.tick()
    assert [chunk.sequence for chunk in table.node.chunks] == [0, 1]
    chunk = table.node.chunks[0]
    assert (chunk.source, len(chunk.tcp_targets), list(chunk.gripper_widths)) == ("teleop", 1, [0.05])
    assert chunk.tcp_targets[0].position.x == pytest.approx(0.51)
    table.tick(press=False)
    assert table.node.requests == [ASK, GIVE_BACK]
    assert len(table.node.chunks) == 2
    assert table.hand.starts == 1


def test_pressing_while_a_policy_runs_asks_for_its_lease():
    table = Table()
    table.node.say_mode("ACTIVE", "policy")
    table.tick(press=True)
    assert table.node.requests == [ASK]
    assert table.node.chunks == []


def test_a_lease_that_comes_after_the_release_goes_straight_back():
    table = Table()
    table.tick(press=True)
    table.tick(press=False)
    table.node.say_mode("ACTIVE", "teleop")
    table.tick()
    assert table.node.requests == [ASK, GIVE_BACK]
    assert table.node.chunks == []


def test_a_lease_given_by_somebody_else_is_left_alone():
    """The trial runner gives teleoperation the lease before the expert has a plan."""
    table = Table()
    table.node.say_mode("ACTIVE", "teleop")
    table.tick()
    table.tick()
    assert table.node.requests == []


def test_a_refused_press_is_told_and_forgotten():
    table = Table()
    table.tick(press=True)
    table.node.answers[0].give("HOLD_LATCHED (camera): re-arm first")
    assert table.node.warnings == ["the lease was refused: HOLD_LATCHED (camera): re-arm first"]
    table.tick()
    table.tick(press=False)
    table.node.say_mode("ACTIVE", "teleop")  # by somebody else, later
    table.tick()
    assert table.node.requests == [ASK]


def test_a_hold_under_a_pressed_dead_man_needs_a_fresh_press():
    table = Table()
    table.take()
    table.tick()
    table.node.say_mode("HOLD_LATCHED")
    table.tick()
    table.node.say_mode("READY")
    table.tick()
    assert table.node.requests == [ASK]
    assert len(table.node.chunks) == 1
    table.tick(press=False)
    table.tick(press=True)
    assert table.node.requests == [ASK, ASK]


def test_the_lease_may_outlive_the_dead_man(monkeypatch):
    table = Table(linger_s=1.0)
    now = SimpleNamespace(monotonic_ns=lambda: 0)
    monkeypatch.setattr(table.teleop, "_clock", now)
    table.take()
    table.tick()
    now.monotonic_ns = lambda: 900_000_000
    table.tick(press=False)
    assert table.node.requests == [ASK]
    table.tick(press=True)  # the next press needs no asking
    now.monotonic_ns = lambda: 1_800_000_000
    table.tick(press=False)
    assert table.node.requests == [ASK]
    assert len(table.node.chunks) == 2
    now.monotonic_ns = lambda: 2_000_000_000
    table.tick()
    assert table.node.requests == [ASK, GIVE_BACK]


def test_a_lost_device_gives_the_lease_back_before_it_is_reported():
    table = Table()
    table.take()
    table.tick()
    table.hand.gone = True
    table.tick()
    assert table.node.requests == [ASK, GIVE_BACK]
    assert not table.teleop.pressed
    table.tick()
    table.node.say_mode("READY")
    with pytest.raises(DeviceError, match="the hand is gone"):
        table.tick()
    assert len(table.node.chunks) == 1


def test_a_lost_device_is_reported_even_if_nobody_takes_the_lease_back(monkeypatch):
    table = Table()
    table.take()
    table.hand.gone = True
    table.tick()
    monkeypatch.setattr(teleop, "LEAVE_NS", -1)
    with pytest.raises(DeviceError, match="the hand is gone"):
        table.tick()


def test_recorder_keys_are_passed_on_and_move_nothing():
    table = Table()
    table.hand.keys = ["keep", "undo"]
    table.tick()
    table.tick()
    assert table.keys == ["keep", "undo"]
    assert table.node.requests == []
    assert table.node.chunks == []


def test_recorder_keys_work_before_the_robot_does():
    hand, keys = Hand(enabled=True, keys=["stop"]), []
    node = FakeNode()
    Teleop(node, hand, SPEC, on_key=keys.append).tick()
    assert keys == ["stop"]
    assert node.requests == []


def test_steps_accumulate_on_the_commanded_pose():
    table = Table()
    table.take()
    command = table.hand.read(None)
    table.hand.read = lambda state: replace(command, rotvec=np.array([0.0, 0.0, 0.1]))
    table.tick()
    (target,) = table.node.chunks[0].tcp_targets
    sent = Pose(
        (target.position.x, target.position.y, target.position.z),
        (target.orientation.x, target.orientation.y, target.orientation.z, target.orientation.w),
    )
    translation, rotvec = HERE.delta_to(sent)
    assert translation == pytest.approx([0.01, 0.0, 0.0])
    assert rotvec == pytest.approx([0.0, 0.0, 0.1])


def test_it_beats_as_the_watchdog_expects_until_it_is_closed():
    table = Table()
    ((period_s, beat),) = table.node.timers
    beat()
    assert period_s == pytest.approx(0.05)
    assert [header.frame_id for header in table.node.beats] == [NODE_OF_SOURCE["teleop"]]
    table.teleop.close()
    assert table.node.timers == []
    assert table.hand.closed
