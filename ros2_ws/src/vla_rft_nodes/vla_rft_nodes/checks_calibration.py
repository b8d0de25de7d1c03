"""Checks of the calibration: measurements there, whole and of these devices, and the camera still in its place."""

from __future__ import annotations

from datetime import UTC, datetime

from calibration.errors import CalibrationError
from calibration.reference import Reference, compare
from vla_rft_core.calibration import Calibration, verify_results
from vla_rft_core.errors import ManifestError
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import Found, check, green, red, yellow

WANTED = ("hand_eye", "intrinsics", "table", "gripper", "latency", "reference")
OLD_DAYS = 30.0
_FRAMES = 10


@check("calibration")
def calibration(bench: Bench) -> Found:
    """What is in force: its measurements hashed again, the cameras' serial number, and its age."""
    made = bench.cell.calibration
    if not made.results:
        words = f"{made.id}: written by hand, nothing in it was measured"
        return green(words) if bench.simulated else yellow(words, "calibrate: docs/calibration.md")
    try:
        verify_results(bench.cell.path, made)
    except ManifestError as error:
        return red(str(error), "restore the folder, or measure that again")
    wrong = _other_camera(bench, made)
    if wrong:
        return red(wrong, "calibrate this camera, or plug the other one in")
    kinds = {entry.kind.partition("-")[0] for entry in made.results}
    words = f"{made.id} of {made.date}: {', '.join(sorted(kinds))}, hashes right"
    missing = [kind for kind in WANTED if kind not in kinds]
    if missing:
        return yellow(words, f"not measured: {', '.join(missing)}; docs/calibration.md")
    days = (datetime.now(tz=UTC) - datetime.fromisoformat(made.date)).total_seconds() / 86400.0
    if days > OLD_DAYS:
        return yellow(f"{words}, {days:.0f} days old", "calibrate again, or look at the line `camera drift`")
    return green(words)


def _other_camera(bench: Bench, made: Calibration) -> str:
    """What is wrong with the camera's identity; empty when nothing is, or nobody can tell."""
    if bench.camera is None:
        return ""
    name, serial = bench.camera_spec.name, bench.camera.info().serial
    known = made.camera(name).serial
    return f"camera {name!r} is {serial}, calibrated was {known}" if known and serial and known != serial else ""


@check("camera drift")
def camera_drift(bench: Bench) -> Found:
    """Today's picture against the reference picture of the calibration."""
    name, made = bench.camera_spec.name, bench.cell.calibration
    if bench.camera is None:
        return yellow("not checked: no camera")
    try:
        reference = Reference.load(bench.cell, name)
        if reference is None:
            words = f"not checked: calibration {made.id} has no reference picture"
            return green(words) if bench.simulated else yellow(words, "python -m calibration.check --reference")
        if bench.arm is None:
            return yellow("not checked: no arm, which is part of the picture")
        reference.require_arm_there(bench.arm.state().T_base_tcp)
        frame = next((f for f in (bench.camera.read(1.0) for _ in range(_FRAMES)) if f is not None), None)
        if frame is None:
            return red("no picture to compare", "see the line `camera rate`")
        report = compare(reference, frame.color, made.camera(name).T_base_camera)
    except CalibrationError as error:
        return yellow(f"not compared: {error}", "python -m vla_rft_nodes.operate home, then run the doctor again")
    except ValueError as error:
        return red(str(error), "python -m calibration.check --reference")
    if report.moved:
        return red(report.words, "put the camera back, or calibrate hand-eye again: docs/calibration.md")
    if report.exposure_changed:
        return yellow(report.words, "set light and exposure as they were when it was calibrated")
    return green(report.words)
