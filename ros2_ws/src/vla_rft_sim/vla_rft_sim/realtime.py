"""A world that runs in real time on one thread, and the way for other threads to reach it.

The world is touched only between two physics steps, by the thread in `run`. Others read the newest published snapshot
(no waiting) or hand over a function that runs in the next gap. Knows nothing of sockets, frames and clients.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from vla_rft_core.clock import NS_PER_S, Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import ArmState, GripperState
from vla_rft_sim.world_protocol import STEP_NS, World

CALL_TIMEOUT_S = 5.0
_MAKE_UP_STEPS = 40
"""A delay of so many steps (0.2 s) is caught up with, at the speed of the physics; of a longer one the time is dropped.

The controller's caps hold in the world's own time, so that catching up is no burst of the arm's motion."""

T = TypeVar("T")


class LoopEndedError(DeviceError):
    """The world is ending; nothing can be asked of it any more."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The robot as it was after one physics step."""

    stamp_ns: int
    """Time at which the step began."""
    arm: ArmState
    gripper: GripperState


@dataclass
class Punctuality:
    """How well the loop keeps real time; written by the loop's thread."""

    steps: int = 0
    late_steps: int = 0
    lag_ns: int = 0
    lost_ns: int = 0


class RealTimeLoop:
    """Steps a world at absolute deadlines. When it is late by more than a moment it drops the missed time."""

    def __init__(self, world: World, *, time_factor: float = 1.0, clock: Clock | None = None) -> None:
        self.world = world
        self.punctuality = Punctuality()
        self.after_step: Callable[[], None] = lambda: None
        """Called after every step of the world, by its thread."""
        self._clock = clock or SystemClock()
        self._period_ns = round(STEP_NS / time_factor)
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._ended = self._closed = False
        self._publish(self._clock.realtime_ns())

    def run(self) -> None:
        """Step until `end` is called. Errors of the world come out of here."""
        try:
            self._run()
        finally:
            self._closed = True
            with contextlib.suppress(queue.Empty):
                while True:
                    self._calls.get_nowait()()

    def _run(self) -> None:
        deadline_ns = time.monotonic_ns()
        while not self._ended:
            self._serve_until(deadline_ns)
            lag_ns = time.monotonic_ns() - deadline_ns
            self.punctuality.lag_ns = lag_ns
            if lag_ns > _MAKE_UP_STEPS * self._period_ns:
                self.punctuality.late_steps += 1
                self.punctuality.lost_ns += lag_ns
                deadline_ns += lag_ns
            stamp_ns = self._clock.realtime_ns()
            self.world.advance(STEP_NS)
            self.after_step()
            self._publish(stamp_ns)
            self.punctuality.steps += 1
            deadline_ns += self._period_ns

    def end(self) -> None:
        """Make `run` return after the present step; from any thread or signal handler."""
        self._ended = True

    def post(self, function: Callable[[], None]) -> None:
        """Run `function` between two steps, without waiting for it."""
        self._calls.put(function)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` between two steps and publish what it changed: its result, or its error.

        LoopEndedError when the loop ends first. Never call it from the loop's own thread.
        """
        if self._closed:
            raise LoopEndedError("the world is ending")
        future: Future[T] = Future()
        self._calls.put(lambda: self._run_call(function, future))
        try:
            return future.result(CALL_TIMEOUT_S)
        except TimeoutError:
            future.cancel()
            raise LoopEndedError(f"the world did not get to it within {CALL_TIMEOUT_S:g} s") from None

    def _run_call(self, function: Callable[[], T], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if self._closed:
            future.set_exception(LoopEndedError("the world is ending"))
            return
        try:
            result = function()
        except (DeviceError, ValueError) as error:
            future.set_exception(error)
            return
        self._publish(self.snapshot.stamp_ns)
        future.set_result(result)

    def _serve_until(self, deadline_ns: int) -> None:
        """Run what others handed over until the next step is due."""
        with contextlib.suppress(queue.Empty):
            while not self._ended:
                wait_s = max(0.0, (deadline_ns - time.monotonic_ns()) / NS_PER_S)
                self._calls.get(timeout=wait_s)()

    def _publish(self, stamp_ns: int) -> None:
        self.snapshot = Snapshot(stamp_ns, self.world.arm_state(stamp_ns), self.world.gripper_state(stamp_ns))
