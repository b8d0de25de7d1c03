"""Calibration and the nodes: what camera_node applies, what the doctor says, and a running cell as one to calibrate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.reference import Reference, ReferenceFacts, gate, measurement
from calibration.results import Measurement, Verdict, keep, put_in_force, with_mount
from vla_rft_core.calibration import CameraMount, Delay, Intrinsics
from vla_rft_core.cell import CellFolder
from vla_rft_core.geometry import Pose
from vla_rft_core.types import CameraFrame
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import Status
from vla_rft_hardware.host import ThisHost
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.calibration_cell import fresh_folder

HOME = Pose((0.4, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0))
INFO = CameraInfo(camera="front", serial="123", width=320, height=240, fx=300.0, fy=300.0, cx=159.5, cy=119.5)
MOUNT = CameraMount(
    name="front",
    position=(1.0, 0.3, 0.6),
    quaternion=(0.0, 1.0, 0.0, 0.0),
    serial="123",
    latency=Delay(seconds=0.06, std=0.001),
)


def wall(shift_px: float = 0.0, gain: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[:240, :320].astype(np.float64)
    grey = (
        110.0 + 50.0 * np.sin((x + shift_px) / 11.0) * np.cos(y / 13.0) + 30.0 * np.sin((x + shift_px + 2 * y) / 29.0)
    )
    return np.repeat(np.clip(gain * grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    fresh_folder(tmp_path / "cell")
    return CellFolder.load(tmp_path / "cell")


@pytest.fixture
def measured(folder: CellFolder) -> CellFolder:
    """A cell folder with a reference picture of a wall."""
    facts = ReferenceFacts(
        intrinsics=Intrinsics(width=320, height=240, fx=300.0, fy=300.0, cx=159.5, cy=119.5),
        tcp_position=(0.4, 0.0, 0.28),
        tcp_quaternion=(0.0, 1.0, 0.0, 0.0),
    )
    reference = Reference(wall(), np.full((240, 320), 1000, np.uint16), facts)
    made = measurement(reference, "front", {"front": "123"}, 1.0)
    entry = keep(folder.path, made, reference.save)
    put_in_force(folder.path, made, entry, lambda c: with_mount(c, MOUNT))
    return CellFolder.load(folder.path)


class FakeArm:
    def __init__(self, pose: Pose) -> None:
        self._pose = pose

    def state(self):
        return type("State", (), {"T_base_tcp": self._pose})()


class FakeCamera:
    def __init__(self, image: np.ndarray, serial: str = "123") -> None:
        self._image, self._serial = image, serial

    def info(self) -> CameraInfo:
        return replace(INFO, serial=self._serial)

    def read(self, timeout_s: float) -> CameraFrame:
        return CameraFrame("front", 1, 1, 1, self._image)


def bench_of(cell: CellFolder, image: np.ndarray | None = None, *, serial: str = "123", pose: Pose = HOME) -> Bench:
    camera = None if image is None else FakeCamera(image, serial)
    bench = Bench(backend="flexiv", cell=cell, host=ThisHost(), disk=Path(), arm=FakeArm(pose))  # type: ignore[arg-type]
    bench.camera = camera  # type: ignore[assignment]
    return bench


@pytest.fixture
def checks(monkeypatch):
    """The module, whose checks register in a copy."""
    import importlib

    from vla_rft_hardware import checks as registry

    monkeypatch.setattr(registry, "CHECKS", {})
    import vla_rft_nodes.checks_calibration as module

    monkeypatch.setattr(registry, "CHECKS", {})
    return importlib.reload(module)


def test_camera_node_applies_what_was_measured_of_this_camera_only():
    from vla_rft_nodes.camera_node import calibrated

    assert calibrated(INFO, MOUNT) is MOUNT
    assert calibrated(replace(INFO, serial="999"), MOUNT) is None
    assert calibrated(replace(INFO, serial=""), replace(MOUNT, serial="")) is None
    k = Intrinsics(width=640, height=480, fx=600.0, fy=600.0, cx=320.0, cy=240.0)
    assert calibrated(INFO, replace(MOUNT, intrinsics=k)) is None, "it was measured at another picture size"


def test_the_doctor_on_a_calibration_written_by_hand(checks, folder):
    found = checks.calibration(bench_of(folder))
    assert found.status is Status.YELLOW and "written by hand" in found.words
    assert checks.camera_drift(bench_of(folder, wall())).status is Status.YELLOW


def test_the_doctor_hashes_what_was_measured(checks, measured):
    found = checks.calibration(bench_of(measured, wall()))
    assert found.status is Status.YELLOW and "not measured: hand_eye, intrinsics" in found.remedy
    entry = measured.calibration.results[0]
    (measured.path / "calibration" / entry.folder / "depth.png").write_bytes(b"")
    broken = checks.calibration(bench_of(measured, wall()))
    assert broken.status is Status.RED and "was altered" in broken.words


def test_the_doctor_is_green_when_everything_was_measured_and_yellow_when_it_is_old(checks, measured):
    for kind in ("hand_eye", "intrinsics", "table", "gripper", "latency"):
        made = Measurement(
            kind=kind, verdict=Verdict.TRUST, reasons=(), values={}, residuals={}, serials={"front": "123"}
        )
        put_in_force(measured.path, made, keep(measured.path, made, lambda where: None), lambda c: c)
    whole = CellFolder.load(measured.path)
    assert checks.calibration(bench_of(whole, wall())).status is Status.GREEN
    old = replace(whole, calibration=replace(whole.calibration, date="2020-01-01T00:00:00Z"))
    assert "days old" in checks.calibration(bench_of(old, wall())).words


def test_another_camera_is_red(checks, measured):
    found = checks.calibration(bench_of(measured, wall(), serial="999"))
    assert found.status is Status.RED and "is 999, calibrated was 123" in found.words


def test_the_doctor_sees_a_moved_camera(checks, measured):
    assert checks.camera_drift(bench_of(measured, wall())).status is Status.GREEN
    assert checks.camera_drift(bench_of(measured, wall(3.0))).status is Status.RED
    assert checks.camera_drift(bench_of(measured, wall(gain=0.6))).status is Status.YELLOW
    away = Pose((0.6, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0))
    elsewhere = checks.camera_drift(bench_of(measured, wall(), pose=away))
    assert elsewhere.status is Status.YELLOW and "send it home first" in elsewhere.words


def test_the_gate_before_trials(measured, folder):
    from calibration.errors import CalibrationError

    assert "moved by 0.0 mm" in gate(measured, "front", wall(), HOME)
    with pytest.raises(CalibrationError, match="calibrate hand-eye again"):
        gate(measured, "front", wall(3.0), HOME)
    with pytest.raises(CalibrationError, match="exposure"):
        gate(measured, "front", wall(gain=0.6), HOME)
    assert gate(folder, "front", wall(), HOME).startswith("not checked")


@pytest.mark.ros
@pytest.mark.realtime
def test_a_running_cell_can_be_calibrated(graph):
    from calibration.rig import Guide
    from vla_rft_core.cell import find_cell
    from vla_rft_nodes.calibration_cell import RosCalibrationCell

    asked: list[str] = []
    cell = RosCalibrationCell(find_cell("vla_rft_sim:towel_cell"), graph.node, graph.cell, ask=asked.append)
    graph.make_ready()
    assert cell.serials() == {"robot": "Rizon4s-000001", "front": "SIM-036522070660"}
    assert cell.intrinsics("front").fx == pytest.approx(605.392)
    cell.set_up("nothing")
    cell.set_up("nothing")
    assert len(asked) == 1 and "clear the table" in asked[0]
    with pytest.raises(ValueError, match="there is no set-up 'party'"):
        cell.set_up("party")
    before = graph.cell.state().arm.stamp_ns
    frame = cell.frame("front")
    assert frame.color.shape == (480, 640, 3) and frame.stamp_ns > before - 200_000_000
    assert frame.depth is not None and 0.5 < np.median(frame.depth[240:]) * 1e-3 < 1.5
    start = cell.state().arm.T_base_tcp
    reached = Guide(cell).go(start.moved((0.02, 0.0, 0.0), (0.0, 0.0, 0.0)))
    assert reached.arm.T_base_tcp.distance_to(start)[0] == pytest.approx(0.02, abs=0.004)
