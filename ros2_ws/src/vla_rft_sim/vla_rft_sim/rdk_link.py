"""How the stand-in reaches the controller box: requests over a socket, and time spent as the library does.

The vendor's library keeps Python's global interpreter lock for the length of every call, so that no other thread of the
process runs meanwhile. `GilHold` does the same.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any, Protocol

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import DeviceError
from vla_rft_sim.client import SimWorldClient

REPORT_AGE_NS = 4_000_000
"""A report younger than this is the newest there is: the world steps every 5 ms, where the robot publishes at 1 kHz.

Every question that a servo tick asks is answered by one report, as the library answers them from memory."""
FAILED_CONNECT_S, FAILED_LITE_S = 3.15, 6.7
LOST_CALL_S = 3.0
"""How long a blocking call waits for the reply of a robot that is gone."""


class LinkLost(Exception):
    """The robot does not answer (any more)."""


class Link(Protocol):
    """A connection to one robot."""

    durations: float
    """What scales the durations that the client itself plays: those of failed connections."""

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of one call, blocking as long as it blocks; ValueError, RuntimeError, LinkLost."""

    def report(self) -> dict[str, Any]:
        """The newest report of `rdk_report`; LinkLost when there is no connection now."""

    def hold(self, duration_s: float) -> None:
        """Let time pass with the interpreter's lock held."""


class GilHold:
    """Sleeps without releasing the interpreter's lock: no other thread of this process runs."""

    _usleep = ctypes.PyDLL(None).usleep  # PyDLL: called with the lock held

    def __call__(self, duration_s: float) -> None:
        end_ns = time.monotonic_ns() + round(duration_s * NS_PER_S)
        while (left_ns := end_ns - time.monotonic_ns()) > 0:  # a signal cuts a sleep short
            self._usleep(ctypes.c_uint32(max(1, left_ns // 1000)))


_turn = threading.RLock()
"""One call at a time in this process, whatever instance it is on."""


class SocketLink:
    """A link to a `sim_world`; `lite` may only stop the robot."""

    def __init__(self, address: str, *, lite: bool, durations: float, timeout_s: float) -> None:
        self.durations = durations
        self.hold = GilHold()
        self._operation = "lite" if lite else "rdk"
        self._report: dict[str, Any] = {}
        self._read_ns = -REPORT_AGE_NS
        self._session = 0
        self._client: SimWorldClient | None = None
        try:
            self._client = SimWorldClient(address, self._operation, timeout_s=timeout_s)
            self._session = self._ask(call="open")
        except (DeviceError, LinkLost):
            raise LinkLost from None

    def call(self, name: str, *arguments: Any) -> Any:
        """One call of the vendor's, from the request to its end."""
        with _turn:
            self._read_ns = -REPORT_AGE_NS
            answer = self._ask(call=name, arguments=arguments)
            while "ticket" in answer:
                self.hold(answer["hold_s"])
                answer = self._ask(ticket=answer["ticket"])
            self._read_ns = -REPORT_AGE_NS
        if "raises" in answer:
            kind, text = answer["raises"]
            raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[kind](text)
        return answer.get("value")

    def report(self) -> dict[str, Any]:
        """At most `REPORT_AGE_NS` old."""
        with _turn:
            if time.monotonic_ns() - self._read_ns > REPORT_AGE_NS:
                self._report = self._ask(call="Robot.report", arguments=[])["value"]
                self._read_ns = time.monotonic_ns()
            return self._report

    def __del__(self) -> None:
        """The library has no other way to hang up; the robot finishes its last target."""
        if self._client is not None:
            self._client.close()

    def _ask(self, **fields: Any) -> Any:
        assert self._client is not None
        try:
            answer = self._client.request(self._operation, session=self._session, **fields)
        except DeviceError:
            raise LinkLost from None
        if isinstance(answer, dict):
            self.hold(answer.get("stall_s", 0.0))
            if answer.get("lost"):
                raise LinkLost
        return answer
