"""A real graph for tests: the processes of a launch file, a client beside them, and a connection to their world."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from vla_rft_core.cell import find_cell
from vla_rft_core.types import ActionChunk as CoreChunk
from vla_rft_core.types import SetPoint, Source
from vla_rft_interfaces.msg import ActionChunk, SafetyStatus, ServoReport, SimTruth
from vla_rft_interfaces.srv import ResetScene
from vla_rft_nodes import qos, topics
from vla_rft_nodes.bringup import Plan, Supervisor, load
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.convert import to_chunk
from vla_rft_nodes.ros import prepare_environment
from vla_rft_sim.client import connect_truth
from vla_rft_sim.protocol import FAULTS, WorldStatus

PROCESSES = ("sim_world", "sim_node", "robot_node", "camera_node", "watchdog_node", "teleop_node")


def clean_shared_memory() -> None:
    """Killed nodes leave Fast DDS segments behind: later ones can lose answers."""
    subprocess.run([str(Path(sys.executable).with_name("fastdds")), "shm", "clean"], check=True, capture_output=True)


def with_parameters(plan: Plan, name: str, **parameters: object) -> Plan:
    """The plan with some parameters of one of its nodes replaced."""
    return with_words(plan, name, *(word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")))


def with_words(plan: Plan, name: str, *words: str) -> Plan:
    """The plan with more words on the command line of one of its processes."""
    return _changed(plan, name, lambda argv: (*argv, *words))


def started_by(plan: Plan, name: str, program: str, *words: str) -> Plan:
    """The plan with one of its nodes run by another program, which is given `words` before the node's own."""
    return _changed(plan, name, lambda argv: (sys.executable, program, *words, *argv[1:]))


def _changed(plan: Plan, name: str, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Plan:
    specs = [replace(spec, argv=change(spec.argv)) if spec.name == name else spec for spec in plan.processes]
    return replace(plan, processes=tuple(specs))


class Graph:
    """The running processes, a `CellClient`, and a connection to the world that outlives every node."""

    def __init__(self, log_dir: Path, *, plan: Plan | None = None, processes: Sequence[str] = PROCESSES) -> None:
        """`plan`: the cell with the expert as teleoperation device, unless it says otherwise."""
        self.processes = processes
        self.supervisor = Supervisor(plan or load("teleop", {"device": "expert"}), log_dir=log_dir)
        self.supervisor.__enter__()
        self.supervisor.start(*processes)
        prepare_environment()
        rclpy.init()
        self.node = rclpy.create_node("test_client")
        self.truth: SimTruth | None = None
        self.node.create_subscription(SimTruth, topics.SIM_TRUTH, self._on_truth, qos.STATE)
        self.reports: list[ServoReport] = []
        self.node.create_subscription(ServoReport, topics.SERVO_REPORT, self.reports.append, qos.EVENT)
        self._reset = self.node.create_client(ResetScene, topics.SIM_RESET)
        self.spec = find_cell("vla_rft_sim:towel_cell").spec
        self.cell = CellClient(self.node, self.spec)
        self._spinning = threading.Thread(target=self._spin, daemon=True)
        self._spinning.start()
        self.world = connect_truth("", timeout_s=30.0)

    def close(self) -> None:
        """Stop the processes and the client."""
        self.world.close()
        self.supervisor.__exit__(None, None, None)
        rclpy.try_shutdown()
        self._spinning.join(timeout=5.0)

    def make_ready(self, seed: int = 0) -> None:
        """Whatever the test before left: all processes running, no hold, arm at home, towel laid out."""
        self.make_ready_here()
        self.cell.go_home()
        response = self.cell.call(self._reset, ResetScene.Request(seed=seed))
        assert response.error_code == ResetScene.Response.NONE, response.error_msg
        time.sleep(0.5)

    def make_ready_here(self) -> None:
        """The same, the arm staying where it is."""
        missing = [name for name in self.processes if name not in self.supervisor.running()]
        for fault in FAULTS:
            self.world.inject(fault, active=False)
        if missing:
            self.supervisor.start(*missing)
        self.cell.connect(30.0)
        self.cell.recover("terminal", timeout_s=30.0)

    @property
    def status(self) -> SafetyStatus:
        """The newest safety status."""
        status = self.cell.status
        assert status is not None
        return status

    def start_folding(self, seed: int = 0) -> WorldStatus:
        """From home, let the expert begin and return once the arm is moving fast."""
        self.make_ready(seed)
        self.cell.set_mode("ACTIVE", "teleop")
        self.until(lambda: self.world.status().speed > 0.12 or self.status.latched, 15.0, "the arm does not move")
        assert not self.status.latched, self.status.reason
        return self.world.status()

    def message(self, steps: int = 1, *, dx: float = 0.01, source: Source = Source.TELEOP) -> ActionChunk:
        """A chunk that moves along x by `dx` [m] per control period, from where the arm was sent."""
        here = self.cell.state().reference
        targets = [here.T_base_tcp.moved((dx * (i + 1), 0.0, 0.0), (0.0, 0.0, 0.0)) for i in range(steps)]
        return to_chunk(
            CoreChunk.from_set_points(
                [SetPoint(target, here.width) for target in targets],
                stamp_ns=time.time_ns(),
                period_ns=self.spec.control_period_ns,
                sequence=1_000_000 + self.cell.next_sequence(),
                source=source,
            )
        )

    def until(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Poll at 200 Hz; fail with `otherwise` when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{otherwise} within {timeout_s:g} s: {self.cell.status}"
            time.sleep(0.005)

    def _on_truth(self, message: SimTruth) -> None:
        self.truth = message

    def _spin(self) -> None:
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()
