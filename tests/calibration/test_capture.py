"""Where the arm goes to show the board, and how views are taken where a person leads the arm or holds the board."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from calibration import capture
from calibration.board import Board
from calibration.detect import Detection
from calibration.errors import BoardNotSeenError, CalibrationError
from calibration.poses import INTRINSICS_SHOWING, showing_poses
from calibration.rig import Guide
from calibration.table import touch_by_hand
from calibration.views import View
from vla_rft_core.errors import VlaRftError
from vla_rft_core.geometry import Pose, quaternion_to_matrix
from vla_rft_sim.calibration_cell import CalibrationSimCell
from vla_rft_sim.calibration_world import draw_truth
from vla_rft_sim.projected import true_intrinsics


@pytest.mark.parametrize("showing", [None, INTRINSICS_SHOWING])
def test_poses_are_safe_and_turn_about_all_axes(cell, showing):
    poses = showing_poses(21, cell.spec, cell.safety, showing)
    assert len(poses) == 21
    assert poses[0].distance_to(poses[-1]) == (0.0, 0.0)
    for pose in poses:
        assert (pose.position > cell.safety.workspace_low).all() and (pose.position < cell.safety.workspace_high).all()
        assert pose.position[2] > cell.safety.table_height + 0.1
        tilt = np.arccos(np.clip(-quaternion_to_matrix(pose.quaternion)[2, 2], -1.0, 1.0))
        assert tilt < cell.safety.max_tilt - 0.05
    turns = [pose.distance_to(poses[0])[1] for pose in poses]
    assert max(turns) > 0.4


def test_a_workspace_without_room_is_named(cell):
    flat = replace(cell.safety, workspace_high=(0.8, 0.4, 0.1))
    with pytest.raises(ValueError, match="leaves no room to show a board"):
        showing_poses(21, cell.spec, flat)


class Led:
    """A cell whose arm a person leads: every second it rests somewhere else."""

    def __init__(self, poses: list[Pose]) -> None:
        self._poses, self.time_s = poses, 0.0

    def wait(self, duration_ns: int) -> None:
        self.time_s += duration_ns * 1e-9

    def state(self):
        place, within = divmod(self.time_s, 1.0)
        pose = self._poses[min(int(place), len(self._poses) - 1)]
        twist = np.full(6, 0.2) if within < 0.3 else np.zeros(6)  # still on its way there
        return SimpleNamespace(arm=SimpleNamespace(T_base_tcp=pose, tcp_twist=twist))


def view_at(pose: Pose, offset: float = 0.0) -> View:
    return View(pose, Detection(np.arange(24), np.random.default_rng(0).uniform(100, 300, (24, 2)) + offset), "1")


def test_views_where_a_person_lets_the_arm_rest(cell, monkeypatch):
    places = showing_poses(12, cell.spec, cell.safety)
    hidden = places[2]

    def look(led, camera, board, intrinsics):
        pose = led.state().arm.T_base_tcp
        if pose is hidden:
            raise BoardNotSeenError("0 corners of the board are seen")
        return view_at(pose)

    monkeypatch.setattr(capture, "view_now", look)
    said: list[str] = []
    views = capture.by_hand(Led(places), "front", Board(), true_intrinsics(), 6, said.append)  # type: ignore[arg-type]
    assert len(views.views) == 6
    assert all(view.T_base_tcp is not hidden for view in views.views)
    assert any("0 corners" in line for line in said) and "view 6 of 6" in said[-1]


def test_views_of_a_board_held_in_the_hand(views, monkeypatch):
    """A view counts when the board rests (two pictures alike) where it was not before."""
    shown = [v for v in views.views[:4] for _ in range(3)]  # three looks at each place
    looks = iter([*shown, *[views.views[3]] * 100])
    monkeypatch.setattr(capture, "view_now", lambda *a: next(looks))
    maps: list[str] = []

    def show(counts):
        maps.append(str(int(counts.sum())))
        return maps[-1]

    nobody = SimpleNamespace(wait=lambda ns: None)
    found = capture.held(nobody, "front", views.info.board, views.info.intrinsics, 4, show=show, tell=lambda t: None)  # type: ignore[arg-type]
    assert 2 <= len(found.views) <= 4
    assert len(maps) == len(found.views), "the map is shown with every view"


def test_touching_by_hand_asks_for_each_point():
    asked: list[str] = []
    led = Led([Pose((0.4, 0.0, 0.01), (0.0, 1.0, 0.0, 0.0))])
    points = touch_by_hand(led, 3, ask=lambda question: asked.append(question) or "")  # type: ignore[arg-type]
    assert points.shape == (3, 3) and len(asked) == 3 and "point 1 of 3" in asked[0]


def test_the_arm_is_led_where_it_was_sent_and_a_hold_is_told(folder):
    cell = CalibrationSimCell(draw_truth(0), folder=folder)
    guide = Guide(cell)
    goal = Pose((0.55, 0.1, 0.3), cell.spec.home.quaternion)
    assert guide.go(goal).arm.T_base_tcp.distance_to(goal)[0] < 0.003
    cell.loop.latch("somebody pressed the button")
    with pytest.raises(VlaRftError, match="button"):
        guide.go(goal.moved((0.05, 0.0, 0.0), (0.0, 0.0, 0.0)))
    assert cell.holding == "somebody pressed the button"


def test_a_chunk_that_is_refused_is_told(folder):
    cell = CalibrationSimCell(draw_truth(0), folder=folder)
    guide = Guide(cell)
    far = cell.state().reference
    nan = replace(far, width=float("nan"))
    with pytest.raises(CalibrationError, match="the arm may not move: malformed"):
        guide.play([nan])
