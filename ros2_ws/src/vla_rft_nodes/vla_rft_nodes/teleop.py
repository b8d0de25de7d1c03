"""Teleop: a teleoperation device moves the arm. The dead-man is the lease: pressed asks for it, released gives it back.

Without the lease nothing is sent. Part of teleop_node and of the operator's recording terminal; it beats for both, and
knows neither which device it reads nor who records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header

from vla_rft_core import types as core
from vla_rft_core.clock import SystemClock, nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.spec import RobotSpec
from vla_rft_hardware.protocols import OperatorKeys, PrivilegedDevice, TeleopCommand, TeleopDevice
from vla_rft_interfaces.msg import ActionChunk, RobotState, SafetyStatus, SimTruth
from vla_rft_interfaces.srv import SetMode
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.ros import HEARTBEAT_HZ

HEARTBEAT_NAME = "teleop_node"
"""What the watchdog listens for while teleoperation holds the lease, whichever process reads the device."""
LEAVE_NS = nanoseconds(1.0)
"""A lost device is reported once the lease is given back, or after this long."""


class Teleop:
    """Call `tick` once per control period from the node's executor. Methods are for that one thread."""

    def __init__(
        self,
        node: Node,
        device: TeleopDevice,
        spec: RobotSpec,
        *,
        on_key: Callable[[str], None],
        linger_s: float = 0.0,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """`on_key` is given the device's recorder keys (keep, discard, undo, stop).

        `linger_s`: how long the lease outlives the dead-man [s]; for a keyboard, whose every press is a step.
        `alive`: beats only while it says so; what it depends on is then watched as this process is.
        """
        self._node, self._device, self._spec = node, device, spec
        self._on_key, self._linger_ns, self._alive = on_key, nanoseconds(linger_s), alive
        self._clock = SystemClock()
        self._state: bytes | None = None
        self._ours = False
        self._pressed = False
        self._owing = False  # the lease was asked for by this dead-man, or used with it: it goes back on release
        self._pressed_ns = 0
        self._sequence = 0
        self._lost: tuple[DeviceError, int] | None = None
        self._chunks = node.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.COMMAND)
        self._beats = node.create_publisher(Header, topics.HEARTBEAT, qos.EVENT)
        self._beating = node.create_timer(1.0 / HEARTBEAT_HZ, self._beat)
        self._set_mode = node.create_client(SetMode, topics.SET_MODE)
        # Ten states come per control period and one is looked at: only that one is deserialised.
        node.create_subscription(RobotState, topics.ROBOT_STATE, self._on_state, qos.STATE, raw=True)
        node.create_subscription(SafetyStatus, topics.SAFETY_STATUS, self._on_status, qos.LATCHED)
        if isinstance(device, PrivilegedDevice):
            node.create_subscription(SimTruth, topics.SIM_TRUTH, self._on_truth, qos.STATE)

    @property
    def pressed(self) -> bool:
        """The dead-man was pressed at the last tick."""
        return self._pressed

    @property
    def ours(self) -> bool:
        """Teleoperation holds the lease."""
        return self._ours

    @property
    def chunks(self) -> int:
        """Chunks sent so far."""
        return self._sequence

    def tick(self) -> None:
        """Read the device and act on it. DeviceError when it is gone, once the lease has been given back."""
        if self._lost is not None:
            self._leave(*self._lost)
            return
        try:
            self._read()
        except DeviceError as error:
            self._pressed = False
            self._lost = (error, self._clock.monotonic_ns())
            self.release()

    def release(self) -> None:
        """Give the lease back at once if teleoperation holds it."""
        self._owing = False
        if self._ours:
            self._request(SafetyStatus.READY)

    def close(self) -> None:
        """Stop beating, and release the device."""
        self._node.destroy_timer(self._beating)
        self._device.close()

    def _read(self) -> None:
        if isinstance(self._device, OperatorKeys):
            for key in self._device.recorder_keys():
                self._on_key(key)
        if self._state is not None:
            state = convert.from_robot_state(deserialize_message(self._state, RobotState))
            self._follow(self._device.read(state), state)

    def _follow(self, command: TeleopCommand, state: core.RobotState) -> None:
        """Send, ask for the lease, or give it back. A lease lost under a pressed dead-man needs a fresh press."""
        now_ns = self._clock.monotonic_ns()
        was_pressed, self._pressed = self._pressed, command.enabled
        if command.enabled:
            self._pressed_ns = now_ns
            if self._ours:
                self._owing = True
                self._send(command, state)
            elif not was_pressed:
                self._owing = True
                self._request(SafetyStatus.ACTIVE)
        elif self._owing and self._ours and now_ns - self._pressed_ns >= self._linger_ns:
            self.release()

    def _leave(self, error: DeviceError, since_ns: int) -> None:
        if not self._ours or self._clock.monotonic_ns() - since_ns > LEAVE_NS:
            raise error

    def _send(self, command: TeleopCommand, state: core.RobotState) -> None:
        target = core.SetPoint(state.reference.T_base_tcp.moved(command.translation, command.rotvec), command.width)
        chunk = core.ActionChunk.from_set_points(
            [target],
            stamp_ns=command.stamp_ns,
            period_ns=self._spec.control_period_ns,
            sequence=self._sequence,
            source=core.Source.TELEOP,
        )
        self._sequence += 1
        self._chunks.publish(convert.to_chunk(chunk))

    def _request(self, mode: str) -> None:
        future = self._set_mode.call_async(SetMode.Request(mode=mode, source=str(core.Source.TELEOP)))
        future.add_done_callback(self._answered)

    def _answered(self, future: Any) -> None:
        response = future.result()
        if response.error_code:
            self._owing = False
            self._node.get_logger().warning(f"the lease was refused: {response.error_msg}")

    def _beat(self) -> None:
        if self._alive():
            self._beats.publish(Header(stamp=self._node.get_clock().now().to_msg(), frame_id=HEARTBEAT_NAME))

    def _on_state(self, serialized: bytes) -> None:
        self._state = serialized

    def _on_status(self, message: SafetyStatus) -> None:
        ours = message.mode == SafetyStatus.ACTIVE and message.source == core.Source.TELEOP
        if ours and not self._ours:
            self._device.start()
        if self._ours and not ours:
            self._owing = False  # taken away: the next lease is not ours to give back
        self._ours = ours

    def _on_truth(self, message: SimTruth) -> None:
        assert isinstance(self._device, PrivilegedDevice)
        self._device.observe_corners(np.array([[p.x, p.y, p.z] for p in message.corners]))
