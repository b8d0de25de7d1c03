"""Hand-eye against the truth, against OpenCV's solvers, and against everything that may go wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.board import Board
from calibration.detect import Detection
from calibration.errors import CalibrationError, CameraMovedError, DegenerateError, WrongBoardError
from calibration.hand_eye import judge
from calibration.poses import showing_poses
from calibration.results import Verdict
from calibration.solve.hand_eye import solve
from calibration.views import View, ViewSet
from vla_rft_core.geometry import Pose
from vla_rft_sim.calibration_world import draw_truth
from vla_rft_sim.projected import realised_base

NOTHING = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_camera_is_where_the_truth_says(views_of, seed):
    truth = draw_truth(seed)
    found = solve(views_of(truth), spread=False)
    metres, radians = found.camera.distance_to(realised_base(truth).inverse().compose(truth.T_base_camera))
    assert metres < 0.002 and math.degrees(radians) < 0.2
    assert found.board.distance_to(truth.T_tcp_board)[0] < 0.002
    assert set(found.solvers) >= {"Tsai", "Park", "Daniilidis", "Shah"}
    assert found.scale == pytest.approx(1.0, abs=0.005)


def test_without_errors_the_answer_is_exact(views_of):
    truth = replace(draw_truth(0), kinematics_error_m=0.0)
    found = solve(views_of(truth))
    metres, radians = found.camera.distance_to(truth.T_base_camera)
    assert metres < 5e-4 and math.degrees(radians) < 0.1
    assert metres < 4 * found.spread_m and radians < 4 * found.spread_rad
    assert judge(found)[0] is Verdict.TRUST


def test_a_camera_on_the_hand(views):
    """The inverse arrangement from the same data: what moved stands still, and the other way round."""
    turned = ViewSet(views.info, tuple(replace_pose(view, view.T_base_tcp.inverse()) for view in views.views))
    fixed, hand = solve(views, spread=False), solve(turned, arrangement="eye_in_hand", spread=False)
    assert hand.camera.distance_to(fixed.camera)[0] < 5e-4
    assert hand.board.distance_to(fixed.board)[0] < 5e-4


def replace_pose(view: View, pose: Pose) -> View:
    return View(pose, view.detection, view.serial)


def test_a_view_that_fits_nothing_is_set_aside(views):
    wrong = replace_pose(views.views[7], views.views[7].T_base_tcp.moved((0.02, -0.01, 0.0), (0.0, 0.05, 0.0)))
    spoilt = ViewSet(views.info, (*views.views[:7], wrong, *views.views[8:]))
    found, clean = solve(spoilt, spread=False), solve(views, spread=False)
    assert found.outliers == (7,)
    assert found.camera.distance_to(clean.camera)[0] < 0.001


def test_too_few_views(views):
    with pytest.raises(DegenerateError, match="5 views show the board, 8 are needed"):
        solve(ViewSet(views.info, views.views[:5]))


def test_poses_that_turn_about_one_axis_only(views_of, truth, cell):
    straight = [Pose(pose.position, cell.spec.home.quaternion) for pose in showing_poses(21, cell.spec, cell.safety)]
    with pytest.raises(DegenerateError, match="about none"):
        solve(views_of(truth, poses=straight))
    about_z = [pose.moved(NOTHING, (0.0, 0.0, 0.06 * i - 0.6)) for i, pose in enumerate(straight)]
    with pytest.raises(DegenerateError, match="one axis only"):
        solve(views_of(truth, poses=about_z))


def test_a_board_of_another_size(views):
    with pytest.raises(WrongBoardError, match=r"0\.94\d times its stated size"):
        solve(ViewSet(replace(views.info, board=Board(square=0.038)), views.views))


def test_several_cameras(views):
    foreign = View(views.views[0].T_base_tcp, views.views[0].detection, "SIM-2")
    with pytest.raises(CalibrationError, match="several cameras \\(SIM-1, SIM-2\\)"):
        solve(ViewSet(views.info, (foreign, *views.views[1:])))


@pytest.mark.parametrize("move", [((0.005, 0.0, 0.0), NOTHING), (NOTHING, (0.0, math.radians(0.5), 0.0))])
def test_a_camera_that_moved_during_the_capture(views_of, truth, moved, cell, move):
    poses = showing_poses(21, cell.spec, cell.safety)
    before, after = views_of(truth, poses=poses[:10]), views_of(moved(truth, *move), poses=poses[10:])
    with pytest.raises(CameraMovedError, match="moved"):
        solve(ViewSet(before.info, (*before.views, *after.views)))


def test_a_camera_that_moved_is_never_trusted_without_a_closing_view_either(views_of, truth, moved, cell):
    poses = showing_poses(31, cell.spec, cell.safety)[:-1]
    before = views_of(truth, poses=poses[:15])
    after = views_of(moved(truth, (0.02, 0.0, 0.0), (0.0, 0.03, 0.0)), poses=poses[15:])
    try:
        found = solve(ViewSet(before.info, (*before.views, *after.views)), spread=False)
    except CalibrationError:
        return
    assert judge(replace(found, spread_m=0.0, spread_rad=0.0))[0] is Verdict.REJECT


def test_views_survive_being_kept(views, tmp_path):
    views.save(tmp_path)
    again = ViewSet.load(tmp_path)
    assert again.info == views.info
    assert np.array_equal(again.views[3].detection.pixels, views.views[3].detection.pixels)
    assert solve(again, spread=False).camera.distance_to(solve(views, spread=False).camera)[0] < 1e-9


def test_views_that_are_none_are_refused(tmp_path, views):
    views.save(tmp_path)
    (tmp_path / "views.npz").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"views\.npz: cannot be read"):
        ViewSet.load(tmp_path)


def test_a_bent_board_does_not_fit(views):
    bent = Detection(views.views[5].detection.ids, views.views[5].detection.pixels * [1.0, 1.0])
    bent.pixels[::2] += 9.0
    spoilt = View(views.views[5].T_base_tcp, bent, "SIM-1")
    with pytest.raises(WrongBoardError, match="bent"):
        solve(ViewSet(views.info, (*views.views[:5], spoilt, *views.views[6:])))
