"""`python -m calibration.hand_eye --cell DIR`: where a camera is, from a board that the arm shows it.

Walks the arm through safe poses (or waits where a person leads it), solves, judges, and puts the result in force.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calibration import capture, pictures
from calibration.board import add_board_arguments, board_from
from calibration.command import cell_folder, conclude, devices, intrinsics_in_force, opened, parser, run
from calibration.errors import CalibrationError
from calibration.poses import showing_poses
from calibration.results import Measurement, Verdict, with_mount
from calibration.rig import CalibrationCell, Guide
from calibration.solve.hand_eye import HandEye, solve
from calibration.views import ViewSet
from vla_rft_core import config
from vla_rft_core.calibration import Calibration
from vla_rft_core.cell import CellFolder
from vla_rft_core.geometry import Pose

TRUST_M, TRUST_RAD, TRUST_PX = 0.0015, math.radians(0.15), 1.0
DOUBT_M, DOUBT_RAD, DOUBT_PX = 0.003, math.radians(0.3), 2.0
"""Limits of standard error and misfit; beyond the second ones a result is rejected."""
POSES = 21


def judge(found: HandEye) -> tuple[Verdict, tuple[str, ...]]:
    """Whether to trust a solution, and why."""
    figures = (
        (found.spread_m, TRUST_M, DOUBT_M, "standard error of the position {:.2f} mm", 1e3),
        (found.spread_rad, TRUST_RAD, DOUBT_RAD, "standard error of the rotation {:.3f} deg", math.degrees(1.0)),
        (found.rms_px, TRUST_PX, DOUBT_PX, "corners fit within {:.2f} px", 1.0),
    )
    verdict, reasons = Verdict.TRUST, []
    for value, trust, doubt, words, unit in figures:
        if not value <= doubt:
            verdict = Verdict.REJECT
        elif value > trust and verdict is Verdict.TRUST:
            verdict = Verdict.DOUBTFUL
        limits = f"trust up to {unit * trust:.2f}, reject beyond {unit * doubt:.2f}"
        reasons.append(f"{words.format(unit * value)} ({limits})")
    if found.outliers:
        reasons.append(f"views set aside: {', '.join(map(str, found.outliers))}")
    return verdict, tuple(reasons)


def solver_table(found: HandEye) -> str:
    """OpenCV's solvers beside ours: misfit, and how far their camera is from ours."""
    lines = [f"  {'solver':22}{'rms px':>8}{'from ours':>20}"]
    for name, (rms, pose) in sorted(found.solvers.items(), key=lambda item: item[1][0]):
        metres, radians = pose.distance_to(found.camera)
        lines.append(f"  OpenCV {name:15}{rms:8.2f}{1e3 * metres:10.1f} mm{math.degrees(radians):6.2f}°")
    return "\n".join([*lines, f"  {'joint refinement':22}{found.rms_px:8.2f}"])


def measurement(found: HandEye, views: ViewSet, serials: dict[str, str]) -> Measurement:
    """The result as it is kept."""
    verdict, reasons = judge(found)
    return Measurement(
        kind="hand_eye",
        camera=views.info.camera,
        verdict=verdict,
        reasons=reasons,
        values={
            "arrangement": found.arrangement,
            "camera": _plain(found.camera),
            "board": _plain(found.board),
            "board_definition": config.to_mapping(views.info.board),
            "views": len(views.views),
            "outliers": found.outliers,
            "board_scale": found.scale,
            "solvers": {name: {"rms_px": rms, **_plain(pose)} for name, (rms, pose) in found.solvers.items()},
        },
        residuals={
            "rms_px": found.rms_px,
            "rms_mm": 1e3 * found.rms_m,
            "spread_mm": 1e3 * found.spread_m,
            "spread_deg": math.degrees(found.spread_rad),
        },
        serials=serials,
    )


def _plain(pose: Pose) -> dict[str, list[float]]:
    return {"position": pose.position.tolist(), "quaternion": pose.quaternion.tolist()}


