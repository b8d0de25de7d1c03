"""What a device must do to be driven by this stack. Real drivers and simulated devices satisfy the same four protocols.

Devices connect and only read until they are told to prepare; every failure of a device raises `DeviceError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import ArmState, CameraFrame, GripperState, RobotState


@runtime_checkable
class Arm(Protocol):
    """A Cartesian arm. `send` is called by `ServoLoop` alone."""

    def state(self) -> ArmState:
        """The newest measurement; never blocks for long; DeviceError when the connection is gone."""

    def prepare(self) -> list[str]:
        """Make the arm ready to move (clear fault, enable, motion mode, ...): the steps done, in words."""

    def send(self, T_base_tcp: Pose) -> None:
        """New target of the tcp; returns on delivery. DeviceError when not prepared or gone."""

    def stop(self) -> None:
        """Stop at once and leave the motion mode; only `prepare` makes it accept targets again."""

    def close(self) -> None:
        """Let go of the connection; the arm finishes its last target."""


@runtime_checkable
class Gripper(Protocol):
    """A two-finger gripper commanded by opening width."""

    def state(self) -> GripperState:
        """The newest measurement."""

    def prepare(self) -> list[str]:
        """Enable and initialise (fingers may move): the steps done, in words."""

    def move(self, width: float) -> None:
        """Go to an opening [m]; returns on delivery, not on arrival."""

    def close(self) -> None:
        """Let go of the connection."""


@runtime_checkable
class Diagnosed(Protocol):
    """A device that has more to tell than its state; optional."""

    def diagnostics(self) -> Mapping[str, str]:
        """Facts, temperatures, fault words and call times, named and in words; from what was read last, at no cost."""


@dataclass(frozen=True, eq=False)
class CameraInfo:
    """Calibration of one colour stream; depth is aligned to it. Distortion is zero (the stream is rectified)."""

    camera: str
    serial: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    depth_scale: float = 0.001
    """Metres per depth unit."""


@runtime_checkable
class Camera(Protocol):
    """A colour camera with depth aligned to colour."""

    def info(self) -> CameraInfo:
        """Intrinsics as the device reports them."""

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The next new frame, or None when none came in time; DeviceError when the camera is gone."""

    def close(self) -> None:
        """Stop streaming."""


@dataclass(frozen=True, eq=False)
class TeleopCommand:
    """One reading of a teleoperation device: a bounded step of the commanded pose."""

    stamp_ns: int
    """Time of the input."""
    enabled: bool
    """The dead-man switch is pressed; when False the rest is ignored and the arm holds."""
    translation: Array
    """(3,) step in base for one control period [m]."""
    rotvec: Array
    """(3,) step in base for one control period [rad]."""
    width: float
    """Wanted opening of the gripper [m], absolute."""


@runtime_checkable
class TeleopDevice(Protocol):
    """A SpaceMouse, gamepad, keyboard, or the scripted expert."""

    def start(self) -> None:
        """The lease is ours from now on: forget what was pending (the expert plans anew)."""

    def read(self, state: RobotState) -> TeleopCommand:
        """What the operator wants for the next control period, given the robot's state; never blocks."""

    def close(self) -> None:
        """Release the device."""


@runtime_checkable
class PrivilegedDevice(TeleopDevice, Protocol):
    """A device that is shown the simulator's ground truth: the scripted expert."""

    def observe_corners(self, corners: Array) -> None:
        """The towel's corners now: (4, 3) in base [m], in order around the towel."""


RECORDER_KEYS = ("keep", "discard", "undo", "stop")
"""What an operator tells the recorder from a device: keep the attempt, discard it, undo that, end the session."""


@runtime_checkable
class OperatorKeys(Protocol):
    """A device with keys for the recorder, which never move the arm; optional."""

    def recorder_keys(self) -> list[str]:
        """The `RECORDER_KEYS` pressed since the last call, in order; looks at the device, never blocks."""
