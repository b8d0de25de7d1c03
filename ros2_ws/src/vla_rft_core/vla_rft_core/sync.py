"""Observations from time-stamped streams: one function, `assemble`, used live and offline alike.

The rule: at time t take of every camera the newest frame that had arrived; the observation's stamp is the oldest of
their capture times; state and commanded set-point are the newest at or before that stamp. So an observation never mixes
an image with a state from its future, and replaying recorded streams gives the same observation.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import seconds
from vla_rft_core.config import did_you_mean
from vla_rft_core.errors import StaleInputError
from vla_rft_core.geometry import quaternion_to_rot6d
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ArmState, CameraFrame, GripperState, Observation, RobotState, SetPoint

T = TypeVar("T")


@dataclass
class History(Generic[T]):
    """The newest `capacity` items of a stream, ordered by stamp; late arrivals are sorted in."""

    capacity: int = 256
    _items: list[tuple[int, int, T]] = field(default_factory=list, init=False)
    _count: int = field(default=0, init=False)

    def add(self, stamp_ns: int, item: T) -> None:
        """Remember `item`, stamped `stamp_ns`."""
        self._count += 1
        insort(self._items, (stamp_ns, self._count, item), key=lambda entry: entry[:2])
        del self._items[: -self.capacity]

    def at_or_before(self, stamp_ns: int) -> tuple[int, T] | None:
        """(stamp, item) of the newest item stamped no later than `stamp_ns`."""
        index = bisect_right(self._items, stamp_ns, key=lambda entry: entry[0])
        if index == 0:
            return None
        stamp, _, item = self._items[index - 1]
        return stamp, item

    def newest(self) -> tuple[int, T] | None:
        """(stamp, item) of the newest item."""
        return (self._items[-1][0], self._items[-1][2]) if self._items else None

    @classmethod
    def of(cls, items: Iterable[tuple[int, T]], capacity: int = 1 << 30) -> History[T]:
        """A history of recorded (stamp, item) pairs."""
        history = cls(capacity)
        for stamp_ns, item in items:
            history.add(stamp_ns, item)
        return history


@dataclass
class Streams:
    """What `assemble` reads. Frames are kept by arrival time, the others by their own stamp."""

    frames: Mapping[str, History[CameraFrame]]
    """Per camera, keyed by `CameraFrame.received_ns`."""
    robot: History[tuple[ArmState, GripperState]]
    """Measured states, keyed by `ArmState.stamp_ns`."""
    commanded: History[SetPoint]
    """Set-points delivered to the arm, keyed by the time they were sent."""

    @classmethod
    def for_spec(cls, spec: RobotSpec) -> Streams:
        """Empty streams for the spec's cameras."""
        return cls({camera.name: History(32) for camera in spec.cameras}, History(512), History(512))

    def add_frame(self, frame: CameraFrame) -> None:
        """A frame has arrived."""
        if frame.camera not in self.frames:
            raise ValueError(f"no camera {frame.camera!r} in the spec{did_you_mean(frame.camera, list(self.frames))}")
        self.frames[frame.camera].add(frame.received_ns, frame)


@dataclass(frozen=True, kw_only=True)
class FreshnessLimits:
    """How old an input may be."""

    image_age_s: float = 0.5
    """Capture time to the time of assembly [s]."""
    state_age_s: float = 0.2
    """Robot state to the observation's stamp [s]."""


def state_vector(spec: RobotSpec, arm: ArmState, gripper: GripperState) -> NDArray[np.float32]:
    """The measured state (state_dim,) in the spec's layout; ValueError names a dimension that is not measured."""
    x, y, z = arm.T_base_tcp.position
    rot6d = quaternion_to_rot6d(arm.T_base_tcp.quaternion)
    known = {"tcp.x": x, "tcp.y": y, "tcp.z": z, "gripper.width": gripper.width}
    known |= {f"tcp.r{row}{column}": rot6d[3 * column + row] for column in range(2) for row in range(3)}
    known |= {f"joint.{i}": angle for i, angle in enumerate(arm.q)}
    for name in spec.state_layout:
        if name not in known:
            hint = did_you_mean(name, list(known))
            raise ValueError(f"spec {spec.name!r}: state_layout has {name!r}, which this robot does not measure{hint}")
    return np.array([known[name] for name in spec.state_layout], dtype=np.float32)


def assemble(t_ns: int, *, spec: RobotSpec, streams: Streams, prompt: str, limits: FreshnessLimits) -> Observation:
    """The observation that the policy would see at time `t_ns` (stamp).

    Raises StaleInputError naming every input that is missing or too old, with its age.
    """
    frames: dict[str, CameraFrame] = {}
    stale: list[str] = []
    for camera in spec.cameras:
        found = streams.frames[camera.name].at_or_before(t_ns)
        if found is None:
            stale.append(f"camera {camera.name!r} has delivered nothing")
            continue
        frames[camera.name] = found[1]
        age_s = seconds(t_ns - found[1].stamp_ns)
        if age_s > limits.image_age_s:
            stale.append(f"image of {camera.name!r} is {age_s:.3f} s old (limit {limits.image_age_s:g} s)")
    if stale:
        raise StaleInputError("; ".join(stale))

    stamp_ns = min(frame.stamp_ns for frame in frames.values())
    measured = streams.robot.at_or_before(stamp_ns)
    if measured is None:
        raise StaleInputError("no robot state from before the image was taken")
    state_stamp_ns, (arm, gripper) = measured
    state_age_s = seconds(stamp_ns - state_stamp_ns)
    if state_age_s > limits.state_age_s:
        raise StaleInputError(
            f"robot state is {state_age_s:.3f} s older than the image (limit {limits.state_age_s:g} s)"
        )

    sent = streams.commanded.at_or_before(stamp_ns)
    reference = RobotState(arm=arm, gripper=gripper, commanded=sent[1] if sent else None).reference
    ages = {f"image.{name}": t_ns - frame.stamp_ns for name, frame in frames.items()} | {"state": t_ns - state_stamp_ns}
    return Observation(
        stamp_ns=stamp_ns,
        images={name: frame.color for name, frame in frames.items()},
        image_stamps_ns={name: frame.stamp_ns for name, frame in frames.items()},
        state=state_vector(spec, arm, gripper),
        state_stamp_ns=state_stamp_ns,
        commanded=reference,
        prompt=prompt,
        ages_ns=ages,
    )
