"""`python -m calibration.intrinsics --cell DIR`: do the camera's factory intrinsics hold? Estimated anew where not.

The arm shows the board all over the image, or a person holds it (`--held`); a map tells what is covered so far.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration import capture, pictures
from calibration.board import add_board_arguments, board_from
from calibration.command import conclude, devices, opened, parser, run
from calibration.poses import INTRINSICS_SHOWING, showing_poses
from calibration.results import Measurement, Verdict, with_mount
from calibration.rig import CalibrationCell
from calibration.solve.intrinsics import AGREES, IntrinsicsEstimate, solve
from calibration.views import ViewSet
from vla_rft_core import config
from vla_rft_core.calibration import Calibration
from vla_rft_core.geometry import Array

POSES = 30
MIN_COVERED = 0.5
TRUST_STD, DOUBT_STD = 0.0015, 0.004
"""Relative standard deviation of the focal length."""
TRUST_PX, DOUBT_PX = 0.7, 1.5
MAX_DISTORTION_PX = 1.5


def judge(found: IntrinsicsEstimate) -> tuple[Verdict, tuple[str, ...]]:
    """Whether to trust an estimate, and what it says of the reported values."""
    std, covered = found.std[0] / found.estimated.fx, found.covered
    verdict = Verdict.TRUST
    if std > TRUST_STD or found.rms_px > TRUST_PX or covered < MIN_COVERED:
        verdict = Verdict.DOUBTFUL
    distorted = found.distortion_sure and found.distortion_px > MAX_DISTORTION_PX
    if std > DOUBT_STD or found.rms_px > DOUBT_PX or distorted:
        verdict = Verdict.REJECT
    off = found.reported.fx / found.estimated.fx - 1.0
    says = "agree with" if found.agrees else "differ from"
    reasons = [
        f"fx {found.estimated.fx:.2f} ± {found.std[0]:.2f} px, reported {found.reported.fx:.2f} ({off:+.2%}): the "
        f"reported values {says} the pictures (limit {AGREES:.1%})",
        f"corners fit within {found.rms_px:.2f} px, with the reported values {found.reported_rms_px:.2f} px",
        f"{covered:.0%} of the image covered (at least {MIN_COVERED:.0%} to be trusted)",
        f"radial distortion at most {found.distortion_px:.2f} px at the image's corner"
        + (", which a rectified stream does not have" if distorted else ""),
    ]
    return verdict, tuple(reasons)


def measurement(found: IntrinsicsEstimate, views: ViewSet, serials: dict[str, str]) -> Measurement:
    """The result as it is kept."""
    verdict, reasons = judge(found)
    return Measurement(
        kind="intrinsics",
        camera=views.info.camera,
        verdict=verdict,
        reasons=reasons,
        values={
            "reported": config.to_mapping(found.reported),
            "estimated": config.to_mapping(found.estimated),
            "agrees": found.agrees,
            "std_px": found.std,
            "coverage": found.coverage,
            "board_definition": config.to_mapping(views.info.board),
            "views": len(views.views),
        },
        residuals={
            "rms_px": found.rms_px,
            "reported_rms_px": found.reported_rms_px,
            "distortion_px": found.distortion_px,
        },
        serials=serials,
    )


def in_force(calibration: Calibration, camera: str, found: IntrinsicsEstimate, serial: str) -> Calibration:
    """The estimate where the reported values disagree, else those. A hand-eye through other values no longer counts."""
    mount = calibration.camera(camera)
    chosen = None if found.agrees else found.estimated
    same = mount.serial in ("", serial)
    if chosen != mount.intrinsics or not same:
        kept = tuple(r for r in calibration.results if r.kind not in (f"hand_eye-{camera}", f"reference-{camera}"))
        calibration = replace(calibration, results=kept)
    latency = mount.latency if same else None
    return with_mount(calibration, replace(mount, serial=serial, intrinsics=chosen, latency=latency))


def text_map(coverage: Array) -> str:
    """The coverage map in characters: the fuller, the more corners."""
    shades = " ·▒▓█"
    rows = ("".join(2 * shades[min(4, int(np.ceil(n / 4)))] for n in row) for row in coverage)
    return "\n".join(f"  |{row}|" for row in rows)


def take(cell: CalibrationCell, camera: str, options: argparse.Namespace) -> ViewSet:
    """Views from the cell, through the intrinsics that the camera reports."""
    board, reported = board_from(options), cell.intrinsics(camera)
    if options.held:
        cell.set_up("board in hand")
        return capture.held(cell, camera, board, reported, options.poses, show=text_map)
    cell.set_up("board on gripper")
    poses = showing_poses(options.poses, cell.spec, cell.folder.safety, INTRINSICS_SHOWING)
    return capture.lead_through(cell, camera, board, reported, poses)


def main(argv: Sequence[str] | None = None) -> int:
    """Capture, estimate, compare; the exit code."""
    made = parser("intrinsics", __doc__)
    made.add_argument("--poses", type=int, default=POSES, help=f"views wanted (default {POSES})")
    made.add_argument("--held", action="store_true", help="a person holds the board; the arm does not move")
    add_board_arguments(made)
    options = made.parse_args(argv)

    def body() -> int:
        with opened(options) as (cell, camera):
            views = take(cell, camera, options)
            found = solve(views, by_arm=not options.held)
            serials = devices(cell, camera)
            made = measurement(found, views, serials)
            print(f"intrinsics of camera {camera!r} from {len(views.views)} views; corners seen:")
            print(text_map(found.coverage))

            def write(out: Path) -> None:
                views.save(out)
                used = tuple(range(len(views.views)))
                pictures.detections(views, out / "detections.png", errors=found.errors_px)
                pictures.residuals(views, found.errors_px, used, out / "residuals.png", title=f"intrinsics of {camera}")
                pictures.coverage(views, found.coverage, out / "coverage.png")

            serial = views.require_one_camera()
            return conclude(
                cell.folder,
                made,
                accept=options.accept,
                write=write,
                change=lambda c: in_force(c, camera, found, serial),
            )

    return run("intrinsics", body)


if __name__ == "__main__":
    sys.exit(main())
