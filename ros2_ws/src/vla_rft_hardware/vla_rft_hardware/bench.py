"""What the doctor has in front of it: a computer, a cell folder, and the devices that let themselves be connected.

Reads only; the two seconds of pictures are taken once, whichever check asks first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.spec import CameraSpec
from vla_rft_hardware.host import Host
from vla_rft_hardware.protocols import Arm, Camera, Gripper

SAMPLE_S = 2.0
"""How long the camera is watched."""


@dataclass(frozen=True, kw_only=True)
class CameraSample:
    """Two seconds of one camera."""

    frames: int
    numbers_missing: int
    """Gaps in the frame numbers."""
    rate_hz: float
    """From the capture stamps; 0 with fewer than two frames."""
    pictures: int
    """Different colour pictures among the frames."""
    brightness: float
    """Mean of the last colour picture, 0 to 255."""
    size: tuple[int, int]
    """Width and height [pixels]."""
    age_s: float
    """Longest capture stamp to arrival; negative when a stamp is ahead of the host."""


@dataclass(kw_only=True)
class Bench:
    """Everything a check may look at; a device that did not connect is None.

    `*_problem` says why it did not; empty: it was not tried.
    """

    backend: str
    """sim or flexiv."""
    cell: CellFolder
    host: Host
    disk: Path
    """Where episodes will be recorded."""
    interface: str = ""
    """Network interface (or its IPv4 address) the robot is plugged into; empty: not said."""
    arm: Arm | None = None
    gripper: Gripper | None = None
    camera: Camera | None = None
    robot_problem: str = ""
    camera_problem: str = ""
    clock: Clock = field(default_factory=SystemClock)
    sample_s: float = SAMPLE_S

    @property
    def simulated(self) -> bool:
        """No real robot is meant."""
        return self.backend == "sim"

    @property
    def camera_spec(self) -> CameraSpec:
        """The spec of the camera looked at: the cell's first."""
        return self.cell.spec.cameras[0]

    @cached_property
    def arm_facts(self) -> Mapping[str, str]:
        """What the arm's driver says about itself, after one look at its state; DeviceError when there is no arm."""
        if self.arm is not None:
            self.arm.state()
        return facts(self.arm, self.robot_problem)

    @cached_property
    def gripper_facts(self) -> Mapping[str, str]:
        """What the gripper's driver says about itself."""
        return facts(self.gripper, self.robot_problem)

    @cached_property
    def camera_facts(self) -> Mapping[str, str]:
        """What the camera's driver says about itself."""
        return facts(self.camera, self.camera_problem)

    @cached_property
    def camera_sample(self) -> CameraSample:
        """Two seconds of pictures, from the first one on; DeviceError when there is no camera."""
        if self.camera is None:
            raise DeviceError(self.camera_problem)
        return watch(self.camera, self.sample_s)

    def close(self) -> None:
        """Let go of the devices; nothing of them was changed."""
        for device in (self.arm, self.gripper, self.camera):
            if device is not None:
                device.close()


def facts(device: Any, problem: str) -> Mapping[str, str]:
    """What a device says in `diagnostics()` (from memory) and `describe()` (asks it), as far as it offers them.

    DeviceError when there is no device.
    """
    if device is None:
        raise DeviceError(problem)
    offered = [getattr(device, name) for name in ("diagnostics", "describe") if hasattr(device, name)]
    return {key: value for said in offered for key, value in said().items()}


def watch(camera: Camera, duration_s: float) -> CameraSample:
    """Read frames for `duration_s` from the first one on (waiting as long for it) and count."""
    frames, missing, ages = 0, 0, []
    pictures: set[int] = set()
    first_ns = last_ns = last_number = 0
    brightness, size = 0.0, (0, 0)
    deadline = time.monotonic() + duration_s
    while (remaining := deadline - time.monotonic()) > 0.0:
        frame = camera.read(remaining)
        if frame is None:
            continue
        if frames == 0:
            first_ns, deadline = frame.stamp_ns, time.monotonic() + duration_s
        else:
            missing += max(0, frame.number - last_number - 1)
        frames += 1
        last_ns, last_number = frame.stamp_ns, frame.number
        pictures.add(hash(frame.color.tobytes()))
        ages.append((frame.received_ns - frame.stamp_ns) / 1e9)
        brightness, size = float(np.mean(frame.color)), (frame.color.shape[1], frame.color.shape[0])
    return CameraSample(
        frames=frames,
        numbers_missing=missing,
        rate_hz=(frames - 1) * 1e9 / (last_ns - first_ns) if frames > 1 and last_ns > first_ns else 0.0,
        pictures=len(pictures),
        brightness=brightness,
        size=size,
        age_s=max(ages, key=abs, default=0.0),
    )
