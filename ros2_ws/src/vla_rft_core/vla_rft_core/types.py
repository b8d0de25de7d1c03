"""What crosses a boundary: frames, states, observations, chunks, set-points. Frozen, with shapes, units and frames.

Positions in metres in the robot's base frame, quaternions xyzw, stamps in CLOCK_REALTIME nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.geometry import Array, Pose

Image = NDArray[np.uint8]
Depth = NDArray[np.uint16]


class Source(StrEnum):
    """Who made a chunk, and so who must hold the lease for it to move the arm."""

    POLICY = "policy"
    TELEOP = "teleop"
    REPLAY = "replay"
    HOME = "home"


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One colour image and the depth aligned to it.

    color: uint8 RGB [H, W, 3]; depth: uint16 [H, W] in millimetres (0 = no reading), or None when not streamed.
    """

    camera: str
    stamp_ns: int
    """Capture time."""
    received_ns: int
    """Host arrival time; a real camera's capture stamp hides the transport."""
    number: int
    """Frame counter of the device; a gap is a drop."""
    color: Image
    depth: Depth | None = None


@dataclass(frozen=True, eq=False)
class ArmState:
    """What the arm measured at `stamp_ns`."""

    stamp_ns: int
    q: Array
    """(7,) joint positions [rad], link side."""
    dq: Array
    """(7,) joint velocities [rad/s]."""
    tau_ext: Array
    """(7,) external joint torques [Nm]."""
    T_base_tcp: Pose
    tcp_twist: Array
    """(6,) linear [m/s] and angular [rad/s] velocity of the tcp in base."""
    wrench: Array
    """(6,) external force [N] and torque [Nm] sensed at the tcp, in base."""
    operational: bool = True
    """Enabled, brakes released, no fault: it will follow commands."""
    fault: str = ""
    """The fault in words; empty when there is none."""


@dataclass(frozen=True)
class GripperState:
    """What the gripper measured."""

    stamp_ns: int
    width: float
    """Opening between the fingers [m]."""
    force: float
    """Sensed force [N], + opening, - closing (the vendor's sign)."""
    moving: bool


@dataclass(frozen=True, eq=False)
class SetPoint:
    """One absolute command: where the tcp shall be (base frame) and how far the fingers shall be open [m]."""

    T_base_tcp: Pose
    width: float


@dataclass(frozen=True, eq=False)
class RobotState:
    """Arm and gripper of one connection, with the set-point last sent (None before the first one)."""

    arm: ArmState
    gripper: GripperState
    commanded: SetPoint | None

    @property
    def reference(self) -> SetPoint:
        """What deltas accumulate on: the commanded set-point, or the measured pose before there is one."""
        return self.commanded or SetPoint(self.arm.T_base_tcp, self.gripper.width)


@dataclass(frozen=True, eq=False)
class Observation:
    """What the policy sees at time `stamp_ns`; made by `sync.assemble` only.

    Example: images {"front": uint8 [480, 640, 3]}, state float32 (10,), prompt "fold the towel in half".
    """

    stamp_ns: int
    """Capture time of the oldest image."""
    images: Mapping[str, Image]
    """Per camera: the whole colour image, uint8 RGB [H, W, 3]; `image.policy_image` makes the policy's square."""
    image_stamps_ns: Mapping[str, int]
    state: NDArray[np.float32]
    """(state_dim,) in the spec's layout, measured values."""
    state_stamp_ns: int
    commanded: SetPoint
    """The set-point in force at that time: the reference that action deltas accumulate on."""
    prompt: str
    ages_ns: Mapping[str, int] = field(default_factory=dict)
    """Per input: how old it was when the observation was assembled."""


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """Absolute targets for the tcp and the gripper; target i is due at `stamp_ns + (i + 1) * period_ns`.

    positions: (T, 3) [m] in base; quaternions: (T, 4) xyzw; widths: (T,) [m]. It is a plain carrier: values may be
    wrong until `SafetyFilter.judge_chunk` has looked at it, because it must be able to carry what came over the wire.
    """

    stamp_ns: int
    """Capture time of the observation it answers; for teleop, replay and home the time of the input."""
    period_ns: int
    positions: Array
    quaternions: Array
    widths: Array
    sequence: int
    source: Source
    policy_id: str = ""

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def finite(self) -> bool:
        """Every target is a number."""
        return all(np.isfinite(values).all() for values in (self.positions, self.quaternions, self.widths))

    def due_ns(self, index: int) -> int:
        """When target `index` is due (stamp, ns)."""
        return self.stamp_ns + (index + 1) * self.period_ns

    def set_point(self, index: int) -> SetPoint:
        """Target `index` as a set-point."""
        return SetPoint(Pose(self.positions[index], self.quaternions[index]), float(self.widths[index]))

    @classmethod
    def from_set_points(
        cls,
        set_points: list[SetPoint],
        *,
        stamp_ns: int,
        period_ns: int,
        sequence: int,
        source: Source,
        policy_id: str = "",
    ) -> ActionChunk:
        """A chunk of absolute set-points, in order."""
        return cls(
            stamp_ns=stamp_ns,
            period_ns=period_ns,
            positions=np.array([p.T_base_tcp.position for p in set_points]).reshape(-1, 3),
            quaternions=np.array([p.T_base_tcp.quaternion for p in set_points]).reshape(-1, 4),
            widths=np.array([p.width for p in set_points]),
            sequence=sequence,
            source=source,
            policy_id=policy_id,
        )
