"""Intrinsics: do the values that the camera reports hold, and if not, which do?

OpenCV's calibration of a pinhole without distortion, as D400 colour streams are rectified; whether that is so is
tested. Where the arm showed the board, its motion is known in metres and says much more than tilted squares alone: the
estimate is then refined together with the hand-eye (`joint`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.detect import board_pose
from calibration.errors import DegenerateError
from calibration.solve.closed_forms import closed_forms
from calibration.solve.hand_eye import require_all_axes
from calibration.solve.joint import JointProblem
from calibration.views import ViewSet
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array

MIN_VIEWS = 10
GRID = (8, 6)
"""Cells of the coverage map, across and down."""
AGREES = 0.005
"""Relative difference of the focal length that is none."""
_SIGNIFICANT = 4.0
_NO_DISTORTION = (
    cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
)
_MAX_STD = 0.01


@dataclass(frozen=True, eq=False)
class IntrinsicsEstimate:
    """The result."""

    reported: Intrinsics
    estimated: Intrinsics
    std: tuple[float, float, float, float]
    """Standard deviations of fx, fy, cx, cy [px]."""
    rms_px: float
    """Corners against the estimate."""
    reported_rms_px: float
    """Corners against what the camera reports."""
    distortion_px: float
    """What a radial distortion, were there one, would move the image's corner by."""
    distortion_sure: bool
    """It is more than noise."""
    coverage: Array
    """(rows, columns) corners seen per cell of the image."""
    errors_px: tuple[Array, ...]
    """Per view (N, 2): corner seen minus corner expected, with the estimate."""

    @property
    def agrees(self) -> bool:
        """The reported focal length and centre hold."""
        pairs = zip(_four(self.estimated), _four(self.reported), self.std, strict=True)
        focal = self.estimated.fx
        return all(abs(a - b) <= max(AGREES * focal, _SIGNIFICANT * std) for a, b, std in pairs)

    @property
    def covered(self) -> float:
        """Share of the image's cells in which corners were seen."""
        return float((self.coverage > 0).mean())


def solve(views: ViewSet, *, by_arm: bool = True) -> IntrinsicsEstimate:
    """Estimate from views of a board. `by_arm`: the board is on the tcp, whose poses count; else they play no part.

    DegenerateError for too few views, or for views that are all alike.
    """
    views.require_one_camera()
    if len(views.views) < MIN_VIEWS:
        raise DegenerateError(f"{len(views.views)} views show the board, {MIN_VIEWS} are needed")
    reported = views.info.intrinsics
    points = [views.info.board.corners[v.detection.ids].astype(np.float32) for v in views.views]
    pixels = [v.detection.pixels.astype(np.float32) for v in views.views]
    size = (reported.width, reported.height)
    _, matrix, _, _, _, deviations, _, _ = cv2.calibrateCameraExtended(
        points, pixels, size, reported.matrix, np.zeros(5), flags=_NO_DISTORTION
    )
    std = tuple(float(d) for d in deviations.reshape(-1)[:4])
    if not (np.isfinite(matrix).all() and max(std) < _MAX_STD * float(matrix[0, 0])):
        raise DegenerateError(
            f"the views do not determine the focal length (± {std[0]:.1f} px of {matrix[0, 0]:.0f}): tilt the board, "
            "show it near and far"
        )
    radial, radial_std = _radial(points, pixels, size, matrix)
    corner = np.hypot(reported.width, reported.height) / 2.0
    squared = (corner / float(matrix[0, 0])) ** 2
    estimated = _from_matrix(reported, matrix)
    if by_arm:
        estimated, std = _with_arm(views.with_intrinsics(estimated))
    errors = _errors_with(estimated, points, pixels)
    return IntrinsicsEstimate(
        reported=reported,
        estimated=estimated,
        std=std,  # type: ignore[arg-type]
        rms_px=_rms(errors),
        reported_rms_px=_rms(_errors_with(reported, points, pixels)),
        distortion_px=float(abs(corner * squared * radial)),
        distortion_sure=abs(radial) > _SIGNIFICANT * radial_std,
        coverage=coverage_map(views),
        errors_px=errors,
    )


def _from_matrix(like: Intrinsics, matrix: Array) -> Intrinsics:
    fx, fy, cx, cy = (float(v) for v in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    return Intrinsics(width=like.width, height=like.height, fx=fx, fy=fy, cx=cx, cy=cy)


def _with_arm(views: ViewSet) -> tuple[Intrinsics, tuple[float, ...]]:
    """The estimate refined by the arm's motion, from a start in `views`, and standard deviations."""
    require_all_axes([view.T_base_tcp for view in views.views])
    used = tuple(range(len(views.views)))
    seen = [board_pose(view.detection, views.info.board, views.info.intrinsics) for view in views.views]
    start = min(closed_forms(JointProblem(views, used), views.views, seen, "eye_to_hand").values(), key=lambda f: f[0])
    problem = JointProblem(views, used, lens=True)
    x = problem.solve(np.concatenate([start[1], problem.camera]))
    fx, fy, cx, cy = (float(v) for v in x[12:16])
    size = views.info.intrinsics
    estimated = Intrinsics(width=size.width, height=size.height, fx=fx, fy=fy, cx=cx, cy=cy)
    return estimated, tuple(float(d) for d in problem.deviations(x)[12:16])


def coverage_map(views: ViewSet) -> Array:
    """Corners seen per cell of the image (rows, columns)."""
    size = views.info.intrinsics
    seen = np.concatenate([v.detection.pixels for v in views.views]) if views.views else np.zeros((0, 2))
    counts, _, _ = np.histogram2d(
        seen[:, 1], seen[:, 0], bins=(GRID[1], GRID[0]), range=((0, size.height), (0, size.width))
    )
    return np.asarray(counts)


def _four(intrinsics: Intrinsics) -> tuple[float, float, float, float]:
    return intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy


def _radial(points: list[Array], pixels: list[Array], size: tuple[int, int], matrix: Array) -> tuple[float, float]:
    """The first radial coefficient, were it free, and its standard deviation."""
    flags = _NO_DISTORTION & ~cv2.CALIB_FIX_K1
    result = cv2.calibrateCameraExtended(points, pixels, size, matrix.copy(), np.zeros(5), flags=flags)
    return float(result[2].reshape(-1)[0]), float(result[5].reshape(-1)[4])


def _errors_with(intrinsics: Intrinsics, points: list[Array], pixels: list[Array]) -> tuple[Array, ...]:
    """Per view (N, 2): corner seen minus corner expected, when only the board's pose is free."""
    errors = []
    for p, seen in zip(points, pixels, strict=True):
        _, rotvec, translation = cv2.solvePnP(p, seen, intrinsics.matrix, None, flags=cv2.SOLVEPNP_ITERATIVE)
        fitted = cv2.projectPoints(p, rotvec, translation, intrinsics.matrix, None)[0].reshape(-1, 2)
        errors.append(seen.astype(np.float64) - fitted)
    return tuple(errors)


def _rms(errors: tuple[Array, ...]) -> float:
    return float(np.sqrt((np.concatenate(errors) ** 2).sum(axis=1).mean()))
