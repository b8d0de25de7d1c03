"""The commands through the simulated cell, unattended: what they measure, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration import check, command, gripper, hand_eye, latency, table
from vla_rft_core.calibration import verify_results
from vla_rft_core.cell import CellFolder
from vla_rft_hardware.description.frames import camera_frames
from vla_rft_sim.calibration_cell import CalibrationSimCell, connect
from vla_rft_sim.calibration_world import draw_truth
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.printed_board import PrintedBoard
from vla_rft_sim.projected import realised_base, reported_table

needs_gl = pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL on this machine")
SEED = 2


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--cell", "sim", "--folder", str(folder), "--seed", str(SEED), *more]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A cell folder after hand-eye and reference picture."""
    if BACKEND == "disable":
        pytest.skip("no off-screen OpenGL on this machine")
    folder = tmp_path_factory.mktemp("calibrated") / "cell"
    assert hand_eye.main(arguments(folder, "--poses", "15")) == 0
    assert check.main(arguments(folder, "--reference")) == 0
    return folder


def test_hand_eye_walks_through_capture_and_solve_and_is_in_force(calibrated):
    cell, truth = CellFolder.load(calibrated), draw_truth(SEED)
    verify_results(calibrated, cell.calibration)
    target = realised_base(truth).inverse().compose(truth.T_base_camera)
    metres, radians = cell.calibration.camera("front").T_base_camera.distance_to(target)
    assert metres < 0.002 and math.degrees(radians) < 0.2
    (frame,) = camera_frames(cell.calibration)  # what robot_node publishes as a static transform
    assert frame.pose.distance_to(cell.calibration.camera("front").T_base_camera)[0] == 0.0
    assert cell.calibration.id.startswith("sim-2")
    entry = cell.calibration.result("hand_eye-front")
    where = calibrated / "calibration" / entry.folder
    assert {"detections.png", "residuals.png", "result.yaml", "views.npz"} <= {p.name for p in where.iterdir()}
    assert "board_definition" in (where / "result.yaml").read_text()


def test_views_that_were_kept_can_be_solved_again(calibrated, capsys):
    entry = CellFolder.load(calibrated).calibration.result("hand_eye-front")
    views = calibrated / "calibration" / entry.folder
    other = calibrated.parent / "again"
    assert hand_eye.main(arguments(other, "--views", str(views))) == 0
    assert "verdict: trust" in capsys.readouterr().out
    first, second = (CellFolder.load(f).calibration.camera("front").T_base_camera for f in (calibrated, other))
    assert first.distance_to(second)[0] < 1e-9


@needs_gl
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--poses", "6"], "8 are needed"),
        (["--square", "0.038"], "times its stated size"),
        (["--squares-x", "9", "--poses", "9"], "another layout"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(calibrated, capsys, more, said):
    before = tree(calibrated)
    assert hand_eye.main(arguments(calibrated, *more)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and error.endswith("Nothing was changed.")
    assert tree(calibrated) == before


@needs_gl
def test_a_mirrored_camera_is_named(calibrated, capsys, monkeypatch):
    def mirrored(factory: str, folder: CellFolder, **options: int) -> CalibrationSimCell:
        truth = replace(draw_truth(SEED), board=PrintedBoard(mirrored=True))
        return CalibrationSimCell(truth, folder=folder)

    monkeypatch.setattr(command, "from_factory", mirrored)
    before = tree(calibrated)
    assert hand_eye.main(arguments(calibrated, "--poses", "9")) == 1
    assert "mirrored" in capsys.readouterr().err
    assert tree(calibrated) == before


@needs_gl
def test_a_camera_knocked_during_the_capture_is_named(calibrated, capsys, monkeypatch):
    class Knocked(CalibrationSimCell):
        pictures = 0

        def frame(self, camera: str):
            self.pictures += 1
            if self.pictures == 8:
                self.calibration_world.move_camera((0.005, 0.0, 0.0), (0.0, 0.0, 0.0))
            return super().frame(camera)

    monkeypatch.setattr(command, "from_factory", lambda f, folder, **o: Knocked(draw_truth(SEED), folder=folder))
    before = tree(calibrated)
    assert hand_eye.main(arguments(calibrated, "--poses", "12")) == 1
    assert "moved during the capture" in capsys.readouterr().err
    assert tree(calibrated) == before


def test_an_unchanged_view_passes_and_a_moved_or_darkened_one_does_not(calibrated, capsys, monkeypatch):
    def with_change(translation=(0.0, 0.0, 0.0), exposure=1.0):
        def make(factory: str, folder: CellFolder, **options: int) -> CalibrationSimCell:
            cell = connect(folder, seed=SEED)
            cell.calibration_world.towel_seed = 5  # a towel on the table is no reason to complain
            cell.reset(7)
            cell.calibration_world.move_camera(np.array(translation), np.zeros(3))
            cell.calibration_world.exposure = exposure
            return cell

        return make

    for change, code, said in (
        (with_change(), 0, "moved by 0."),
        (with_change(translation=(0.0, 0.005, 0.0)), 1, "has moved"),
        (with_change(exposure=0.6), 1, "brightness has changed"),
    ):
        monkeypatch.setattr(command, "from_factory", change)
        assert check.main(arguments(calibrated)) == code
        out = capsys.readouterr()
        assert said in out.out + out.err


@needs_gl
def test_without_reference_there_is_nothing_to_check(folder, capsys):
    assert check.main(arguments(folder.path)) == 1
    assert "take one with --reference" in capsys.readouterr().err


@needs_gl
def test_the_table_is_touched_and_the_safety_profile_knows(calibrated):
    truth = draw_truth(SEED)
    assert table.main(arguments(calibrated, "--columns", "2", "--rows", "2")) == 0
    safety = CellFolder.load(calibrated).safety
    assert safety.table_height == pytest.approx(reported_table(truth), abs=0.001)
    assert safety.workspace_low[2] == safety.table_height
    assert "@sim-" in safety.name


def test_gripper_and_latency_are_in_force(folder):
    assert gripper.main(arguments(folder.path, "--widths", "6")) == 0
    assert latency.main(arguments(folder.path, "--of", "gripper")) == 0
    cell = CellFolder.load(folder.path)
    truth = draw_truth(SEED)
    assert cell.calibration.gripper.command_for(0.05) == pytest.approx(0.05 - truth.gripper_sag_m, abs=0.001)
    assert cell.calibration.gripper_latency.seconds == pytest.approx(truth.gripper_latency_s, abs=0.03)
    assert cell.calibration.id.startswith("sim-"), "the camera still is the simulator's"


def test_a_cell_that_is_none(tmp_path, capsys):
    assert hand_eye.main(["--cell", str(tmp_path / "nowhere")]) == 2
    assert "no such cell folder" in capsys.readouterr().err
    assert hand_eye.main(arguments(tmp_path / "cell", "--camera", "wrist")) == 2
    assert "no camera 'wrist'" in capsys.readouterr().err
