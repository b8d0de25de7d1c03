"""Hand-eye: where a camera is, from views of a board while the arm stood in many poses.

Two arrangements: `eye_to_hand` (camera fixed, board on the tcp: T_base_camera and T_tcp_board) and `eye_in_hand`
(camera on the tcp, board fixed: T_tcp_camera and T_base_board). OpenCV's closed-form solvers (Tsai, Park, Horaud,
Andreff, Daniilidis; Shah and Li for both unknowns) give the start and the comparison; what counts is the maximum
likelihood of all corners and of the arm's reported poses together, robust to views that fit nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.detect import board_pose
from calibration.errors import CalibrationError, CameraMovedError, DegenerateError, WrongBoardError
from calibration.solve.closed_forms import closed_forms, pose_of
from calibration.solve.joint import Arrangement, JointProblem, Noise
from calibration.views import View, ViewSet
from vla_rft_core.geometry import Array, Pose

MIN_VIEWS = 8
_MIN_TURN_RAD = 0.2
"""Of the weaker of the two best axes that the tcp was turned about, root mean square over pairs of views."""
_OUTLIER = 3.5
"""A view whose misfit is this many times the median's is set aside."""
_MAX_OUTLIERS = 0.25
_MAX_SCALE_ERROR = 0.01
_STEP_M, _STEP_RAD, _STEP_SURE, _STEP_VIEWS = 0.004, 0.006, 10.0, 5
"""A camera that moved by less within a capture, or with fewer views before or after, is not told from noise."""
_SAME_M, _SAME_RAD, _SAME_PX = 0.001, 0.002, 1.5
"""Two views from poses this near show the board this near."""


@dataclass(frozen=True, eq=False)
class HandEye:
    """The result. `camera`: T_base_camera (eye to hand) or T_tcp_camera; `board`: T_tcp_board or T_base_board."""

    arrangement: Arrangement
    camera: Pose
    board: Pose
    used: tuple[int, ...]
    """Indices of the views that count."""
    outliers: tuple[int, ...]
    rms_px: float
    """Corners against where the camera and the arm as reported put them, over the views used."""
    rms_m: float
    """How far the arm's reported positions are from those that explain the corners best."""
    spread_m: float
    """Standard error of the camera's position by leaving each view out in turn (jackknife); nan: not asked for."""
    spread_rad: float
    scale: float
    """The board's true size over the stated one, as the arm's motion has it."""
    solvers: Mapping[str, tuple[float, Pose]] = field(default_factory=dict)
    """OpenCV's by name: misfit [px] and the camera's pose."""
    errors_px: tuple[Array, ...] = ()
    """Per view (N, 2): corner seen minus corner expected."""


def solve(
    views: ViewSet, *, arrangement: Arrangement = "eye_to_hand", noise: Noise | None = None, spread: bool = True
) -> HandEye:
    """Where the camera is. `spread`: estimate the standard error, at the price of one more solution per view.

    Raises CalibrationError in one sentence: too few views, poses that do not determine it, several cameras, another
    board, a camera that moved meanwhile.
    """
    noise = noise or Noise()
    views.require_one_camera()
    if len(views.views) < MIN_VIEWS:
        raise DegenerateError(f"{len(views.views)} views show the board, {MIN_VIEWS} are needed: take more poses")
    require_all_axes([view.T_base_tcp for view in views.views])
    _require_same_again(views.views)
    seen = [board_pose(view.detection, views.info.board, views.info.intrinsics) for view in views.views]
    everything = tuple(range(len(views.views)))
    whole = JointProblem(views, everything, arrangement, noise)
    solvers = closed_forms(whole, views.views, seen, arrangement)
    start = min(solvers.values(), key=lambda entry: entry[0])[1]
    _require_still(views.views, seen, start, arrangement)
    used, x = _without_outliers(views, everything, arrangement, noise, start)
    problem = JointProblem(views, used, arrangement, noise)
    board_scale = _scale(problem, x)
    errors = whole.pixels - whole.project(x[:12])
    inside = np.isin(whole.owner, used)
    lengths = np.linalg.norm(x[12:].reshape(-1, 6)[:, :3], axis=1)
    spread_m, spread_rad = _jackknife(views, used, arrangement, noise, x) if spread else (np.nan, np.nan)
    return HandEye(
        arrangement=arrangement,
        camera=pose_of(x[:6]),
        board=pose_of(x[6:12]),
        used=used,
        outliers=tuple(i for i in everything if i not in used),
        rms_px=float(np.sqrt((errors[inside] ** 2).sum(axis=1).mean())),
        rms_m=float(np.sqrt((lengths**2).mean())),
        spread_m=spread_m,
        spread_rad=spread_rad,
        scale=board_scale,
        solvers={name: (rms, pose_of(found[:6])) for name, (rms, found) in solvers.items()},
        errors_px=tuple(errors[whole.owner == i] for i in everything),
    )


