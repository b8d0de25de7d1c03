"""Measurements in a cell folder: whole, hashed, in force by one rename; a refusal leaves everything as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.errors import CalibrationError
from calibration.results import Measurement, Verdict, keep, put_in_force, with_mount
from calibration.safety_file import SafetyChange, put_safety_in_force
from vla_rft_core import config
from vla_rft_core.calibration import Calibration, Delay, Intrinsics, verify_results
from vla_rft_core.cell import CellFolder
from vla_rft_core.errors import ManifestError

SERIALS = {"robot": "Rizon4s-123456", "front": "123"}


def measurement(kind: str = "latency", *, camera: str = "", **serials: str) -> Measurement:
    return Measurement(
        kind=kind,
        camera=camera,
        verdict=Verdict.TRUST,
        reasons=("made up",),
        values={"array": np.array([1.5, 2.0])},
        residuals={"rms_mm": 0.1},
        serials=SERIALS | serials,
    )


def put(folder: CellFolder, made: Measurement) -> Calibration:
    entry = keep(folder.path, made, lambda where: (where / "note.txt").write_text("hello"))
    return put_in_force(folder.path, made, entry, lambda c: replace(c, robot_latency=Delay(seconds=0.1, std=0.001)))


def tree(folder: CellFolder) -> dict[str, bytes]:
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def test_what_is_in_force_is_found_again_and_hashed(folder):
    new = put(folder, measurement())
    loaded = CellFolder.load(folder.path).calibration
    assert loaded == new
    assert loaded.id != "sim-towel" and loaded.robot_latency == Delay(seconds=0.1, std=0.001)
    assert (loaded.serials, loaded.results[0].kind, loaded.results[0].verdict) == (SERIALS, "latency", "trust")
    assert (folder.path / "calibration" / "history" / "sim-towel.yaml").exists()
    verify_results(folder.path, loaded)
    (folder.path / "calibration" / loaded.results[0].folder / "note.txt").write_text("changed")
    with pytest.raises(ManifestError, match="altered"):
        verify_results(folder.path, loaded)


def test_a_later_measurement_replaces_the_one_of_its_kind(folder):
    first = put(folder, measurement())
    put(folder, measurement("table"))
    third = put(folder, measurement())
    assert [entry.kind for entry in third.results] == ["latency", "table"]
    assert third.results[0].folder != first.results[0].folder
    assert (folder.path / "calibration" / first.results[0].folder).exists(), "nothing is deleted"


def test_another_robot_is_refused_and_nothing_changes(folder):
    put(folder, measurement())
    foreign = measurement(robot="Rizon4s-999999")
    entry = keep(folder.path, foreign, lambda where: None)
    before = tree(folder)
    with pytest.raises(CalibrationError, match="of robot Rizon4s-123456, this is Rizon4s-999999"):
        put_in_force(folder.path, foreign, entry, lambda c: c)
    assert tree(folder) == before


def test_another_camera_needs_its_hand_eye_first(folder):
    put(folder, measurement())
    foreign = measurement("table", front="999")
    entry = keep(folder.path, foreign, lambda where: None)
    with pytest.raises(CalibrationError, match="serial number 999, its hand-eye was measured with 123"):
        put_in_force(folder.path, foreign, entry, lambda c: c)
    assert put(folder, measurement("hand_eye", camera="front", front="999")).serials["front"] == "999"


def test_a_measurement_that_cannot_be_written_leaves_nothing(folder):
    def fail(where):
        (where / "half").write_text("x")
        raise OSError("disk full")

    before = tree(folder)
    with pytest.raises(OSError, match="disk full"):
        keep(folder.path, measurement(), fail)
    assert tree(folder) == before


def test_everything_that_a_mount_holds_survives_yaml(folder):
    def change(calibration: Calibration) -> Calibration:
        k = Intrinsics(width=640, height=480, fx=600.0, fy=601.0, cx=320.0, cy=240.0)
        mount = replace(calibration.camera("front"), intrinsics=k, latency=Delay(seconds=0.06, std=0.001), serial="1")
        return with_mount(calibration, mount)

    made = measurement()
    new = put_in_force(folder.path, made, keep(folder.path, made, lambda where: None), change)
    assert config.load(Calibration, folder.path / "calibration.yaml") == new
    assert new.camera("front").intrinsics.matrix[0, 0] == 600.0
    with pytest.raises(ValueError, match="has no camera 'wrist'"):
        new.camera("wrist")


def test_table_and_workspace_go_into_the_safety_profile_and_comments_stay(folder):
    put(folder, measurement())
    text = (folder.path / "safety.yaml").read_text()
    points = np.array([[0.40, -0.3, 0.01], [0.70, 0.3, 0.01]])
    before, after = put_safety_in_force(folder.path, SafetyChange.of(0.0123456, points))
    loaded = CellFolder.load(folder.path).safety
    assert loaded == after
    assert (loaded.table_height, loaded.workspace_low, loaded.workspace_high[:2]) == (
        0.01235,
        (0.40, -0.3, 0.01235),
        (0.70, 0.3),
    )
    assert loaded.name == f"{before.name}@{CellFolder.load(folder.path).calibration.id}"
    assert loaded.keep_out == before.keep_out
    now = (folder.path / "safety.yaml").read_text()
    assert now.count("#") == text.count("#") and "nearer to the base" in now
    again, _ = put_safety_in_force(folder.path, SafetyChange.of(0.02, None))
    assert again.name.count("@") == 1


def test_a_safety_file_of_another_shape_is_not_touched(folder):
    path = folder.path / "safety.yaml"
    path.write_text(
        path.read_text().replace("workspace_low: [0.36, -0.40, -0.015]", "workspace_low:\n- 0.36\n- -0.4\n- -0.015")
    )
    before = path.read_bytes()
    with pytest.raises(CalibrationError, match="cannot be replaced one by one"):
        put_safety_in_force(folder.path, SafetyChange.of(0.01, None))
    assert path.read_bytes() == before
