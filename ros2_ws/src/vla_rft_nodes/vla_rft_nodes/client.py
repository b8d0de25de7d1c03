"""CellClient: a running robot and its cameras as a `Cell`, over ROS.

Its methods block: call them from a worker thread of a node that is being spun.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import nanoseconds, seconds
from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.home import home_chunk
from vla_rft_core.spec import RobotSpec
from vla_rft_core.sync import FreshnessLimits, Streams, assemble
from vla_rft_core.types import ActionChunk, CameraFrame, Observation
from vla_rft_core.types import RobotState as CoreRobotState
from vla_rft_interfaces.msg import ActionChunk as ChunkMessage
from vla_rft_interfaces.msg import ChunkVerdict, RobotState, SafetyStatus
from vla_rft_interfaces.srv import Rearm, SetMode
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.services import answer

T = TypeVar("T")

SERVICE_TIMEOUT_S = 30.0
"""Releasing brakes and homing fingers take their time."""
VERDICT_TIMEOUT_S = 1.0
AT_HOME_M = 0.01
ARRIVED_RAD = 0.05


class CellClient:
    """Observe, act, and change modes through robot_node."""

    def __init__(self, node: Node, spec: RobotSpec, *, prompt: str = "", pictures: bool = True) -> None:
        """Without `pictures` nothing is subscribed to of the cameras, and `observe` has nothing to say."""
        self.spec = spec
        self._node, self._prompt, self._pictures = node, prompt, pictures
        self._changed = threading.Condition()
        self._streams = Streams.for_spec(spec)
        self._states: deque[bytes] = deque(maxlen=512)
        """Serialised states not looked at yet: a hundred come per second, and few are."""
        self._state: tuple[bytes, CoreRobotState] | None = None
        self._newest: bytes | None = None
        self._heard = -math.inf
        self._status: SafetyStatus | None = None
        self._verdicts: dict[tuple[str, int], ChunkOutcome] = {}
        self._sequence = 0
        self._chunks = node.create_publisher(ChunkMessage, topics.ACTION_CHUNK, qos.COMMAND)
        self._set_mode = node.create_client(SetMode, topics.SET_MODE)
        self._rearm = node.create_client(Rearm, topics.REARM)
        node.create_subscription(RobotState, topics.ROBOT_STATE, self._on_state, qos.STATE, raw=True)
        node.create_subscription(SafetyStatus, topics.SAFETY_STATUS, self._on_status, qos.LATCHED)
        node.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, self._on_verdict, qos.EVENT)
        for camera in spec.cameras if pictures else ():
            name = camera.name
            node.create_subscription(Image, topics.color_image(name), partial(self._on_image, name), qos.IMAGE)

    # --- Cell -------------------------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """The present observation; StaleInputError when an input is too old."""
        with self._changed:
            self._catch_up()
            now_ns = time.time_ns()
            limits = FreshnessLimits()
            return assemble(now_ns, spec=self.spec, streams=self._streams, prompt=self._prompt, limits=limits)

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        """Publish a chunk and wait for robot_node's verdict; DeviceError when none comes."""
        return self.submit(convert.to_chunk(chunk))

    def submit(self, message: ChunkMessage) -> ChunkOutcome:
        """The same for a chunk that is a message already."""
        key = (message.source, message.sequence)
        self._chunks.publish(message)
        if not self.wait_until(lambda: key in self._verdicts, VERDICT_TIMEOUT_S):
            raise DeviceError(f"robot_node gave no verdict on chunk {message.sequence} within {VERDICT_TIMEOUT_S:g} s")
        return self._verdicts.pop(key)

    def publish(self, message: ChunkMessage) -> None:
        """Hand a chunk to robot_node without waiting for its verdict."""
        self._chunks.publish(message)

    def pictures_since(self, stamp_ns: int, timeout_s: float) -> int:
        """Wait for a picture of every camera captured at `stamp_ns` or later; when the last came in, 0 if not in time.

        Both are stamps (ns).
        """

        def newest() -> list[tuple[int, CameraFrame] | None]:
            return [frames.newest() for frames in self._streams.frames.values()]

        def all_there() -> bool:
            return all(found is not None and found[1].stamp_ns >= stamp_ns for found in newest())

        with self._changed:
            self._catch_up()  # now there is time; when the picture comes there is none
            if not self._changed.wait_for(all_there, timeout_s):
                return 0
            return max(found[0] for found in newest() if found is not None)

    def keep_up(self) -> None:
        """Take in what has arrived: who observes seldom would otherwise do all of it when it counts."""
        with self._changed:
            self._catch_up()

    def wait(self, duration_ns: int) -> None:
        """Let time pass."""
        time.sleep(seconds(duration_ns))

    def state(self) -> CoreRobotState:
        """The newest measured state; DeviceError before the first one."""
        newest = self._newest
        if newest is None:
            raise DeviceError("robot_node has published no state yet")
        if self._state is None or self._state[0] is not newest:
            self._state = (newest, convert.from_robot_state(deserialize_message(newest, RobotState)))
        return self._state[1]

    # --- modes and home ---------------------------------------------------------------------------------------

    @property
    def status(self) -> SafetyStatus | None:
        """The newest safety status; None before the first one."""
        return self._status

    @property
    def silent_s(self) -> float:
        """Since robot_node's newest state came in [s]; infinite before the first one."""
        return time.monotonic() - self._heard

    def connect(self, timeout_s: float) -> None:
        """Wait until robot_node answers and every camera delivers; DeviceError names what is missing."""

        def missing() -> list[str]:
            names = [] if self._newest and self._status else ["robot_node's state"]
            cameras = self._streams.frames.items() if self._pictures else ()
            return names + [f"camera {name!r}" for name, frames in cameras if frames.newest() is None]

        self.wait_until(lambda: not missing(), timeout_s)
        if missing():
            raise DeviceError(f"nothing heard within {timeout_s:g} s of: {', '.join(missing())}")

    def ready(self, *, timeout_s: float = 10.0) -> list[str]:
        """READY, tried until what refuses it (a watchdog still waiting for pictures) has passed: the steps done."""
        return _patiently(lambda: self.set_mode(SafetyStatus.READY), timeout_s)

    def recover(self, origin: str, *, timeout_s: float = 10.0) -> None:
        """Out of a latched hold, if there is one, to READY; ModeError when the cause lasts longer than that."""

        def attempt() -> None:
            if self._status is not None and self._status.latched:
                self.rearm(origin)
            self.set_mode(SafetyStatus.READY)

        _patiently(attempt, timeout_s)

    def set_mode(self, mode: str, source: str = "") -> list[str]:
        """Change the mode: the steps done; ModeError or DeviceError when it is refused."""
        response = self.call(self._set_mode, SetMode.Request(mode=mode, source=source))
        if response.error_code == SetMode.Response.DEVICE_FAULT:
            raise DeviceError(response.error_msg)
        if response.error_code:
            raise ModeError(response.error_msg)
        # The answer overtakes the topic: do not return with a status from before the change.
        self.wait_until(lambda: self._status is not None and self._status.mode == response.mode, 1.0)
        return list(response.steps)

    def take_back(self) -> None:
        """Nobody moves the arm any more: READY where it is ACTIVE; ModeError or DeviceError when that is refused."""
        if self._is_active():
            self.set_mode(SafetyStatus.READY)

    def _is_active(self) -> bool:
        return self._status is not None and self._status.mode == SafetyStatus.ACTIVE

    def rearm(self, origin: str) -> None:
        """Leave a latched hold; ModeError when it is refused."""
        response = self.call(self._rearm, Rearm.Request(origin=origin))
        if response.error_code:
            raise ModeError(response.error_msg)
        self.wait_until(lambda: self._status is not None and not self._status.latched, 1.0)

    def go_home(self, *, timeout_s: float = 20.0) -> None:
        """Home over the raised waypoint; DeviceError when the arm does not get there."""
        start, sequence = self.state().reference, self.next_sequence()
        chunk = home_chunk(start, self.spec, stamp_ns=time.time_ns(), sequence=sequence)
        self.play(chunk, within_m=AT_HOME_M, timeout_s=timeout_s)

    def play(self, chunk: ActionChunk, *, within_m: float, timeout_s: float) -> None:
        """Take the lease for the chunk's source, play it to its end, and give the lease back.

        DeviceError when it is rejected, when a hold is latched, or when the arm is not within `within_m` [m] of its
        last target `timeout_s` after that was due; ModeError when the lease is refused.
        """
        end = chunk.set_point(len(chunk) - 1).T_base_tcp

        def off_m() -> float:
            metres, radians = self.state().arm.T_base_tcp.distance_to(end)
            return metres if radians < ARRIVED_RAD else math.inf

        self.set_mode(SafetyStatus.ACTIVE, chunk.source)
        try:
            outcome = self.execute(chunk)
            if not outcome.accepted:
                raise DeviceError(f"rejected: {outcome.reason}")
            duration_s = seconds(len(chunk) * chunk.period_ns)
            self.wait_until(lambda: off_m() < within_m or not self._is_active(), duration_s + timeout_s)
            held = self._status.reason if self._status is not None and self._status.latched else ""
            if held or off_m() >= within_m:
                metres, radians = self.state().arm.T_base_tcp.distance_to(end)
                where = f"{1e3 * metres:.0f} mm, {radians:.2f} rad from where it was sent"
                raise DeviceError(f"the arm is {where}: {held or 'it stands elsewhere'}")
        finally:
            self.take_back()

    def next_sequence(self) -> int:
        """Number for the next chunk of this client."""
        self._sequence += 1
        return self._sequence

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something that a message brings about; False when it did not come true in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def call(self, client: Any, request: Any) -> Any:
        """Call a service and wait; DeviceError when no answer comes."""
        if not client.wait_for_service(SERVICE_TIMEOUT_S):  # a request before discovery would be lost
            raise DeviceError(f"service {client.srv_name} is offered by nobody")
        try:
            return answer(client, request, timeout_s=SERVICE_TIMEOUT_S)
        except TimeoutError:
            message = f"service {client.srv_name} gave no answer within {SERVICE_TIMEOUT_S:g} s"
            raise DeviceError(message) from None

    # --- what arrives -----------------------------------------------------------------------------------------

    def _on_state(self, serialized: bytes) -> None:
        with self._changed:
            self._newest, self._heard = serialized, time.monotonic()
            self._states.append(serialized)
            self._changed.notify_all()

    def _catch_up(self) -> None:
        while self._states:
            self._remember(convert.from_robot_state(deserialize_message(self._states.popleft(), RobotState)))

    def _remember(self, state: CoreRobotState) -> None:
        self._streams.robot.add(state.arm.stamp_ns, (state.arm, state.gripper))
        if state.commanded is not None:
            self._streams.commanded.add(state.arm.stamp_ns, state.commanded)

    def _on_status(self, message: SafetyStatus) -> None:
        with self._changed:
            self._status = message
            self._changed.notify_all()

    def _on_verdict(self, message: ChunkVerdict) -> None:
        outcome = ChunkOutcome(
            sequence=message.sequence,
            accepted=message.accepted,
            reason=message.reason,
            targets_late=message.targets_late,
            age_ns=nanoseconds(message.age),
        )
        with self._changed:
            self._verdicts = {(message.source, message.sequence): outcome}
            self._changed.notify_all()

    def _on_image(self, camera: str, message: Image) -> None:
        frame = CameraFrame(
            camera=camera,
            stamp_ns=convert.to_ns(message.header.stamp),
            received_ns=time.time_ns(),
            number=0,
            color=convert.from_color_image(message),
        )
        with self._changed:
            self._streams.add_frame(frame)
            self._changed.notify_all()


def _patiently(attempt: Callable[[], T], timeout_s: float) -> T:
    """What `attempt` returns once it is no longer refused; its ModeError when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except ModeError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)
