"""The wire between `sim_world` and its clients: one JSON request, one JSON reply, each behind a 4-byte length.

No pickle: whatever a client sends is data. Knows nothing of sockets' life cycle (`server`, `client`) nor of worlds.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.box import BOX_FAULTS
from vla_rft_sim.towel import Placement, TowelTruth

VERSION = 1
MAX_MESSAGE = 1 << 16
"""Bytes of one message; the largest real one (a state) has about 1.5 kB."""

ROLES: Mapping[str, frozenset[str]] = {
    "robot": frozenset({"state", "send", "move", "prepare", "prepare_gripper", "stop"}),
    "rdk": frozenset({"rdk"}),
    "lite": frozenset({"lite"}),
    "stop": frozenset({"stop"}),
    "camera": frozenset({"camera", "camera_faults"}),
    "truth": frozenset({"truth", "reset", "status", "box", "inject"}),
}
"""What a connection may ask for, by the role it names in its `hello`."""

CAMERA_FAULTS = (
    *("camera_silent", "camera_frozen", "camera_unplugged", "camera_usb2"),
    *("camera_slow", "camera_overexposed"),
)
"""No frames; new frames with the same picture; no camera (and no frames); a camera on a slow port; 3 frames per second;
pictures that are white almost everywhere."""
FAULTS = (*CAMERA_FAULTS, "state_stale", *BOX_FAULTS)
"""What `inject` can break: the camera, the arm's state (it stops advancing), and what the controller box may meet."""

_LENGTH = struct.Struct("<I")


class ProtocolError(DeviceError):
    """What arrived is no message of this protocol; the connection that carried it is closed."""


@dataclass(frozen=True, eq=False)
class WorldStatus:
    """What the world says about itself; arm and gripper as after the last physics step."""

    stamp_ns: int
    """Time of the last physics step."""
    mode: str
    """The controller's mode: idle or cartesian."""
    target: Pose | None
    """Where the controller takes the tcp (base frame); None while it is idle."""
    T_base_tcp: Pose
    speed: float
    """Linear speed of the tcp [m/s]."""
    angular_speed: float
    """Angular speed of the tcp [rad/s]."""
    width: float
    """Opening of the gripper [m]."""
    stop_count: int
    """Stops executed since the start."""
    last_command_ns: int
    """When the last target was accepted; 0 before the first one."""
    commands: int
    """Targets accepted since the start."""
    steps: int
    """Physics steps since the start."""
    late_steps: int
    """Steps that began so late that time was dropped, instead of made up in a burst."""
    lag_ns: int
    """How late the last step began."""
    lost_ns: int
    """Time dropped since the start: how far the world is behind real time."""
    frames: int
    """Camera frames published since the start."""
    clients: int
    faults: tuple[str, ...]
    """Injected faults in force."""
    placement: str
    """Where the last reset put the towel, in words."""


def runtime_dir() -> Path:
    """This user's private directory for sockets (0700): under $XDG_RUNTIME_DIR where that exists, else ~/.cache.

    Not $TMPDIR: processes started from different shells must agree.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        root = (Path(base) if base and Path(base).is_dir() else Path.home() / ".cache") / "vla_rft"
    except RuntimeError:
        raise DeviceError("no runtime directory: set XDG_RUNTIME_DIR, as this user has no home") from None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        facts = root.stat()
    except OSError as error:
        raise DeviceError(f"no runtime directory at {root}: {error.strerror}") from None
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise DeviceError(f"{root} must belong to this user and be closed to others (mode 0700)")
    return root


def default_address() -> str:
    """Path of the world's socket: one per user and ROS domain."""
    return str(runtime_dir() / f"sim_world-{os.environ.get('ROS_DOMAIN_ID') or '0'}.sock")


