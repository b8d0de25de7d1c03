"""RobotSpec: what a robot looks like to a policy; travels robot -> episode -> dataset -> checkpoint -> bundle -> robot.

Nothing anywhere guesses a dimension: layouts are lists of names, and sizes are their lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from vla_rft_core import config
from vla_rft_core.errors import SpecMismatchError
from vla_rft_core.geometry import Pose, normalize_quaternion

TOWEL_STATE_LAYOUT = (
    "tcp.x",
    "tcp.y",
    "tcp.z",
    "tcp.r00",
    "tcp.r10",
    "tcp.r20",
    "tcp.r01",
    "tcp.r11",
    "tcp.r21",
    "gripper.width",
)
"""10-D: tcp position in base [m], first two columns of the tcp rotation, gripper width [m]."""

TOWEL_ACTION_LAYOUT = ("delta.x", "delta.y", "delta.z", "delta.rx", "delta.ry", "delta.rz", "gripper.width")
"""7-D as in the paper: translation delta in base [m], rotation-vector delta in base [rad], target width [m]."""


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """One camera's colour stream and the square image that the policy gets of it."""

    name: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: int
    """Frames per second."""
    policy_size: int
    """Side of the policy's square image [pixels]."""

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.fps, self.policy_size) <= 0:
            raise ValueError(f"camera {self.name!r}: width, height, fps and policy_size must be positive")


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """The tool whose tip is commanded; the driver compares it with the tool active on the controller."""

    name: str
    tcp_position: tuple[float, float, float]
    """Tool centre point in the flange frame [m]."""
    tcp_quaternion: tuple[float, float, float, float]
    """Its orientation in the flange frame, xyzw."""
    mass: float
    """[kg]"""

    def __post_init__(self) -> None:
        normalize_quaternion(self.tcp_quaternion)

    @property
    def T_flange_tcp(self) -> Pose:
        """The tool centre point in the flange frame."""
        return Pose(self.tcp_position, self.tcp_quaternion)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class HomeSpec:
    """Where the arm waits between attempts, and how it gets there."""

    q: tuple[float, ...]
    """Joint positions [rad]; also the null-space posture."""
    position: tuple[float, float, float]
    """The tcp there, in base [m]."""
    quaternion: tuple[float, float, float, float]
    """Its orientation in base, xyzw."""
    width: float
    """Gripper opening [m]."""
    raise_height: float
    """Every way home passes at this tcp height or above [m, base]."""

    def __post_init__(self) -> None:
        normalize_quaternion(self.quaternion)

    @property
    def T_base_tcp(self) -> Pose:
        """The home pose."""
        return Pose(self.position, self.quaternion)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """One robot set-up as policies, datasets and bundles know it."""

    name: str
    cameras: tuple[CameraSpec, ...]
    tool: ToolSpec
    home: HomeSpec
    state_layout: tuple[str, ...]
    state_min_range: tuple[float, ...]
    """Smallest range assumed per state dimension when normalising, in the dimension's unit."""
    action_layout: tuple[str, ...]
    action_min_range: tuple[float, ...]
    """The same per action dimension."""
    control_period_s: float
    """Time between two targets of a chunk [s]."""
    action_horizon: int
    """Targets predicted per chunk."""

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("cameras: at least one is needed")
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"cameras: duplicate names in {names}")
        for layout, ranges, field in (
            (self.state_layout, self.state_min_range, "state"),
            (self.action_layout, self.action_min_range, "action"),
        ):
            if len(set(layout)) != len(layout) or not layout:
                raise ValueError(f"{field}_layout: names must be unique and at least one, got {list(layout)}")
            if len(ranges) != len(layout):
                raise ValueError(
                    f"{field}_min_range: has {len(ranges)} values for {len(layout)} names in {field}_layout"
                )
            if min(ranges) <= 0.0:
                raise ValueError(f"{field}_min_range: values must be positive, got {list(ranges)}")
        if not (math.isfinite(self.control_period_s) and self.control_period_s > 0.0):
            raise ValueError(f"control_period_s: must be positive, got {self.control_period_s}")
        if self.action_horizon < 1:
            raise ValueError(f"action_horizon: must be at least 1, got {self.action_horizon}")

    @property
    def state_dim(self) -> int:
        """Length of the state vector."""
        return len(self.state_layout)

    @property
    def action_dim(self) -> int:
        """Length of one action."""
        return len(self.action_layout)

    @property
    def control_period_ns(self) -> int:
        """Time between two targets [ns]."""
        return round(self.control_period_s * 1e9)

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name; ValueError lists the others."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ValueError(
            f"no camera {name!r} in spec {self.name!r}{config.did_you_mean(name, [c.name for c in self.cameras])}"
        )

    @classmethod
    def load(cls, path: Path) -> RobotSpec:
        """From YAML; ValueError with one sentence naming the file and the field."""
        return config.load(cls, path)

    def save(self, path: Path) -> None:
        """To YAML; FileExistsError when there is one."""
        config.save(self, path)

    def require_same(self, other: RobotSpec, *, ours: str, theirs: str) -> None:
        """Raise SpecMismatchError naming the first field that differs, with both values and where they come from."""
        difference = _first_difference(self, other, "")
        if difference is not None:
            field, mine, its = difference
            raise SpecMismatchError(f"robot spec differs in {field}: {ours} has {mine!r}, {theirs} has {its!r}")


def _first_difference(a: Any, b: Any, path: str) -> tuple[str, Any, Any] | None:
    if is_dataclass(a) and type(a) is type(b):
        pairs = [(f".{f.name}", getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        pairs = [(f"[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        same = (
            math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if isinstance(a, float) and isinstance(b, float) else a == b
        )
        return None if same else (path.lstrip("."), a, b)
    for name, x, y in pairs:
        found = _first_difference(x, y, path + name)
        if found is not None:
            return found
    return None
