"""Parts that most messages are made of: stamps, headers, poses, vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.geometry import Array, Pose
from vla_rft_episodes.messages import message_class

BASE = "base"
"""Frame of all poses: the robot's base."""


def make(type_name: str, **fields: Any) -> Any:
    """A message."""
    return message_class(type_name)(**fields)


def to_time(stamp_ns: int) -> Any:
    """Nanoseconds as a stamp."""
    return make("builtin_interfaces/msg/Time", sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def to_duration(duration_ns: int) -> Any:
    """Nanoseconds as a duration."""
    return make("builtin_interfaces/msg/Duration", sec=duration_ns // NS_PER_S, nanosec=duration_ns % NS_PER_S)


def to_ns(stamp: Any) -> int:
    """A stamp or duration as nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def to_header(stamp_ns: int, frame: str = "") -> Any:
    """A header."""
    return make("std_msgs/msg/Header", stamp=to_time(stamp_ns), frame_id=frame)


def to_point(position: Array) -> Any:
    """(3,) as a point."""
    x, y, z = position.tolist()
    return make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def to_quaternion(quaternion: Array) -> Any:
    """(4,) xyzw."""
    x, y, z, w = quaternion.tolist()
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def to_vector(values: Array) -> Any:
    """(3,) as a vector."""
    x, y, z = values.tolist()
    return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def to_pose(pose: Pose) -> Any:
    """A pose, orientation xyzw."""
    position, orientation = to_point(pose.position), to_quaternion(pose.quaternion)
    return make("geometry_msgs/msg/Pose", position=position, orientation=orientation)


def to_wrench(values: Array) -> Any:
    """(6,) force, torque."""
    return make("geometry_msgs/msg/Wrench", force=to_vector(values[:3]), torque=to_vector(values[3:]))


def pose_arrays(pose: Any) -> tuple[list[float], list[float]]:
    """(position, quaternion xyzw) of a pose message, unchecked."""
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z], [q.x, q.y, q.z, q.w]


def from_pose(pose: Any) -> Pose:
    """A pose; ValueError when the message's values are not one."""
    position, quaternion = pose_arrays(pose)
    return Pose(np.array(position), np.array(quaternion))


def from_vectors(*vectors: Any) -> Array:
    """Vectors end to end, (3 n,)."""
    return np.array([value for v in vectors for value in (v.x, v.y, v.z)])