def in_force(calibration: Calibration, camera: str, pose: Pose, serial: str) -> Calibration:
    """The calibration with the camera at `pose`; what was known of another camera is dropped."""
    mount = calibration.camera(camera)
    same = mount.serial in ("", serial)
    moved = replace(
        mount,
        position=tuple(pose.position.tolist()),
        quaternion=tuple(pose.quaternion.tolist()),
        serial=serial,
        intrinsics=mount.intrinsics if same else None,
        latency=mount.latency if same else None,
    )
    kept = tuple(r for r in calibration.results if r.kind != f"reference-{camera}")  # it shows the old view
    if not same:
        kept = tuple(r for r in kept if not r.kind.endswith(f"-{camera}"))
    return replace(with_mount(calibration, moved), results=kept)


def take(cell: CalibrationCell, camera: str, options: argparse.Namespace) -> ViewSet:
    """Views from the cell."""
    board, intrinsics = board_from(options), intrinsics_in_force(cell, camera)
    cell.set_up("board on gripper")
    if options.by_hand:
        return capture.by_hand(cell, camera, board, intrinsics, options.poses)
    poses = showing_poses(options.poses, cell.spec, cell.folder.safety)
    views = capture.lead_through(cell, camera, board, intrinsics, poses)
    Guide(cell).go(poses[0])
    return views


def finish(folder: CellFolder, views: ViewSet, serials: dict[str, str], options: argparse.Namespace) -> int:
    """Solve, show, keep, and put in force; the exit code."""
    found = solve(views, arrangement=options.arrangement)
    camera, serial = views.info.camera, views.require_one_camera()
    print(f"hand-eye of camera {camera!r}, {len(found.used)} of {len(views.views)} views:")
    print(solver_table(found))
    x, y, z = found.camera.position.tolist()
    fixed = found.arrangement == "eye_to_hand"
    print(f"  {'T_base_camera' if fixed else 'T_tcp_camera'} at ({x:.4f}, {y:.4f}, {z:.4f}) m")
    if fixed:
        metres, radians = folder.calibration.camera(camera).T_base_camera.distance_to(found.camera)
        print(f"  {1e3 * metres:.1f} mm and {math.degrees(radians):.2f} deg from the calibration in force")
    made = measurement(found, views, serials)

    def write(out: Path) -> None:
        views.save(out)
        pictures.detections(views, out / "detections.png", outliers=found.outliers, errors=found.errors_px)
        title = f"hand-eye of {camera}: {made.verdict}"
        pictures.residuals(views, found.errors_px, found.used, out / "residuals.png", title=title)

    if not fixed:
        raise CalibrationError("a camera on the tcp has no place in a cell folder, whose cameras are fixed in base")
    return conclude(
        folder, made, accept=options.accept, write=write, change=lambda c: in_force(c, camera, found.camera, serial)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Capture and solve, or solve views that were kept; the exit code."""
    made = parser("hand_eye", __doc__)
    made.add_argument("--poses", type=int, default=POSES, help=f"poses to visit (default {POSES})")
    made.add_argument("--by-hand", action="store_true", help="a person leads the arm; views are taken where it rests")
    made.add_argument("--views", type=Path, help="folder of an earlier result: solve its views again, move nothing")
    made.add_argument("--arrangement", choices=("eye_to_hand", "eye_in_hand"), default="eye_to_hand")
    add_board_arguments(made)
    options = made.parse_args(argv)

    def body() -> int:
        if options.views is not None:
            views = ViewSet.load(options.views)
            serial = views.require_one_camera()
            return finish(cell_folder(options), views, {views.info.camera: serial} if serial else {}, options)
        with opened(options) as (cell, camera):
            views = take(cell, camera, options)
            return finish(cell.folder, views, devices(cell, "robot", camera), options)

    return run("hand_eye", body)


if __name__ == "__main__":
    sys.exit(main())
