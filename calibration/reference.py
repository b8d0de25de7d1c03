"""The reference picture: what the camera saw from where it was calibrated, and whether it still sees that today.

One question with one answer, for the command `calibration.check`, the doctor and the gate before trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calibration.errors import CalibrationError
from calibration.results import RESULT_FILE, Measurement, Verdict
from calibration.solve.drift import Drift, describe, solve
from vla_rft_core import config
from vla_rft_core.calibration import Intrinsics, result_folder
from vla_rft_core.cell import CellFolder
from vla_rft_core.geometry import Pose
from vla_rft_core.types import Depth, Image

KIND = "reference"
COLOR_FILE, DEPTH_FILE = "reference.png", "depth.png"
ALARM_M, ALARM_RAD = 0.003, math.radians(0.3)
"""A camera that moved by more must be calibrated anew."""
ALARM_GAIN = (0.75, 1.33)
"""Brightness today over then, outside of which exposure or light have changed."""
ELSEWHERE_M, ELSEWHERE_RAD = 0.01, 0.03
"""The arm is part of the picture: it must stand this near to where it stood."""


@dataclass(frozen=True, kw_only=True)
class ReferenceFacts:
    """What is known of a reference picture, beside its pixels."""

    intrinsics: Intrinsics
    tcp_position: tuple[float, float, float]
    tcp_quaternion: tuple[float, float, float, float]

    @property
    def T_base_tcp(self) -> Pose:
        """Where the arm stood."""
        return Pose(self.tcp_position, self.tcp_quaternion)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Reference:
    """Colour (H, W, 3), aligned depth (H, W) [mm], and the facts."""

    color: Image
    depth: Depth
    facts: ReferenceFacts

    @classmethod
    def load(cls, folder: CellFolder, camera: str) -> Reference | None:
        """The one in force; None when there is none. ValueError when it cannot be read."""
        entry = folder.calibration.result(f"{KIND}-{camera}")
        if entry is None:
            return None
        where = result_folder(folder.path, entry)
        color = cv2.imread(str(where / COLOR_FILE), cv2.IMREAD_COLOR)
        depth = cv2.imread(str(where / DEPTH_FILE), cv2.IMREAD_UNCHANGED)
        if color is None or depth is None or depth.dtype != np.uint16:
            raise ValueError(f"{where}: the reference picture cannot be read; take a new one")
        values = config.read_yaml(where / RESULT_FILE)["values"]
        facts = config.from_mapping(ReferenceFacts, values, str(where / RESULT_FILE))
        return cls(np.ascontiguousarray(color[..., ::-1]), depth, facts)

    def save(self, folder: Path) -> None:
        """Both pictures, without loss."""
        cv2.imwrite(str(folder / COLOR_FILE), self.color[..., ::-1])
        cv2.imwrite(str(folder / DEPTH_FILE), self.depth)

    def require_arm_there(self, T_base_tcp: Pose) -> None:
        """CalibrationError unless the arm stands where it stood."""
        metres, radians = self.facts.T_base_tcp.distance_to(T_base_tcp)
        if metres > ELSEWHERE_M or radians > ELSEWHERE_RAD:
            raise CalibrationError(
                f"the arm stands {1e3 * metres:.0f} mm and {radians:.2f} rad from where it stood in the reference "
                "picture: send it home first"
            )


@dataclass(frozen=True, eq=False)
class DriftReport:
    """Today against the reference."""

    drift: Drift
    words: str
    moved: bool
    exposure_changed: bool

    @property
    def good(self) -> bool:
        """Nothing has changed that matters."""
        return not self.moved and not self.exposure_changed


def compare(reference: Reference, today: Image, T_base_camera: Pose) -> DriftReport:
    """Whether the camera still is where it was. CalibrationError when the pictures have too little in common."""
    drift = solve(reference.color, reference.depth, today, reference.facts.intrinsics)
    return DriftReport(
        drift=drift,
        words=describe(drift, T_base_camera),
        moved=drift.metres > ALARM_M or drift.radians > ALARM_RAD,
        exposure_changed=not ALARM_GAIN[0] <= drift.gain <= ALARM_GAIN[1],
    )


def gate(folder: CellFolder, camera: str, today: Image, T_base_tcp: Pose) -> str:
    """What the comparison says, for whoever is about to run trials; "not checked: …" where there is no reference.

    CalibrationError when the camera moved, the exposure changed, or nothing can be said.
    """
    reference = Reference.load(folder, camera)
    if reference is None:
        return f"not checked: calibration {folder.calibration.id} has no reference picture of camera {camera!r}"
    reference.require_arm_there(T_base_tcp)
    report = compare(reference, today, folder.calibration.camera(camera).T_base_camera)
    if report.moved:
        raise CalibrationError(f"{report.words}: calibrate hand-eye again, or put the camera back")
    if report.exposure_changed:
        raise CalibrationError(f"{report.words}: set light and exposure as they were, or take a new reference picture")
    return report.words


def measurement(reference: Reference, camera: str, serials: dict[str, str], spread_px: float) -> Measurement:
    """The reference as it is kept."""
    return Measurement(
        kind=KIND,
        camera=camera,
        verdict=Verdict.TRUST,
        reasons=(f"median of several pictures, noise {spread_px:.1f} grey values",),
        values=config.to_mapping(reference.facts),
        residuals={"noise": spread_px},
        serials=serials,
    )
