"""What the operator of a recording presses: recorder keys of the terminal and of pedals, in order.

With `drive` the terminal's other keys move the arm while `driving` is set, as a teleoperation device like any other.
It decides nothing about attempts.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue

from rclpy.node import Node
from std_msgs.msg import String

from vla_rft_core.errors import DeviceError
from vla_rft_hardware.teleop.connect import keyboard
from vla_rft_hardware.teleop.keyboard import LINGER_S
from vla_rft_nodes import qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.teleop import Teleop


class OperatorInput:
    """Reads the terminal behind a file descriptor once per control period; `close` puts it back as it was."""

    origin = "terminal"

    def __init__(self, node: Node, cell: CellClient, *, fd: int, drive: bool) -> None:
        self.driving = False
        self._node, self._cell = node, cell
        self._was_driving = False
        self._keys: SimpleQueue[str | DeviceError] = SimpleQueue()
        self._keyboard = keyboard(fd)
        self._teleop: Teleop | None = None
        node.create_subscription(String, topics.OPERATOR_KEY, lambda message: self._keys.put(message.data), qos.EVENT)
        if drive:
            self._teleop = Teleop(node, self._keyboard, cell.spec, on_key=self._keys.put, linger_s=LINGER_S)
        self._timer = node.create_timer(cell.spec.control_period_s, self._tick)

    def next(self, timeout_s: float) -> str | None:
        """The next recorder key, or None when none came in time. DeviceError when the terminal is gone."""
        try:
            key = self._keys.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(key, DeviceError):
            raise key
        return key

    def close(self) -> None:
        """Put the terminal back as it was."""
        self._keyboard.close()

    def _tick(self) -> None:
        try:
            self._read()
        except DeviceError as error:
            self._timer.cancel()
            self._keys.put(error)

    def _read(self) -> None:
        driving, self._was_driving = self._was_driving, self.driving
        if self._teleop is not None and self.driving:
            self._teleop.tick()
            return
        if self._teleop is not None and driving:
            self._teleop.release()
        for key in self._keyboard.recorder_keys():
            self._keys.put(key)
        self._keyboard.read(self._cell.state())  # what was typed while the arm may not move is forgotten
