"""Calibration: what was measured of one set-up, in force through `calibration.yaml` of its cell folder.

Every measurement is a finished folder below `calibration/` of the cell folder, with a manifest; the file in force names
those it was made of, each with its hash. Knows nothing of how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_rft_core.errors import ManifestError
from vla_rft_core.geometry import Array, Pose, normalize_quaternion
from vla_rft_core.manifest import verify

KIND = "calibration"
"""Of a measurement's manifest."""
FILE = "calibration.yaml"
FOLDER = "calibration"
"""Where the measurements lie in a cell folder, one folder each."""


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """Pinhole model of a rectified colour stream [pixels]; a pixel's centre has whole coordinates."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if min(self.width, self.height) <= 0 or not min(self.fx, self.fy) > 0.0:
            raise ValueError(f"intrinsics: width, height, fx and fy must be positive, got {self}")

    @property
    def matrix(self) -> Array:
        """The camera matrix (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, kw_only=True)
class Delay:
    """A latency [s] and its standard deviation."""

    seconds: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and math.isfinite(self.std) and self.std >= 0.0):
            raise ValueError(f"delay: must be finite with a standard deviation from 0, got {self.seconds}, {self.std}")


@dataclass(frozen=True, kw_only=True)
class CameraMount:
    """One camera: where its colour optical frame (z forward, x right, y down) is in base, and what else is known."""

    name: str
    position: tuple[float, float, float]
    """[m]"""
    quaternion: tuple[float, float, float, float]
    """xyzw"""
    serial: str = ""
    """Of the camera that was calibrated; empty: measured by hand."""
    intrinsics: Intrinsics | None = None
    """Where they were estimated because the factory's disagreed; None: those that the camera reports hold."""
    latency: Delay | None = None
    """How long before its stamp a picture was taken; camera_node takes it off the stamps."""

    def __post_init__(self) -> None:
        normalize_quaternion(self.quaternion)

    @property
    def T_base_camera(self) -> Pose:
        """The optical frame in base."""
        return Pose(self.position, self.quaternion)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class GripperCurve:
    """Opening that the fingers reach over the one commanded [m], both rising."""

    commanded: tuple[float, ...]
    measured: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.commanded) != len(self.measured) or len(self.commanded) < 2:
            raise ValueError(f"gripper: needs two widths or more each, got {self.commanded} and {self.measured}")
        for name in ("commanded", "measured"):
            if not all(a < b for a, b in zip(getattr(self, name), getattr(self, name)[1:], strict=False)):
                raise ValueError(f"gripper: {name} widths must rise, got {getattr(self, name)}")

    def command_for(self, width: float) -> float:
        """The command that opens the fingers to `width` [m]; the nearest end of the curve beyond it."""
        return float(np.interp(width, self.measured, self.commanded))


@dataclass(frozen=True, kw_only=True)
class ResultEntry:
    """A measurement that the calibration was made of."""

    kind: str
    """hand_eye, intrinsics, table, gripper, latency or reference."""
    folder: str
    """Its name below `calibration/`."""
    sha256: str
    """Digest of its manifest."""
    verdict: str
    """trust or doubtful."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Geometry and latencies of one set-up."""

    id: str
    """Names the calibration in episodes and trials."""
    cameras: tuple[CameraMount, ...]
    date: str = ""
    """UTC, when it came in force; empty: written by hand."""
    serials: Mapping[str, str] = field(default_factory=dict)
    """Device (robot, gripper, camera names) -> serial number, as they were connected."""
    robot_latency: Delay | None = None
    """Set-point sent to the tcp being there."""
    gripper_latency: Delay | None = None
    """Width sent to the fingers starting to move."""
    gripper: GripperCurve | None = None
    results: tuple[ResultEntry, ...] = ()

    def camera(self, name: str) -> CameraMount:
        """The camera of that name; ValueError lists the others."""
        for mount in self.cameras:
            if mount.name == name:
                return mount
        raise ValueError(f"calibration {self.id!r} has no camera {name!r}; it has {[m.name for m in self.cameras]}")

    def result(self, kind: str) -> ResultEntry | None:
        """The measurement of a kind that is in force."""
        return next((entry for entry in self.results if entry.kind == kind), None)


def result_folder(cell: Path, entry: ResultEntry) -> Path:
    """Where a measurement lies in a cell folder."""
    return cell / FOLDER / entry.folder


def verify_results(cell: Path, calibration: Calibration) -> None:
    """Hash every measurement in force again; ManifestError names the first that is missing, altered or another one."""
    for entry in calibration.results:
        folder = result_folder(cell, entry)
        if verify(folder, kind=KIND).digest() != entry.sha256:
            raise ManifestError(f"{folder}: is not the measurement that {FILE} was made of (another hash)")
