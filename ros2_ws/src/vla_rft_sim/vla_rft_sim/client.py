"""Devices that live in a `sim_world` process: arm and gripper, camera, the watchdog's stop, and the ground truth.

Every function takes the world's address, the path of its Unix socket ("" = the default one). All failures are
`DeviceError`: a world that is gone stays gone for the client that saw it; connect anew. Imports neither MuJoCo nor ROS.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, CameraFrame, GripperState
from vla_rft_hardware.protocols import Arm, Camera, CameraInfo, Gripper
from vla_rft_sim.frames import FrameReader
from vla_rft_sim.protocol import (
    FAULTS,
    VERSION,
    MessageStream,
    WorldStatus,
    decode_arm,
    decode_gripper,
    decode_placement,
    decode_status,
    decode_truth,
    default_address,
    encode_pose,
)
from vla_rft_sim.towel import SUCCESS, Placement, TowelTruth

CONNECT_TIMEOUT_S = 10.0
"""How long to wait for a world that is just starting."""
REPLY_TIMEOUT_S = 6.0
CACHE_NS = 5_000_000
"""One physics step: a state younger than this is the newest there is."""

__all__ = ["SimWorldClient", "connect_camera", "connect_robot", "connect_stop", "connect_truth", "default_address"]


class SimWorldClient:
    """One connection: asks and waits for the answer. Threads may share it; they take turns."""

    def __init__(self, address: str, role: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.address = address or default_address()
        self._lock = threading.Lock()
        self._stream: MessageStream | None = MessageStream(
            _connect(self.address, timeout_s), wait_s=REPLY_TIMEOUT_S, idle_s=REPLY_TIMEOUT_S
        )
        self.request("hello", role=role, version=VERSION)

    def request(self, operation: str, **fields: Any) -> Any:
        """The answer to one request; DeviceError with the world's sentence, or when the world is gone."""
        with self._lock:
            if self._stream is None:
                raise DeviceError(f"the connection to the world at {self.address} is closed")
            try:
                self._stream.send({"op": operation, **fields})
                reply = self._stream.receive()
            except BlockingIOError:
                self._drop()
                raise DeviceError(f"the world at {self.address} did not answer within {REPLY_TIMEOUT_S:g} s") from None
            except (OSError, DeviceError):
                self._drop()
                raise DeviceError(f"the world at {self.address} is gone") from None
            if reply is None:
                self._drop()
                raise DeviceError(f"the world at {self.address} is gone")
        if "error" in reply:
            raise DeviceError(str(reply["error"]))
        return reply.get("ok")

    def close(self) -> None:
        """End the connection; nothing in the world changes by it."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _connect(address: str, timeout_s: float) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(REPLY_TIMEOUT_S)
        try:
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            if time.monotonic() >= deadline:
                reason = error.strerror or error
                raise DeviceError(f"no world answers at {address} ({reason}); start one with `sim_world`") from None
        time.sleep(0.05)


class _Robot:
    """The connection that arm and gripper share; one round trip reads both."""

    def __init__(self, client: SimWorldClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._users = 2
        self._read_ns = -CACHE_NS
        self._arm: ArmState | None = None
        self._gripper: GripperState | None = None

    def state(self) -> tuple[ArmState, GripperState]:
        """The newest measurement of both, at most one physics step old."""
        with self._lock:
            now_ns = time.monotonic_ns()
            if self._arm is None or self._gripper is None or now_ns - self._read_ns > CACHE_NS:
                reply = self._client.request("state")
                self._arm, self._gripper = decode_arm(reply["arm"]), decode_gripper(reply["gripper"])
                self._read_ns = now_ns
            return self._arm, self._gripper

    def command(self, operation: str, **fields: Any) -> Any:
        """A request after which the state may be another one."""
        answer = self._client.request(operation, **fields)
        with self._lock:
            self._arm = None
        return answer

    def leave(self) -> None:
        """Close the connection with the last of the two users."""
        self._users -= 1
        if self._users == 0:
            self._client.close()


class SimArmClient:
    """`Arm` in a `sim_world`."""

    def __init__(self, robot: _Robot) -> None:
        self._robot: _Robot | None = robot

    def state(self) -> ArmState:
        """The newest measurement."""
        return _opened(self._robot).state()[0]

    def prepare(self) -> list[str]:
        """Clear, enable and enter the Cartesian motion mode: the steps, in words."""
        return list(_opened(self._robot).command("prepare"))

    def send(self, T_base_tcp: Pose) -> None:
        """New target of the tcp; DeviceError when the arm was not prepared or was stopped since."""
        _opened(self._robot).command("send", pose=encode_pose(T_base_tcp))

    def stop(self) -> None:
        """Brake at once and leave the motion mode."""
        _opened(self._robot).command("stop")

    def close(self) -> None:
        """Let go of the connection; the arm finishes its last target."""
        if self._robot is not None:
            self._robot.leave()
            self._robot = None


class SimGripperClient:
    """`Gripper` in a `sim_world`."""

    def __init__(self, robot: _Robot) -> None:
        self._robot: _Robot | None = robot

    def state(self) -> GripperState:
        """The newest measurement."""
        return _opened(self._robot).state()[1]

    def prepare(self) -> list[str]:
        """Initialise: the steps, in words."""
        return list(_opened(self._robot).command("prepare_gripper"))

    def move(self, width: float) -> None:
        """Go to an opening [m]; returns on delivery."""
        _opened(self._robot).command("move", width=float(width))

    def close(self) -> None:
        """Let go of the connection."""
        if self._robot is not None:
            self._robot.leave()
            self._robot = None


def _opened(robot: _Robot | None) -> _Robot:
    if robot is None:
        raise DeviceError("this device was closed")
    return robot


class SimStopClient:
    """The watchdog's connection: it can stop the arm and nothing else."""

    def __init__(self, client: SimWorldClient) -> None:
        self._client = client

    def stop(self) -> None:
        """Brake at once and leave the motion mode."""
        self._client.request("stop")

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class SimTruthClient:
    """What no real lab has: the towel's truth, its reset, the world's status, and faults on demand."""

    success = SUCCESS
    """What success means, in words."""

    def __init__(self, client: SimWorldClient) -> None:
        self._client = client

    def truth(self) -> TowelTruth:
        """Where the towel is and whether it is folded."""
        return decode_truth(self._client.request("truth"))

    def reset(self, seed: int, *, arm: bool = False) -> Placement:
        """Put the towel where `seed` says; `arm=True` also puts the arm home at once, idle (it jumps)."""
        return decode_placement(self._client.request("reset", seed=seed, arm=arm))

    def status(self) -> WorldStatus:
        """The controller, the tcp, punctuality and clients."""
        return decode_status(self._client.request("status"))

    def box(self) -> dict[str, Any]:
        """The controller box: status, mode, fault, tool, settings in force, gripper and events."""
        description: dict[str, Any] = self._client.request("box")
        return description

    def inject(self, fault: str, *, active: bool = True) -> None:
        """Break or repair something: one of `protocol.FAULTS`."""
        if fault not in FAULTS:
            raise ValueError(f"unknown fault {fault!r}; there are {', '.join(FAULTS)}")
        self._client.request("inject", fault=fault, active=active)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class SimCameraClient:
    """`Camera` in a `sim_world`: frames come through shared memory."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader

    def info(self) -> CameraInfo:
        """Intrinsics of the simulated D435i."""
        return self._reader.info

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The next new frame, or None in time; DeviceError when the world is gone."""
        return self._reader.read(timeout_s)

    def close(self) -> None:
        """Let go of the frames."""
        self._reader.close()


def connect_robot(address: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> tuple[Arm, Gripper]:
    """Arm and gripper over one connection, as the vendor's library has them."""
    robot = _Robot(SimWorldClient(address, "robot", timeout_s=timeout_s))
    return SimArmClient(robot), SimGripperClient(robot)


def connect_camera(
    address: str, name: str, *, timeout_s: float = CONNECT_TIMEOUT_S, clock: Clock | None = None
) -> Camera:
    """The camera `name`; DeviceError naming the cameras there are when it is another."""
    client = SimWorldClient(address, "camera", timeout_s=timeout_s)
    with contextlib.closing(client):
        path = client.request("camera", name=name)
    return SimCameraClient(FrameReader(Path(path), clock=clock or SystemClock()))


def connect_stop(address: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> SimStopClient:
    """The connection that may only stop the arm."""
    return SimStopClient(SimWorldClient(address, "stop", timeout_s=timeout_s))


def connect_truth(address: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> SimTruthClient:
    """Ground truth and control of the world itself; for the expert, the labeller, trials and tests."""
    return SimTruthClient(SimWorldClient(address, "truth", timeout_s=timeout_s))
