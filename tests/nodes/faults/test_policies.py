"""A policy that dies, freezes, answers NaN or two seconds late; and a bundle that was altered."""

from __future__ import annotations

import math
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import faulty_policy
import numpy as np
import pytest
from arm_watch import Watch, comes_to_rest, distance, leave_hold
from fault_rows import BUNDLE, POLICIES, SEEN, GraphRow, Seen
from moments import moment_s
from running_graph import Graph, started_by
from running_trial import said_in
from std_msgs.msg import Header

from deploy import stand_in
from vla_rft_core.cell import find_cell
from vla_rft_core.types import SetPoint
from vla_rft_nodes import qos, topics
from vla_rft_nodes.bringup import load

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

SPEC = find_cell("vla_rft_sim:towel_cell").spec
PROCESSES = ("sim_world", "sim_node", "robot_node", "camera_node", "watchdog_node", "policy_node")
BEAT_S = 0.1
WELL, SWING_M, SWING_S, LASTING_S = "well", 0.06, 4.0, 120.0


class PolicyGraph(Graph):
    """A replayed swing drives the arm; its runtime answers as the test says."""

    def __init__(self, folder: Path) -> None:
        self.bundle, self.log_dir, self._answers = folder / "swing", folder / "log", folder / "answers"
        self.answer(WELL)
        home, period_s = SPEC.home, SPEC.control_period_s
        times = np.arange(0.0, LASTING_S, period_s)
        aside = SWING_M * np.sin(2.0 * np.pi * times / SWING_S)
        way = [SetPoint(home.T_base_tcp.moved((0.0, float(y), 0.0), (0.0, 0.0, 0.0)), home.width) for y in aside]
        stand_in.make_replay(self.bundle, SPEC, way, source="a swing")
        plan = load("policy", {"bundle": str(self.bundle), "trials": "0"})
        plan = started_by(plan, "policy_node", faulty_policy.__file__, str(self._answers))
        super().__init__(self.log_dir, plan=plan, processes=PROCESSES)
        self._beat = -math.inf
        self.node.create_subscription(Header, topics.HEARTBEAT, self._on_beat, qos.EVENT)

    def answer(self, how: str) -> None:
        """From the next decision on."""
        self._answers.write_text(how)

    def start_swinging(self) -> None:
        """From home, until the policy moves the arm."""
        self.answer(WELL)
        if "policy_node" in self.supervisor.running():
            self.supervisor.send_signal("policy_node", signal.SIGCONT)
        self.make_ready()
        self.until(lambda: time.monotonic() - self._beat < BEAT_S, 30.0, "policy_node's heart does not beat")
        self.cell.set_mode("ACTIVE", "policy")
        self.until(lambda: self.world.status().speed > 0.05 or self.status.latched, 20.0, "the policy moves nothing")
        assert not self.status.latched, self.status.reason

    def _on_beat(self, message: Header) -> None:
        if message.frame_id == "policy_node":
            self._beat = time.monotonic()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyGraph]:
    running = PolicyGraph(tmp_path_factory.mktemp("policy"))
    yield running
    running.close()


def spoil(graph: PolicyGraph, fault: str) -> None:
    match fault:
        case "policy_node killed":
            graph.supervisor.send_signal("policy_node", signal.SIGKILL)
        case "policy_node frozen":
            graph.supervisor.send_signal("policy_node", signal.SIGSTOP)
        case "policy answers NaN":
            graph.answer("nan")
        case "policy 2 s late":
            graph.answer("late")


def mend(graph: PolicyGraph) -> None:
    graph.answer(WELL)
    if "policy_node" in graph.supervisor.running():
        graph.supervisor.send_signal("policy_node", signal.SIGCONT)
    else:
        graph.supervisor.start("policy_node")


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in POLICIES])
def test_the_arm_is_held_and_stays(policy: PolicyGraph, row: GraphRow) -> None:
    policy.start_swinging()
    time.sleep(moment_s(row.fault))
    assert policy.status.mode == "ACTIVE", policy.status.reason
    watch, said = Watch(policy), (policy.log_dir / "policy_node.log").stat().st_size
    spoil(policy, row.fault)
    watch.until(lambda: policy.status.latched, row.limit_s, "the arm is not held")
    end_s, told = watch.real_s, policy.status.reason
    where = comes_to_rest(watch)
    if row.fault.startswith("policy "):
        no_chunk = partial(said_in, policy.log_dir, "policy_node", "no chunk", since=said)
        policy.until(lambda: bool(no_chunk()), 10.0, "policy_node does not say why")
        told += f"; {no_chunk()}"
    assert re.search(row.word, told), told
    mend(policy)
    leave_hold(policy, where)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, told=told)


def test_an_altered_bundle_is_refused_and_moves_nothing(policy: PolicyGraph) -> None:
    row = BUNDLE
    policy.make_ready()
    if "policy_node" in policy.supervisor.running():
        policy.supervisor.send_signal("policy_node", signal.SIGKILL)
        policy.until(lambda: "policy_node" not in policy.supervisor.running(), 5.0, "it cannot be killed")
    policy.supervisor.poll()
    spec = policy.bundle / "spec.yaml"
    good, where = spec.read_text(), policy.world.status().T_base_tcp
    spec.write_text(good.replace("fps: 15", "fps: 30"))
    try:
        watch = Watch(policy)
        policy.supervisor.start("policy_node")
        watch.until(lambda: "policy_node" not in policy.supervisor.running(), row.limit_s, "it is not refused")
        (ended,) = [end for end in policy.supervisor.poll() if end.spec.name == "policy_node"]
    finally:
        spec.write_text(good)
    assert ended.returncode == 1
    assert len(ended.tail) == 1, ended.tail
    assert re.search(row.word, ended.tail[0]), ended.tail
    assert distance(where, policy.world.status().T_base_tcp) < 0.005
    told = ended.tail[0].replace(str(policy.bundle), "runs/bundle")
    SEEN[row.fault] = Seen(end_s=watch.real_s, rest_s=watch.last_moving_s, told=told)
    policy.supervisor.start("policy_node")
    policy.make_ready_here()
