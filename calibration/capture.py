"""Taking views of a board: the arm leads it through poses, or a person does and rests where a view is wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import numpy as np
from tqdm import tqdm

from calibration.board import Board
from calibration.detect import board_pose, detect
from calibration.errors import BoardNotSeenError
from calibration.rig import SETTLE_S, CalibrationCell, Guide, is_still
from calibration.solve.intrinsics import coverage_map
from calibration.views import View, ViewSet, ViewSetInfo
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Array, Pose

_NEW_M, _NEW_RAD = 0.04, 0.12
"""A pose led to by hand counts when it differs by one of these from every one before."""
_HELD_NEW_M, _HELD_NEW_RAD = 0.08, 0.2
_HELD_STILL_PX = 1.0
"""Between two pictures of a board held in the hand."""
_HAND_LIMIT_S = 600.0

Tell = Callable[[str], None]


def view_now(cell: CalibrationCell, camera: str, board: Board, intrinsics: Intrinsics) -> View:
    """The board as it is seen now. BoardNotSeenError, or WrongBoardError for another board."""
    before = cell.state().arm.T_base_tcp
    frame = cell.frame(camera)
    detection = detect(frame.color, board)
    board_pose(detection, board, intrinsics)
    return View(before, detection, cell.serials().get(camera, ""), frame.color)


def lead_through(
    cell: CalibrationCell, camera: str, board: Board, intrinsics: Intrinsics, poses: Iterable[Pose]
) -> ViewSet:
    """The arm goes from pose to pose; where the board is not seen, there is no view."""
    guide, views, unseen = Guide(cell), [], 0
    with tqdm(list(poses), desc="poses", unit="pose", file=sys.stderr) as progress:
        for pose in progress:
            guide.go(pose)
            try:
                views.append(view_now(cell, camera, board, intrinsics))
            except BoardNotSeenError:
                unseen += 1
            progress.set_postfix(views=len(views), unseen=unseen)
    return ViewSet(ViewSetInfo(camera=camera, intrinsics=intrinsics, board=board), tuple(views))


def by_hand(
    cell: CalibrationCell, camera: str, board: Board, intrinsics: Intrinsics, count: int, tell: Tell = print
) -> ViewSet:
    """A person leads the arm (hand-guiding, teleoperation): a view is taken wherever it rests in a new pose."""
    views: list[View] = []
    waited = 0.0
    while len(views) < count and waited < _HAND_LIMIT_S:
        cell.wait(100_000_000)
        waited += 0.1
        state = cell.state()
        if not is_still(state) or not _is_new(state.arm.T_base_tcp, views):
            continue
        cell.wait(round(SETTLE_S * 1e9))
        if not is_still(cell.state()):
            continue
        try:
            views.append(view_now(cell, camera, board, intrinsics))
            tell(f"view {len(views)} of {count}; lead the arm on, tilt and turn it")
        except BoardNotSeenError as error:
            tell(f"{error}")
            cell.wait(1_000_000_000)
    return ViewSet(ViewSetInfo(camera=camera, intrinsics=intrinsics, board=board), tuple(views))


def _is_new(pose: Pose, views: list[View]) -> bool:
    return all(m > _NEW_M or r > _NEW_RAD for m, r in (view.T_base_tcp.distance_to(pose) for view in views))


def held(
    cell: CalibrationCell,
    camera: str,
    board: Board,
    intrinsics: Intrinsics,
    count: int,
    *,
    show: Callable[[Array], str],
    tell: Tell = print,
) -> ViewSet:
    """A person holds the board: a view is taken when it rests somewhere new in the image. `show`: the map so far."""
    info = ViewSetInfo(camera=camera, intrinsics=intrinsics, board=board)
    views: list[View] = []
    poses: list[Pose] = []
    last: View | None = None
    waited = 0.0
    while len(views) < count and waited < _HAND_LIMIT_S:
        cell.wait(200_000_000)
        waited += 0.2
        try:
            view = view_now(cell, camera, board, intrinsics)
        except BoardNotSeenError:
            last = None
            continue
        pose = board_pose(view.detection, board, intrinsics)
        rests, last = last is not None and _moved_px(last, view) < _HELD_STILL_PX, view
        new = all(m > _HELD_NEW_M or r > _HELD_NEW_RAD for m, r in map(pose.distance_to, poses))
        if rests and new:
            views.append(view)
            poses.append(pose)
            tell(f"view {len(views)} of {count}; show the board where the map is empty, and tilted\n")
            tell(show(coverage_map(ViewSet(info, tuple(views)))))
    return ViewSet(info, tuple(views))


def _moved_px(before: View, now: View) -> float:
    """How far the corners seen in both moved, on average; infinite when there are none."""
    common = np.intersect1d(before.detection.ids, now.detection.ids)
    if len(common) == 0:
        return np.inf
    there = before.detection.pixels[np.isin(before.detection.ids, common)]
    here = now.detection.pixels[np.isin(now.detection.ids, common)]
    return float(np.linalg.norm(here - there, axis=1).mean())
