"""OpenCV's closed-form hand-eye solvers, all on the same views: a start for the refinement, and its comparison."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from calibration.errors import CalibrationError
from calibration.solve.joint import Arrangement, JointProblem
from calibration.views import View
from vla_rft_core.geometry import Array, Pose

_SOLVERS = {
    "Tsai": cv2.CALIB_HAND_EYE_TSAI,
    "Park": cv2.CALIB_HAND_EYE_PARK,
    "Horaud": cv2.CALIB_HAND_EYE_HORAUD,
    "Andreff": cv2.CALIB_HAND_EYE_ANDREFF,
    "Daniilidis": cv2.CALIB_HAND_EYE_DANIILIDIS,
}
_BOTH_SOLVERS = {"Shah": cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH, "Li": cv2.CALIB_ROBOT_WORLD_HAND_EYE_LI}


def pose_of(x: Array) -> Pose:
    """A pose of six unknowns: translation [m] and rotation vector [rad]."""
    return Pose(x[:3], Rotation.from_rotvec(x[3:6]).as_quat())


def vector_of(pose: Pose) -> Array:
    """Undo `pose_of`."""
    return np.concatenate([pose.position, Rotation.from_quat(pose.quaternion).as_rotvec()])


def closed_forms(
    problem: JointProblem, views: tuple[View, ...], seen: list[Pose], arrangement: Arrangement
) -> dict[str, tuple[float, Array]]:
    """OpenCV's solvers by name: misfit [px] and unknowns (12,). CalibrationError when none of them finds anything."""
    moving = [v.T_base_tcp if arrangement == "eye_in_hand" else v.T_base_tcp.inverse() for v in views]
    arm = [pose.matrix() for pose in moving]
    boards = [pose.matrix() for pose in seen]
    arm_r, arm_t = [m[:3, :3] for m in arm], [m[:3, 3] for m in arm]
    board_r, board_t = [m[:3, :3] for m in boards], [m[:3, 3] for m in boards]

    def camera_only(method: int) -> Pose:
        rotation, translation = cv2.calibrateHandEye(arm_r, arm_t, board_r, board_t, method=method)
        return _checked(rotation, translation)

    def both(method: int) -> Pose:
        back = [pose.inverse().matrix() for pose in moving]
        out = cv2.calibrateRobotWorldHandEye(
            board_r, board_t, [m[:3, :3] for m in back], [m[:3, 3] for m in back], method=method
        )
        return _checked(out[2], out[3]).inverse()

    found: dict[str, tuple[float, Array]] = {}
    for solver, methods in ((camera_only, _SOLVERS), (both, _BOTH_SOLVERS)):
        for name, method in methods.items():
            try:
                camera = solver(method)
            except (cv2.error, ValueError):
                continue
            x = np.concatenate([vector_of(camera), vector_of(_mean_board(camera, views, seen, arrangement))])
            error = problem.project(x) - problem.pixels
            found[name] = float(np.sqrt((error**2).sum(axis=1).mean())), x
    if not found:
        raise CalibrationError("none of the closed-form solvers finds a solution: are the poses those of the pictures?")
    return found


def _checked(rotation: Array, translation: Array) -> Pose:
    """A pose of what a solver returned; ValueError when it is no rotation."""
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        raise ValueError("not finite")
    if abs(np.linalg.det(rotation) - 1.0) > 1e-3:
        raise ValueError("no rotation")
    return Pose(translation.reshape(3), Rotation.from_matrix(rotation).as_quat())


def _fixed_board(camera: Pose, view: View, seen: Pose, arrangement: Arrangement) -> Pose:
    """The board where it does not move, as one view has it: T_tcp_board, or T_base_board."""
    if arrangement == "eye_in_hand":
        return view.T_base_tcp.compose(camera).compose(seen)
    return view.T_base_tcp.inverse().compose(camera).compose(seen)


def _mean_board(camera: Pose, views: tuple[View, ...], seen: list[Pose], arrangement: Arrangement) -> Pose:
    boards = [_fixed_board(camera, view, pose, arrangement) for view, pose in zip(views, seen, strict=True)]
    rotation = Rotation.from_quat([board.quaternion for board in boards]).mean()
    return Pose(np.median([board.position for board in boards], axis=0), rotation.as_quat())
