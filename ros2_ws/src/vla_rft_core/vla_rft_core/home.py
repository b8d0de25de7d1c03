"""The way home as a chunk: straight up to a safe height, across, down. It passes executor and filter like any other."""

from __future__ import annotations

import math

import numpy as np

from vla_rft_core.geometry import Pose
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ActionChunk, SetPoint, Source


def home_chunk(start: SetPoint, spec: RobotSpec, *, stamp_ns: int, sequence: int, speed: float = 0.25) -> ActionChunk:
    """From `start` to the spec's home pose over a raised waypoint, at `speed` [m/s] and at most 1 rad/s.

    The gripper opens to its home width from the raised waypoint on. The chunk may be longer than the spec's horizon.
    """
    home = spec.home.T_base_tcp
    height = max(spec.home.raise_height, home.position[2])
    first = start.T_base_tcp
    lifted = Pose(np.array([*first.position[:2], max(height, first.position[2])]), first.quaternion)
    above = Pose(np.array([*home.position[:2], lifted.position[2]]), home.quaternion)
    set_points: list[SetPoint] = []
    pose, width = first, start.width
    for waypoint in (lifted, above, home):
        set_points.extend(
            SetPoint(p, width) for p in _between(pose, waypoint, speed * spec.control_period_s, spec.control_period_s)
        )
        pose, width = waypoint, spec.home.width
    set_points.append(SetPoint(home, width))
    return ActionChunk.from_set_points(
        set_points, stamp_ns=stamp_ns, period_ns=spec.control_period_ns, sequence=sequence, source=Source.HOME
    )


def _between(start: Pose, end: Pose, step_m: float, step_rad: float) -> list[Pose]:
    metres, radians = start.distance_to(end)
    steps = max(math.ceil(metres / step_m), math.ceil(radians / step_rad))
    return [start.interpolate(end, (i + 1) / steps) for i in range(steps)]
