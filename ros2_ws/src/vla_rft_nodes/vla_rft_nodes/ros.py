"""The shell around every node: environment, heartbeat, diagnostics, worker threads, and an honest end.

`run` is what a node's `main` calls: bad parameters and dead devices end the process with one sentence and exit code 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy._rclpy_pybind11 import RCLError
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Header

from vla_rft_core.allocator import limit_arenas
from vla_rft_core.errors import VlaRftError
from vla_rft_core.priority import STOPS_THE_ARM, go_first, in_real_time
from vla_rft_nodes import qos, topics

HEARTBEAT_HZ = 20.0
URGENT_NICENESS = -5
ARENAS = 2
"""Of the allocator."""
SWITCH_INTERVAL_S = 0.001
"""How long a thread that only computes may keep the others waiting; Python's 5 ms is half a servo period."""


class ShellNode(Node):
    """A node with 1 Hz diagnostics, a 20 Hz heartbeat where somebody listens for it, and worker threads.

    A worker's failure ends the process.
    """

    def __init__(self, name: str, *, heartbeat: bool = True) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        self._workers: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._heartbeat = self.create_publisher(Header, topics.HEARTBEAT, qos.EVENT)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENT)
        if heartbeat:
            self.create_timer(1.0 / HEARTBEAT_HZ, self._beat)
        self.create_timer(1.0, self._report)

    def create_publisher(self, *arguments: Any, **options: Any) -> Any:
        """As rclpy's, without its warnings of readers that do not match: who reads wrongly hears it on his own side.

        rclpy asks after two such events per publisher and subscription each time it waits: an eighth of a node's cost.
        """
        options.setdefault("event_callbacks", PublisherEventCallbacks(use_default_callbacks=False))
        return super().create_publisher(*arguments, **options)

    def create_subscription(self, *arguments: Any, **options: Any) -> Any:
        """As rclpy's, without its warnings of writers that do not match; see `create_publisher`."""
        options.setdefault("event_callbacks", SubscriptionEventCallbacks(use_default_callbacks=False))
        return super().create_subscription(*arguments, **options)

    @property
    def stopping(self) -> bool:
        """The process is ending: workers return."""
        return self._stopping.is_set()

    def start_worker(self, work: Callable[[], None], name: str) -> None:
        """Run `work` in a thread until it returns; an exception in it ends the process."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # handed to the main thread, which tells the user
                if rclpy.ok():  # otherwise the process is ending already, and publishing fails
                    self.failure = error
                    rclpy.try_shutdown()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._workers.append(thread)
        thread.start()

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """A problem in words ("" when all is well) and the values worth showing, for /diagnostics."""
        return "", {}

    def close(self) -> None:
        """Release devices; called once, after the workers have ended."""

    def shut_down(self) -> None:
        """Stop the workers, then release the devices."""
        self._stopping.set()
        for thread in self._workers:
            thread.join(timeout=2.0)
        self.close()

    def stamp_now(self) -> Header:
        """A header stamped now (CLOCK_REALTIME), with the node's name as frame_id."""
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=self.get_name())

    def _beat(self) -> None:
        self._heartbeat.publish(self.stamp_now())

    def _report(self) -> None:
        problem, values = self.diagnose()
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if problem else DiagnosticStatus.OK,
            name=self.get_name(),
            message=problem or "ok",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        self._diagnostics.publish(DiagnosticArray(header=self.stamp_now(), status=[status]))


def prepare_environment() -> None:
    """Our Fast DDS profile, and discovery on this host only; the environment wins. Call it before `rclpy.init`."""
    profile = resources.files("vla_rft_nodes").joinpath("fastdds_profile.xml")
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def _ending() -> bool:
    """The process was told to end; the context's shutdown follows the signal by a moment."""
    for _ in range(10):
        if not rclpy.ok():
            return True
        time.sleep(0.05)
    return False


def run(make: Callable[[], ShellNode], *, threads: int = 1, urgent: bool = False, real_time: bool = False) -> None:
    """Make the node, spin it until it is told to end or fails, and exit: 0, or 1 with one sentence on failure.

    An urgent process goes before others, and all threads of one in real time before these, where the user may say so.
    """
    prepare_environment()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    limit_arenas(ARENAS)
    if urgent or real_time:
        go_first(URGENT_NICENESS)
    if real_time:
        in_real_time(STOPS_THE_ARM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that a blocking connect is interrupted, too
    rclpy.init()
    node: ShellNode | None = None
    failure: BaseException | None = None
    try:
        node = make()
        executor = MultiThreadedExecutor(threads) if threads > 1 else SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, VlaRftError) as error:
        failure = error
    except RuntimeError:  # RCLError among them
        if not _ending():  # otherwise the process was told to end while a node was being made, or a message taken
            raise
    finally:
        if node is not None:
            node.shut_down()
            failure = failure or node.failure
        with contextlib.suppress(RCLError):  # a signal may be doing the same at this moment
            rclpy.try_shutdown()
    if failure is None:
        sys.exit(0)
    if isinstance(failure, SystemExit):
        sys.exit(failure.code)
    if not isinstance(failure, (ValueError, VlaRftError)):
        raise failure
    print(f"{Path(sys.argv[0]).stem}: {failure}", file=sys.stderr)
    sys.exit(1)
