"""Views of the simulator's board by projection, and cells to calibrate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.board import Board
from calibration.detect import MIN_CORNERS, Detection
from calibration.poses import Showing, showing_poses
from calibration.views import View, ViewSet, ViewSetInfo
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.geometry import Pose
from vla_rft_sim.calibration_cell import fresh_folder
from vla_rft_sim.calibration_world import CalibrationTruth, draw_truth
from vla_rft_sim.projected import project_views, true_intrinsics

SERIAL = "SIM-1"


@pytest.fixture(scope="session")
def cell() -> CellFolder:
    """The shipped simulated cell."""
    return find_cell("vla_rft_sim:towel_cell")


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    """A cell folder of one's own, uncalibrated."""
    fresh_folder(tmp_path / "cell")
    return CellFolder.load(tmp_path / "cell")


@pytest.fixture(scope="session")
def truth() -> CalibrationTruth:
    """One imperfect set-up."""
    return draw_truth(4)


@pytest.fixture(scope="session")
def views_of(cell: CellFolder) -> Callable[..., ViewSet]:
    """`views_of(truth)`: what 21 poses show, by projection; `poses` or `showing` for others."""

    def make(
        truth: CalibrationTruth, *, poses: list[Pose] | None = None, showing: Showing | None = None, count: int = 21
    ) -> ViewSet:
        chosen = poses or showing_poses(count, cell.spec, cell.safety, showing)
        seen = project_views(truth, chosen, seed=truth.seed)
        views = [View(v.T_base_tcp, Detection(v.ids, v.pixels), SERIAL) for v in seen if len(v.ids) >= MIN_CORNERS]
        return ViewSet(ViewSetInfo(camera="front", intrinsics=true_intrinsics(), board=Board()), tuple(views))

    return make


@pytest.fixture(scope="session")
def views(views_of: Callable[..., ViewSet], truth: CalibrationTruth) -> ViewSet:
    """Of the one imperfect set-up."""
    return views_of(truth)


@pytest.fixture
def moved() -> Callable[..., CalibrationTruth]:
    """`moved(truth, translation, rotvec)`: the same set-up after somebody knocked the camera."""

    def make(truth: CalibrationTruth, translation, rotvec) -> CalibrationTruth:
        return replace(truth, T_base_camera=truth.T_base_camera.moved(translation, rotvec))

    return make
