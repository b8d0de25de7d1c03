"""One connection to the arm's controller: calls one at a time, timed, and every vendor exception as a `DeviceError`.

Finds the vendor's library and checks its version; the library itself is passed in, so that a stand-in can answer. It
knows nothing of arms, grippers and their order of steps.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from vla_rft_core.clock import Clock, SystemClock, nanoseconds, seconds
from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_hardware.flexiv_faults import DISCONNECTED, RECONNECT_BACKOFF_S, fault_row

RDK_VERSION = "1.9.4.1"
"""2.x refuses a Rizon; 1.9.0 to 1.9.3 crash beside another Fast DDS participant."""
_WHEEL_PYTHONS = ((3, 10), (3, 12), (3, 14))
_CALLS_KEPT = 1000
"""Durations kept per vendor call, for the diagnostics."""

Sleep = Callable[[float], None]


def load_rdk() -> Any:
    """The vendor's library, in exactly the version this driver was written for; DeviceError says what to install."""
    try:
        version = importlib.metadata.version("flexivrdk")
    except importlib.metadata.PackageNotFoundError:
        raise DeviceError(_not_installed(sys.version_info[:2])) from None
    if version != RDK_VERSION:
        raise DeviceError(
            f"flexivrdk {version} is installed, but only {RDK_VERSION} drives this arm safely: "
            f"pip install flexivrdk=={RDK_VERSION}"
        )
    try:
        return importlib.import_module("flexivrdk")
    except ImportError as error:
        raise DeviceError(f"flexivrdk {version} cannot be loaded: {error}") from None


def _not_installed(python: tuple[int, int]) -> str:
    name = f"Python {python[0]}.{python[1]}"
    if python in _WHEEL_PYTHONS:
        return f"flexivrdk is not installed in this {name}: pip install flexivrdk=={RDK_VERSION}"
    wheels = ", ".join(f"{major}.{minor}" for major, minor in _WHEEL_PYTHONS)
    return f"flexivrdk {RDK_VERSION} cannot be installed in {name}: there are wheels for Python {wheels} only, use 3.12"


class FlexivLink:
    """The one RDK connection that arm and gripper share, with the vendor's `Robot`, `Gripper` and `Tool` on it.

    Connecting reads and nothing else. Every call holds `lock`; hold it yourself around readings that belong together.
    """

    def __init__(
        self,
        serial: str,
        *,
        rdk: Any,
        interface: str = "",
        clock: Clock | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.serial = serial
        self.rdk = rdk
        self.clock = clock or SystemClock()
        self.sleep = sleep
        self.lock = threading.RLock()
        self.sessions = 0
        """Connections made so far; what a session must do once is due again after it has grown."""
        self._interfaces = [interface] if interface else []
        self.robot: Any = None
        self._gripper: Any = None
        self._tool: Any = None
        self._users = 2
        self._durations: dict[str, deque[int]] = {}
        self._tried_ns = 0
        self._connect()

    # --- connection -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.robot = self._gripper = self._tool = None  # the old one ends before the new one starts
        self._tried_ns = self.clock.monotonic_ns()
        robot = open_robot(self.rdk, self.serial, interfaces=self._interfaces, lite=False)
        try:
            self._gripper, self._tool = self.rdk.Gripper(robot), self.rdk.Tool(robot)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DeviceError(
                f"{self.serial} connected, but its gripper and tool did not: {vendor_words(error)}"
            ) from None
        self.robot = robot
        self.sessions += 1

    @property
    def connected(self) -> bool:
        """The controller answers."""
        with self.lock:
            return self.robot is not None and bool(self.robot.connected())

    def require_connected(self) -> None:
        """Raise ConnectionLostError when the controller does not answer, DeviceError when we hung up."""
        if self._users <= 0:
            raise DeviceError(f"the connection to {self.serial} was closed")
        if not self.connected:
            raise ConnectionLostError(f"{self.serial}: {fault_row(DISCONNECTED).sentence()}")

    def reconnect(self) -> str:
        """Connect anew, not sooner than the back-off after the last attempt: the step done, in words."""
        waited_s = seconds(self.clock.monotonic_ns() - self._tried_ns)
        if waited_s < RECONNECT_BACKOFF_S:
            self.sleep(RECONNECT_BACKOFF_S - waited_s)
        with self.lock:
            if self._users <= 0:
                raise DeviceError(f"the connection to {self.serial} was closed")
            self._connect()
        return f"connection: made anew to {self.serial}"

    def leave(self) -> None:
        """Hang up with the last of the two users; the arm finishes its last target."""
        with self.lock:
            self._users -= 1
            if self._users <= 0:
                self.robot = self._gripper = self._tool = None

    # --- calls ------------------------------------------------------------------------------------------------

    def call(self, name: str, *arguments: Any) -> Any:
        """Call the robot's `name`, or "Gripper.x" or "Tool.x" of the objects on it.

        DeviceError with the vendor's text when it is refused, ConnectionLostError when the controller is gone.
        """
        owner, _, method = name.rpartition(".")
        with self.lock:
            if self.robot is None:
                self.require_connected()
            target = {"": self.robot, "Gripper": self._gripper, "Tool": self._tool}[owner]
            started_ns = time.perf_counter_ns()
            try:
                return getattr(target, method)(*arguments)
            except (RuntimeError, ValueError, TypeError) as error:
                words = f"{name}: {vendor_words(error)}"
                if not self.connected:
                    raise ConnectionLostError(f"connection to {self.serial} lost in {words}") from None
                raise DeviceError(f"{self.serial} refused {words}") from None
            finally:
                kept = self._durations.setdefault(name, deque(maxlen=_CALLS_KEPT))
                kept.append(time.perf_counter_ns() - started_ns)

    def wait(self, done: Callable[[], bool], deadline_s: float, *, poll_s: float = 0.05) -> bool:
        """Poll until `done`; False when the deadline passed first. The lock is free between two polls."""
        end_ns = self.clock.monotonic_ns() + nanoseconds(deadline_s)
        while not done():
            if self.clock.monotonic_ns() >= end_ns:
                return False
            self.sleep(poll_s)
        return True

    def call_times(self) -> Mapping[str, str]:
        """Per vendor call: median and largest duration of the last ones, in words."""
        with self.lock:
            kept = {name: list(durations) for name, durations in self._durations.items()}
        return {
            f"call {name}": f"p50 {median(durations) * 1e-6:.2f} ms, max {max(durations) * 1e-6:.2f} ms"
            for name, durations in sorted(kept.items())
        }


def open_robot(rdk: Any, serial: str, *, interfaces: list[str], lite: bool) -> Any:
    """The vendor's `Robot`; DeviceError in one sentence when there is none."""
    try:
        return rdk.Robot(serial, interfaces, False, lite)
    except ValueError as error:
        raise DeviceError(f"{vendor_words(error)}; it reads like 'Rizon4s-123456', see the label on the base") from None
    except RuntimeError as error:
        raise DeviceError(vendor_words(error)) from None


def vendor_words(error: Exception) -> str:
    """The vendor's text on one line; of a wrong argument only its first line, the rest lists signatures."""
    text = str(error).strip()
    lines = text.splitlines() if text else [type(error).__name__]
    return lines[0] if isinstance(error, TypeError) else " ".join(" ".join(lines).split())
