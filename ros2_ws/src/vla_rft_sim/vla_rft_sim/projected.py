"""What the camera would see of a board, by projection instead of rendering: for figures over many seeds.

The arm and the board's place are those of a `CalibrationTruth`; the corners get normal noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array, Pose
from vla_rft_sim.calibration_world import CalibrationTruth, draw_truth
from vla_rft_sim.intrinsics import color_camera_info
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q, TOOL_DOWN

__all__ = ["ProjectedView", "draw_truth", "project_views", "realised_base", "reported_table", "true_intrinsics"]


@dataclass(frozen=True, eq=False)
class ProjectedView:
    """One view: the pose that the arm reports, and the corners by id (N,) and pixel (N, 2)."""

    T_base_tcp: Pose
    ids: NDArray[np.int64]
    pixels: Array


def true_intrinsics(width: int = 640, height: int = 480) -> Intrinsics:
    """Of the simulated camera."""
    info = color_camera_info("camera", width, height)
    return Intrinsics(width=width, height=height, fx=info.fx, fy=info.fy, cx=info.cx, cy=info.cy)


def project_views(
    truth: CalibrationTruth, poses: Sequence[Pose], *, seed: int, pixel_noise: float = 0.3
) -> list[ProjectedView]:
    """A view from every pose that the arm reaches and in which the camera sees corners."""
    random, nominal, true = np.random.default_rng([seed, 17]), ArmKinematics(), truth.kinematics
    board, camera = truth.board, true_intrinsics()
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    made = cv2.aruco.CharucoBoard((board.squares_x, board.squares_y), board.square, board.marker, dictionary)
    corners = np.asarray(made.getChessboardCorners(), dtype=np.float64)
    views, q = [], HOME_Q
    for pose in poses:
        try:
            q = nominal.solve(pose, q)
        except ValueError:
            continue
        T_base_board = true.tcp_pose(q).compose(truth.T_tcp_board)
        points = truth.T_base_camera.inverse().apply(T_base_board.apply(corners))
        pixels = points[:, :2] / points[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
        inside = (points[:, 2] > 0.1) & (pixels > 2).all(axis=1)
        inside &= (pixels < [camera.width - 3, camera.height - 3]).all(axis=1)
        noisy = pixels + random.normal(scale=pixel_noise, size=pixels.shape)
        if inside.any():
            views.append(ProjectedView(nominal.tcp_pose(q), np.flatnonzero(inside), noisy[inside]))
    return views


_GRID = [(x, y, z) for x in (0.42, 0.52, 0.62, 0.72) for y in (-0.25, 0.0, 0.25) for z in (0.02, 0.15, 0.3)]
"""Tcp positions over the workspace [m, base], the tool straight down: not those of any capture."""


def realised_base(truth: CalibrationTruth) -> Pose:
    """T_base_realised: the base frame as the arm's reports have it, seen from where the base really is.

    A controller that knows its links only nominally reports poses in a frame of its own; nobody outside can tell. It is
    the rigid motion that takes reported tcp positions over the workspace nearest to the true ones.
    """
    reported, true = _tips(truth)
    rotation, _ = Rotation.align_vectors(true - true.mean(axis=0), reported - reported.mean(axis=0))
    return Pose(true.mean(axis=0) - rotation.apply(reported.mean(axis=0)), rotation.as_quat())


def reported_table(truth: CalibrationTruth) -> float:
    """Mean height [m] that the arm reports while its tip touches the table (z = 0), over the workspace."""
    reported, true = _tips(truth)
    return float(np.mean(reported[:, 2] - true[:, 2]))


def _tips(truth: CalibrationTruth) -> tuple[Array, Array]:
    """Reported and true tcp positions (N, 3) over the workspace [m]."""
    nominal, true, pairs = ArmKinematics(), truth.kinematics, []
    for position in _GRID:
        q = nominal.solve(Pose(position, TOOL_DOWN), HOME_Q)  # type: ignore[arg-type]
        pairs.append((nominal.tcp_pose(q).position, true.tcp_pose(q).position))
    reported, actual = np.swapaxes(np.array(pairs), 0, 1)
    return reported, actual