def require_all_axes(poses: list[Pose]) -> None:
    """DegenerateError unless the poses turn about two axes at least: an offset along a single one stays unknown."""
    rotations = Rotation.from_quat([pose.quaternion for pose in poses])
    turns = np.array([(rotations[i].inv() * rotations[j]).as_rotvec() for i in range(len(poses)) for j in range(i)])
    strengths = np.linalg.svd(turns, compute_uv=False) / np.sqrt(len(turns))
    if strengths[1] < _MIN_TURN_RAD:
        axes = "none" if strengths[0] < _MIN_TURN_RAD else "one axis only"
        raise DegenerateError(
            f"the poses turn the tcp about {axes} (the second axis by {strengths[1]:.2f} rad, {_MIN_TURN_RAD:g} are "
            "needed): tilt it to the front, to the side, and turn it"
        )


def _without_outliers(
    views: ViewSet, used: tuple[int, ...], arrangement: Arrangement, noise: Noise, start: Array
) -> tuple[tuple[int, ...], Array]:
    """The views that agree, and the solution from them."""
    allowed = int(_MAX_OUTLIERS * len(used))
    while True:
        problem = JointProblem(views, used, arrangement, noise)
        x = problem.solve(start)
        misfit = problem.misfit(x)
        worst, limit = int(np.argmax(misfit)), max(_OUTLIER * float(np.median(misfit)), 2.0)
        if misfit[worst] <= limit:
            return used, x
        if allowed == 0 or len(used) <= MIN_VIEWS:
            raise CalibrationError(
                f"more than {_MAX_OUTLIERS:.0%} of the views disagree with the others: did the board slip, or the arm "
                "move while the picture was taken?"
            )
        used, start, allowed = tuple(i for i in used if i != used[worst]), x, allowed - 1


def _require_still(views: tuple[View, ...], seen: list[Pose], start: Array, arrangement: Arrangement) -> None:
    """CameraMovedError when what should stand still is in one place before some view and in another from it on.

    Each view, with the mean board, says where the camera is; the largest jump of the mean over time is looked at.
    """
    board = pose_of(start[6:12])
    cameras = []
    for view, pose in zip(views, seen, strict=True):
        T_base_board = board if arrangement == "eye_in_hand" else view.T_base_tcp.compose(board)
        T_base_camera = T_base_board.compose(pose.inverse())
        cameras.append(
            view.T_base_tcp.inverse().compose(T_base_camera) if arrangement == "eye_in_hand" else T_base_camera
        )
    position = np.array([c.position for c in cameras])
    mean = Rotation.from_quat([c.quaternion for c in cameras]).mean()
    turn = np.array([(Rotation.from_quat(c.quaternion) * mean.inv()).as_rotvec() for c in cameras])
    for name, values, least, unit in (("moved", position, _STEP_M, 1e3), ("turned", turn, _STEP_RAD, 57.3)):
        at, jump, sure = _largest_jump(values)
        if jump > least and sure > _STEP_SURE:
            size = f"{unit * jump:.1f} {'mm' if name == 'moved' else 'deg'}"
            raise CameraMovedError(
                f"the camera {name} by about {size} before view {at} of the capture: fasten it, then begin again"
            )