class MessageStream:
    """Messages over a connected stream socket, which it owns: one system call each way when nothing is wrong.

    `wait_s` bounds a send and the wait for the rest of a message whose first byte is here; `idle_s` the wait for that
    first byte (None: for ever). A wait that ends raises BlockingIOError, a broken connection OSError.
    """

    def __init__(self, connection: socket.socket, *, wait_s: float, idle_s: float | None = None) -> None:
        self._connection = connection
        self._wait_s, self._idle_s = wait_s, idle_s
        self._buffer = b""
        connection.settimeout(None)
        # Set in the kernel: Python's own time-outs cost a poll per call.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(wait_s))
        self._limit(idle_s)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        body = json.dumps(message, separators=(",", ":")).encode()
        if len(body) > MAX_MESSAGE:
            raise ProtocolError(f"a message of {len(body)} bytes exceeds {MAX_MESSAGE}")
        self._connection.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> dict[str, Any] | None:
        """Read one message; None when the peer closed between two. ProtocolError for what is no message."""
        if not self._buffer:
            self._buffer = self._connection.recv(MAX_MESSAGE)
            if not self._buffer:
                return None
        if not self._complete():
            self._receive_rest()
        length, end = self._sizes()
        body, self._buffer = self._buffer[_LENGTH.size : end], self._buffer[end:]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise ProtocolError(f"{length} bytes that are no JSON") from None
        if not isinstance(message, dict):
            raise ProtocolError(f"a message must be a JSON object, got {type(message).__name__}")
        return message

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _sizes(self) -> tuple[int, int]:
        """Length of the buffer's first message and where it ends."""
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE:
            raise ProtocolError(f"a message of {length} bytes exceeds {MAX_MESSAGE}")
        return length, _LENGTH.size + length

    def _complete(self) -> bool:
        return len(self._buffer) >= _LENGTH.size and len(self._buffer) >= self._sizes()[1]

    def _receive_rest(self) -> None:
        self._limit(self._wait_s)
        while not self._complete():
            try:
                piece = self._connection.recv(MAX_MESSAGE)
            except BlockingIOError:
                raise ProtocolError("a message ended early: its rest did not come in time") from None
            if not piece:
                raise ProtocolError(f"a message ended early, after {len(self._buffer)} bytes")
            self._buffer += piece
        self._limit(self._idle_s)

    def _limit(self, duration_s: float | None) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(duration_s or 0.0))


def _timeval(duration_s: float) -> bytes:
    """What SO_RCVTIMEO and SO_SNDTIMEO take; zero is no limit."""
    return struct.pack("@ll", int(duration_s), round(duration_s % 1.0 * 1e6))


def encode_pose(pose: Pose | None) -> list[float] | None:
    """Position [m] and quaternion xyzw as seven numbers."""
    return None if pose is None else [*pose.position.tolist(), *pose.quaternion.tolist()]


def decode_pose(values: Any) -> Pose:
    """Inverse of `encode_pose`; ValueError for anything but seven finite numbers."""
    if not isinstance(values, list) or len(values) != 7:
        raise ValueError(f"a pose is [x, y, z, qx, qy, qz, qw], got {values!r}")
    numbers = [decode_number(value, "a pose's element") for value in values]
    return Pose(np.array(numbers[:3]), np.array(numbers[3:]))


def decode_number(value: Any, name: str) -> float:
    """A finite number; ValueError naming it otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def encode_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass of numbers, texts, arrays and poses."""
    return {name: _encode_value(field) for name, field in vars(value).items()}


def _encode_value(value: Any) -> Any:
    if isinstance(value, Pose):
        return encode_pose(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def decode_arm(fields: Mapping[str, Any]) -> ArmState:
    """Inverse of `encode_fields` of an arm state."""
    arrays = {name: np.array(fields[name]) for name in ("q", "dq", "tau_ext", "tcp_twist", "wrench")}
    return ArmState(**{**fields, **arrays, "T_base_tcp": decode_pose(fields["T_base_tcp"])})


def decode_gripper(fields: Mapping[str, Any]) -> GripperState:
    """Inverse of `encode_fields` of a gripper state."""
    return GripperState(**fields)


def decode_camera(fields: Mapping[str, Any]) -> CameraInfo:
    """Inverse of `encode_fields` of a camera's calibration."""
    return CameraInfo(**fields)


def decode_status(fields: Mapping[str, Any]) -> WorldStatus:
    """Inverse of `encode_fields` of a status."""
    target = fields["target"]
    return WorldStatus(
        **{
            **fields,
            "target": None if target is None else decode_pose(target),
            "T_base_tcp": decode_pose(fields["T_base_tcp"]),
            "faults": tuple(fields["faults"]),
        }
    )


def decode_placement(fields: Mapping[str, Any]) -> Placement:
    """Inverse of `encode_fields` of a placement."""
    return Placement(**fields)


def decode_truth(fields: Mapping[str, Any]) -> TowelTruth:
    """Inverse of `encode_fields` of the towel's truth."""
    return TowelTruth(**{**fields, "corners": np.array(fields["corners"])})
