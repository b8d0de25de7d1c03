"""Teleoperation in the running graph: taking over from what plays, the lease going back, presses of a keyboard."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from vla_rft_core.errors import ModeError
from vla_rft_core.types import RobotState, Source
from vla_rft_hardware.protocols import TeleopCommand, TeleopDevice
from vla_rft_hardware.teleop import connect
from vla_rft_hardware.teleop.keyboard import LINGER_S
from vla_rft_nodes.teleop import Teleop

pytestmark = [pytest.mark.ros, pytest.mark.realtime]


class Hand:
    """Moves sideways while pressed."""

    enabled = False

    def start(self) -> None:
        pass

    def read(self, state: RobotState) -> TeleopCommand:
        step = np.array([0.0, 0.005, 0.0])
        return TeleopCommand(time.time_ns(), self.enabled, step, np.zeros(3), state.reference.width)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def teleoperated(graph, device: TeleopDevice, keys: list[str], *, linger_s: float = 0.0) -> Iterator[None]:
    """A device in the place of the expert, read by the test's own node."""
    if "teleop_node" in graph.supervisor.running():
        graph.supervisor.send_signal("teleop_node", signal.SIGTERM)
        graph.until(lambda: "teleop_node" not in graph.supervisor.running(), 10.0, "the expert did not leave")
    teleop = Teleop(graph.node, device, graph.spec, on_key=keys.append, linger_s=linger_s)
    timer = graph.node.create_timer(graph.spec.control_period_s, teleop.tick)
    try:
        yield
    finally:
        graph.node.destroy_timer(timer)
        teleop.close()


@pytest.fixture
def hand(graph) -> Iterator[Hand]:
    """A hand that takes the arm at home."""
    graph.make_ready()
    made = Hand()
    with teleoperated(graph, made, []):
        yield made


def test_the_dead_man_takes_the_arm_from_a_replay_and_gives_it_to_nobody(graph, hand):
    graph.cell.set_mode("ACTIVE", "replay")
    graph.reports.clear()
    assert graph.cell.submit(graph.message(20, dx=0.004, source=Source.REPLAY)).accepted
    graph.until(lambda: len(graph.reports) > 20, 3.0, "the replay does not play")
    hand.enabled = True
    graph.until(lambda: graph.status.source == "teleop", 2.0, "the dead-man did not take the lease")
    start = graph.reports[-1].sent.position.y
    graph.until(lambda: graph.reports[-1].sent.position.y > start + 0.02, 5.0, "the hand does not move the arm")
    hand.enabled = False
    graph.until(lambda: graph.status.mode == "READY", 2.0, "the lease was not given back")
    assert graph.status.source == ""
    sources = [report.source for report in graph.reports if report.moving]
    switch = sources.index("teleop")
    assert set(sources[:switch]) == {"replay"}
    assert set(sources[switch:]) == {"teleop"}
    sent = np.array([[r.sent.position.x, r.sent.position.y, r.sent.position.z] for r in graph.reports if r.moving])
    assert np.linalg.norm(np.diff(sent, axis=0), axis=1).max() < 0.005
    assert graph.cell.submit(graph.message(source=Source.REPLAY)).accepted is False  # the replay does not come back


def test_nobody_gives_back_a_lease_that_another_holds(graph, hand):
    graph.cell.set_mode("ACTIVE", "replay")
    with pytest.raises(ModeError, match="teleop has no lease to give back"):
        graph.cell.set_mode("READY", "teleop")
    assert graph.status.source == "replay"
    graph.cell.set_mode("READY", "replay")
    assert graph.status.mode == "READY"


def test_presses_of_a_keyboard_are_steps_and_recorder_keys_are_none(graph):
    graph.make_ready()
    far, near = os.openpty()
    keys: list[str] = []
    with teleoperated(graph, connect.keyboard(near), keys, linger_s=LINGER_S):
        start = graph.world.status().T_base_tcp.position[1]
        os.write(far, b"a")  # takes the lease, and is made
        graph.until(lambda: graph.world.status().T_base_tcp.position[1] > start + 0.006, 5.0, "the press did nothing")
        os.write(far, b"\x1b[C\x1b[Du")
        graph.until(lambda: keys == ["keep", "discard", "undo"], 2.0, f"recorder keys: {keys}")
        graph.until(lambda: graph.status.mode == "READY", 5.0, "the lease was not given back")
        time.sleep(0.5)
        assert graph.world.status().T_base_tcp.position[1] == pytest.approx(start + 0.01, abs=0.003)
    os.close(far)
    os.close(near)
