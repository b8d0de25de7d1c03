"""`python -m vla_rft_nodes.recorder_benchmark --seconds 60`: does the recorder keep up? Exit 1 if anything is lost.

Colour and depth 640x480 at 30 Hz from prepared pictures, through the vendor's library, camera_node and ROS; robot state
and servo reports at 100 Hz from this process. What is missing is counted in the file itself: pictures are stamped on
an exact grid, and states are numbered.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_core.types import ArmState, GripperState, SetPoint
from vla_rft_core.types import RobotState as CoreRobotState
from vla_rft_episodes import channels
from vla_rft_episodes.reader import Episode
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.msg import RobotState, ServoReport
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.operate import spinning
from vla_rft_nodes.recorder_client import RecorderClient

STATE_HZ = 100
FPS = 30
START_S = 30.0


class StatePublisher:
    """Robot states and servo reports at 100 Hz; the gripper's force is the state's number."""

    def __init__(self, node: Node, cell: CellFolder) -> None:
        self._cell, self.late = cell, 0
        self._states = node.create_publisher(RobotState, topics.ROBOT_STATE, qos.STATE)
        self._reports = node.create_publisher(ServoReport, topics.SERVO_REPORT, qos.EVENT)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop publishing."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._ended.is_set():
            stamp_ns = time.time_ns()
            self._states.publish(convert.to_robot_state(self._state(stamp_ns, number)))
            self._reports.publish(ServoReport(header=convert.to_header(stamp_ns, convert.BASE), source="teleop"))
            number, due = number + 1, due + 1.0 / STATE_HZ
            wait = due - time.monotonic()
            self.late += wait < 0.0
            time.sleep(max(0.0, wait))

    def _state(self, stamp_ns: int, number: int) -> CoreRobotState:
        home = self._cell.spec.home
        zeros, pose = np.zeros(7), home.T_base_tcp.moved((0.05 * np.sin(number / 100.0), 0.0, 0.0), (0.0, 0.0, 0.0))
        arm = ArmState(stamp_ns, np.array(home.q), zeros, zeros, pose, np.zeros(6), np.zeros(6))
        return CoreRobotState(arm, GripperState(stamp_ns, 0.08, float(number), False), SetPoint(pose, 0.08))


class CameraCount:
    """What camera_node says it never got from the vendor's library, by the gaps in the frames' numbers."""

    def __init__(self, node: Node) -> None:
        self.dropped = 0
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENT)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "camera_node":
                self.dropped = int({value.key: value.value for value in status.values}["dropped"])


@contextmanager
def process(module: str, parameters: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A node of ours as a process of its own."""
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    running = subprocess.Popen([sys.executable, "-m", f"vla_rft_nodes.{module}", "--ros-args", *pairs])
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


def start(client: RecorderClient) -> None:
    """Begin to record, once every stream is heard."""
    goal = RecordEpisode.Goal(task="benchmark", prompt="none", operator_name="benchmark")
    deadline = time.monotonic() + START_S
    while True:
        try:
            return client.start(goal)
        except DeviceError as error:
            if "heard" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def picture_gaps(episode: Episode, topic: str) -> tuple[int, list[float]]:
    """How many were recorded, and when one is missing between first and last on the grid of 1/30 s [s from start]."""
    since_s = (np.array([m.stamp_ns for m in episode.messages([topic])]) - episode.info.started_ns) / 1e9
    numbers = np.rint((since_s - since_s[0]) * FPS).astype(int)
    absent = sorted(set(range(numbers[-1])) - set(numbers.tolist()))
    return len(numbers), [round(float(since_s[0] + number / FPS), 2) for number in absent]


def missing_states(episode: Episode) -> tuple[int, int]:
    """How many were recorded, and how many of the numbered states are missing."""
    numbers = [round(state.gripper.force) for state in episode.robot_states()]
    return len(numbers), numbers[-1] - numbers[0] + 1 - len(numbers)


def measure(seconds: float, cell_name: str) -> dict[str, object]:
    """Record for so long; what is in the file, what is missing, and what it cost."""
    cell = find_cell(cell_name)
    camera = cell.spec.cameras[0].name
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="recorder-benchmark-"))
        node = stack.enter_context(spinning("recorder_benchmark"))
        device = {"device": "vla_rft_sim.prerendered:connect_camera", "camera": camera, "cell": cell_name}
        stack.enter_context(process("camera_node", device))
        disk = {"disk_needed": "1.0", "disk_reserve": "0.1"}
        stack.enter_context(process("recorder_node", {"cell": cell_name, "episodes": folder, **disk}))
        publisher = StatePublisher(node, cell)
        stack.callback(publisher.close)
        client, camera_count = RecorderClient(node), CameraCount(node)
        start(client)
        before = camera_count.dropped
        time.sleep(seconds)
        stopped = time.monotonic()
        result = client.stop()
        verdict_s = time.monotonic() - stopped
        time.sleep(1.0)  # diagnostics come once a second
        if result.error_code:
            raise DeviceError(result.error_msg)
        episode = Episode.open(Path(result.path))
        color, color_gaps = picture_gaps(episode, channels.color(camera).topic)
        depth, depth_gaps = picture_gaps(episode, channels.depth(camera).topic)
        states, states_missing = missing_states(episode)
        size = (Path(result.path) / "episode.mcap").stat().st_size
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "duration_s": round(result.duration, 2),
        "color": color,
        "depth": depth,
        "states": states,
        "missing": {"color": len(color_gaps), "depth": len(depth_gaps), "states": states_missing},
        "missing_at_s": sorted({*color_gaps, *depth_gaps}),
        "dropped_before_camera_node": camera_count.dropped - before,
        "dropped_by_recorder": result.dropped,
        "states_published_late": publisher.late,
        "verdict_s": round(verdict_s, 2),
        "megabytes_per_minute": round(size / result.duration * 60.0 / 1e6, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_nodes.recorder_benchmark", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="one JSON line")
    parser.add_argument("--cell", default="vla_rft_sim:towel_cell", help="cell folder: a path, or package:folder")
    arguments = parser.parse_args(argv)
    try:
        figures = measure(arguments.seconds, arguments.cell)
    except (ValueError, VlaRftError) as error:
        print(f"recorder_benchmark: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures) if arguments.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    missing = figures["missing"]
    assert isinstance(missing, dict)
    return 1 if any(missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
