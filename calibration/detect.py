"""The board in a picture: its corners to a fraction of a pixel, and where it is in the camera's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.errors import BoardNotSeenError, WrongBoardError
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array, Pose, matrix_to_quaternion
from vla_rft_core.types import Image

MIN_CORNERS = 8
"""A view with fewer tells too little."""
_MAX_RMS_PX = 2.0
"""A flat board of the right layout fits its corners better than this."""


@dataclass(frozen=True, eq=False)
class Detection:
    """Corners found. ids: (N,) int; pixels: (N, 2), a pixel's centre has whole coordinates."""

    ids: NDArray[np.int64]
    pixels: Array


def detect(image: Image, board: Board) -> Detection:
    """The board's corners in a colour picture (H, W, 3).

    BoardNotSeenError when they are not there or fewer than `MIN_CORNERS`, WrongBoardError when another board, or a
    mirrored picture of one, is.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    corners, ids, _, marker_ids = cv2.aruco.CharucoDetector(board.cv).detectBoard(gray)
    markers = _ids(marker_ids)
    if not markers:
        markers = _markers(gray, board)
    foreign = sorted(i for i in markers if i >= board.marker_count)
    if len(foreign) > len(markers) // 4:
        raise WrongBoardError(
            f"markers {foreign} are seen, the board {board} has 0 to {board.marker_count - 1}: this is another board"
        )
    found = 0 if ids is None else len(ids)
    if found >= MIN_CORNERS:
        return Detection(ids.reshape(-1).astype(np.int64), corners.reshape(-1, 2).astype(np.float64))
    if len(_markers(cv2.flip(gray, 1), board)) > max(3, 2 * len(markers)):
        raise WrongBoardError(
            "the picture shows the board mirrored: switch off mirroring in whatever makes the picture"
        )
    if len(markers) >= board.marker_count // 2:
        raise WrongBoardError(
            f"{len(markers)} markers are seen, but not where the board {board} has them: another layout"
        )
    raise BoardNotSeenError(f"{found} corners of the board are seen, {MIN_CORNERS} are needed")


def _ids(ids: Any) -> list[int]:
    return [] if ids is None else [int(i) for i in ids.reshape(-1)]


def _markers(gray: NDArray[np.uint8], board: Board) -> list[int]:
    return _ids(cv2.aruco.ArucoDetector(board.cv.getDictionary()).detectMarkers(gray)[1])


def board_pose(detection: Detection, board: Board, intrinsics: Intrinsics) -> Pose:
    """T_camera_board from one view; WrongBoardError when no flat board of this layout explains the corners."""
    points, pixels, matrix = board.corners[detection.ids], detection.pixels, intrinsics.matrix
    solved, rotvecs, translations, _ = cv2.solvePnPGeneric(points, pixels, matrix, None, flags=cv2.SOLVEPNP_IPPE)
    if not solved:
        raise WrongBoardError("the corners seen lie on one line: show the board from another side")
    rotvec, translation = cv2.solvePnPRefineLM(points, pixels, matrix, None, rotvecs[0], translations[0])
    fitted, _ = cv2.projectPoints(points, rotvec, translation, matrix, None)
    rms = float(np.sqrt(np.mean(np.sum((fitted.reshape(-1, 2) - pixels) ** 2, axis=1))))
    if rms > _MAX_RMS_PX:
        raise WrongBoardError(f"the corners do not fit the board {board}: {rms:.1f} px; is it bent, or another one?")
    return Pose(translation.reshape(3), matrix_to_quaternion(cv2.Rodrigues(rotvec)[0]))
