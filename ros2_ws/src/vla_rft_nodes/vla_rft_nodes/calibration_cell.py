"""A running cell to be calibrated: `connect` is the factory that `python -m calibration.…` calls for a cell folder.

Pictures, depth, intrinsics and serial numbers come from camera_node and robot_node; the arm moves through robot_node
like for anybody else. What only a person can do (screw a board on) is asked for on the terminal.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from vla_rft_core.calibration import Intrinsics
from vla_rft_core.cell import CellFolder, ChunkOutcome
from vla_rft_core.clock import nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import ActionChunk, CameraFrame, Depth, Observation, RobotState, Source
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.operate import connected

FRAME_S, FACTS_S = 3.0, 5.0
"""How long a picture, and what the nodes say of their devices, may take [s]."""
INSTRUCTIONS = {
    "board on gripper": "Screw the board to the gripper, so that the camera sees it with the tool straight down.",
    "board on table": "Lay the board on the table where the camera sees it.",
    "board in hand": "Take the board in your hand and show it to the camera.",
    "nothing": "Take board and block away; clear the table.",
    "block": "Hold the block between the fingers.",
    "lamp": "Point the camera at this computer's screen, where a patch will blink.",
}
"""What a person is asked to do for each set-up."""
_PATCH = 400


class RosCalibrationCell:
    """Satisfies `calibration.rig.CalibrationCell` around a `CellClient`."""

    simulated = False

    def __init__(self, folder: CellFolder, node: Node, client: CellClient, *, ask: Callable[[str], object]) -> None:
        self.folder, self.spec = folder, folder.spec
        self._client, self._ask = client, ask
        self._stands = ""
        self._colors: dict[str, Image] = {}
        self._depths: dict[str, Image] = {}
        self._infos: dict[str, CameraInfo] = {}
        self._facts: dict[str, dict[str, str]] = {}
        self._release: Callable[[], None] = lambda: None
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENT)
        for camera in self.spec.cameras:
            self._listen(node, camera.name)

    def _listen(self, node: Node, camera: str) -> None:
        """Keep the newest of the camera's messages."""
        for topic, kind, store in (
            (topics.color_image(camera), Image, self._colors),
            (topics.aligned_depth(camera), Image, self._depths),
            (topics.color_info(camera), CameraInfo, self._infos),
        ):
            node.create_subscription(kind, topic, lambda m, s=store: s.__setitem__(camera, m), qos.IMAGE)

    # --- Cell -------------------------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """The present observation."""
        return self._client.observe()

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        """Publish a chunk and wait for the verdict."""
        return self._client.execute(chunk)

    def wait(self, duration_ns: int) -> None:
        """Let time pass."""
        self._client.wait(duration_ns)

    def state(self) -> RobotState:
        """The newest measured state."""
        return self._client.state()

    # --- calibration ------------------------------------------------------------------------------------------

    def serials(self) -> Mapping[str, str]:
        """From /diagnostics: "robot" and the spec's first camera, whose node is called camera_node."""
        self._until(lambda: {"robot_node", "camera_node"} <= self._facts.keys(), FACTS_S)
        devices = {"robot": "robot_node", self.spec.cameras[0].name: "camera_node"}
        found = {name: self._facts.get(node, {}).get("serial", "") for name, node in devices.items()}
        return {name: serial for name, serial in found.items() if serial}

    def intrinsics(self, camera: str) -> Intrinsics:
        """From camera_info; DeviceError when none comes."""
        if not self._until(lambda: camera in self._infos, FRAME_S):
            raise DeviceError(f"camera {camera!r} sends no camera_info")
        info = self._infos[camera]
        return Intrinsics(width=info.width, height=info.height, fx=info.k[0], fy=info.k[4], cx=info.k[2], cy=info.k[5])

    def frame(self, camera: str) -> CameraFrame:
        """The next picture, with the camera's own stamp: the latency that camera_node took off is put back."""
        called_ns, latency_ns = time.time_ns(), self._latency_ns()

        def fresh() -> bool:
            color, depth = self._colors.get(camera), self._depths.get(camera)
            if color is None or convert.to_ns(color.header.stamp) + latency_ns < called_ns:
                return False
            return depth is None or depth.header.stamp == color.header.stamp

        if not self._until(fresh, FRAME_S):
            raise DeviceError(f"camera {camera!r} sent no picture within {FRAME_S:g} s")
        color, depth = self._colors[camera], self._depths.get(camera)
        return CameraFrame(
            camera=camera,
            stamp_ns=convert.to_ns(color.header.stamp) + latency_ns,
            received_ns=time.time_ns(),
            number=0,
            color=convert.from_color_image(color),
            depth=None if depth is None else from_depth_image(depth),
        )

    def _latency_ns(self) -> int:
        self._until(lambda: "camera_node" in self._facts, FACTS_S)
        return nanoseconds(float(self._facts.get("camera_node", {}).get("latency_s", "0")))

    def activate(self, source: Source) -> None:
        """READY where it is not, then the lease; a latched hold is left by a person alone."""
        status = self._client.status
        assert status is not None
        if status.latched:
            raise DeviceError(f"the arm holds ({status.reason}): re-arm it with `operate rearm`, then begin again")
        if status.mode == SafetyStatus.ACTIVE and status.source == str(source):
            return
        if status.mode != SafetyStatus.READY:
            self._client.ready()
        self._client.set_mode(SafetyStatus.ACTIVE, str(source))

    @property
    def holding(self) -> str:
        """Why a latched hold stands; empty when none does."""
        status = self._client.status
        return str(status.reason) if status is not None and status.latched else ""

    def set_up(self, what: str) -> None:
        """Ask the person at the terminal, unless it stands already; ValueError lists what there is."""
        if what not in INSTRUCTIONS:
            raise ValueError(f"there is no set-up {what!r}; there are {', '.join(INSTRUCTIONS)}")
        if what != self._stands:
            self._ask(f"{INSTRUCTIONS[what]} Then press Enter. ")
            self._stands = what

    def blink(self, on: bool) -> None:
        """A patch on the screen, white or black; what the screen delays counts as the camera's."""
        try:
            cv2.imshow("calibration", np.full((_PATCH, _PATCH), 255 if on else 0, np.uint8))
            cv2.waitKey(1)
        except cv2.error as error:
            raise DeviceError(f"there is no screen to blink on ({error.err}); use the board instead") from None

    def close(self) -> None:
        """Give the lease back and leave the graph."""
        self._release()

    def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._facts[status.name] = {value.key: value.value for value in status.values}


def from_depth_image(message: Image) -> Depth:
    """uint16 [H, W] in millimetres; ValueError for another encoding."""
    if message.encoding != "16UC1":
        raise ValueError(f"expected 16UC1, got {message.encoding}")
    return np.frombuffer(message.data, dtype=np.uint16).reshape(message.height, message.width)


def ask_on_terminal(question: str) -> str:
    """Wait for Enter; DeviceError where nobody can press it."""
    try:
        return input(question)
    except EOFError:
        raise DeviceError(f"a person is needed at the terminal: {question}") from None


def connect(folder: CellFolder, *, ask: Callable[[str], object] = ask_on_terminal) -> RosCalibrationCell:
    """The running cell of a folder; DeviceError when its nodes are not heard."""
    stack = contextlib.ExitStack()
    try:
        node, client = stack.enter_context(connected(folder.spec, name="calibration"))
    except BaseException:
        stack.__exit__(*sys.exc_info())
        raise
    cell = RosCalibrationCell(folder, node, client, ask=ask)

    def release() -> None:
        client.take_back()
        stack.close()

    cell._release = release
    return cell