def _require_same_again(views: tuple[View, ...]) -> None:
    """CameraMovedError when one pose shows the board elsewhere the second time: camera, board or table slipped."""
    for j, later in enumerate(views):
        for i, view in enumerate(views[:j]):
            metres, radians = view.T_base_tcp.distance_to(later.T_base_tcp)
            if metres > _SAME_M or radians > _SAME_RAD:
                continue
            common, before, now = np.intersect1d(view.detection.ids, later.detection.ids, return_indices=True)
            if len(common) == 0:
                continue
            shift = np.linalg.norm((later.detection.pixels[now] - view.detection.pixels[before]).mean(axis=0))
            if shift > _SAME_PX:
                raise CameraMovedError(
                    f"views {i} and {j} are from one pose and show the board {shift:.1f} px apart: camera or board "
                    "moved during the capture; fasten both, then begin again"
                )


def _largest_jump(values: Array) -> tuple[int, float, float]:
    """Index at which the median of (n, 3) changes most surely, by how much, and over its standard error."""
    best = (0, 0.0, 0.0)
    for k in range(_STEP_VIEWS, len(values) - _STEP_VIEWS + 1):
        before, after = values[:k], values[k:]
        jump = np.median(after, axis=0) - np.median(before, axis=0)
        scatter = np.concatenate([before - np.median(before, axis=0), after - np.median(after, axis=0)])
        noise = 1.4826 * np.median(np.abs(scatter), axis=0) * 1.2533 * np.sqrt(1.0 / k + 1.0 / (len(values) - k))
        sure = float(np.linalg.norm(jump / np.maximum(noise, 1e-9)) / np.sqrt(3.0))
        if sure > best[2]:
            best = (k, float(np.linalg.norm(jump)), sure)
    return best


def _scale(problem: JointProblem, x: Array) -> float:
    """The board's size over the stated one; WrongBoardError when it is another board, beyond doubt."""

    def residuals(unknown: Array) -> Array:
        return problem.residuals(unknown[1:], float(unknown[0]))

    def jacobian(unknown: Array) -> Array:
        step = 1e-6
        first = (problem.residuals(unknown[1:], float(unknown[0]) + step) - residuals(unknown)) / step
        return np.column_stack([first, problem.jacobian(unknown[1:])])

    solved = least_squares(residuals, np.concatenate([[1.0], x]), jacobian, loss="huber", f_scale=3.0, max_nfev=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        covariance = np.linalg.pinv(solved.jac.T @ solved.jac)
    chi = np.sqrt(2.0 * solved.cost / max(1, len(solved.fun) - len(solved.x)))
    scale, std = float(solved.x[0]), float(np.sqrt(covariance[0, 0]) * max(1.0, chi))
    if abs(scale - 1.0) > max(_MAX_SCALE_ERROR, 4.0 * std):
        raise WrongBoardError(
            f"the arm's motion says that the board is {scale:.3f} times its stated size (± {std:.3f}): measure "
            "a square on the print and give it with --square; if it is right, check the camera's focal length first"
        )
    return scale


def _jackknife(
    views: ViewSet, used: tuple[int, ...], arrangement: Arrangement, noise: Noise, x: Array
) -> tuple[float, float]:
    """Standard error of the camera's position [m] and rotation [rad] from leaving each view out in turn."""
    n = len(used)
    found = [JointProblem(views, tuple(j for j in used if j != i), arrangement, noise).solve(x)[:6] for i in used]
    shift = np.array([f[:3] for f in found]) - np.mean([f[:3] for f in found], axis=0)
    mean = Rotation.from_rotvec([f[3:6] for f in found]).mean()
    turn = (Rotation.from_rotvec([f[3:6] for f in found]) * mean.inv()).as_rotvec()
    factor = (n - 1) / n
    return tuple(float(np.sqrt(factor * (d**2).sum())) for d in (shift, turn))  # type: ignore[return-value]
