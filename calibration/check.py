"""`python -m calibration.check --cell DIR`: is the camera still where it was calibrated? Exit code 0: yes; 1: no.

Sends the arm home (unless `--stay`), takes a picture and compares it with the reference picture, which `--reference`
takes once the cell is calibrated. Hashes of all measurements in force are verified, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from calibration import pictures
from calibration.command import conclude, devices, intrinsics_in_force, opened, parser, run
from calibration.errors import CalibrationError
from calibration.reference import Reference, ReferenceFacts, compare, measurement
from calibration.rig import CalibrationCell, Guide
from vla_rft_core.calibration import verify_results

PICTURES = 9
"""Of which the reference is the median: without a sensor's noise."""


def take_reference(cell: CalibrationCell, camera: str) -> tuple[Reference, float]:
    """A reference picture from how things stand, and the noise of a single picture [grey values].

    CalibrationError without a depth stream.
    """
    frames = [cell.frame(camera) for _ in range(PICTURES)]
    depths = [frame.depth for frame in frames if frame.depth is not None]
    if len(depths) < PICTURES:
        raise CalibrationError(f"camera {camera!r} delivers no depth, which the reference picture needs")
    colors = np.stack([frame.color for frame in frames])
    pose = cell.state().arm.T_base_tcp
    facts = ReferenceFacts(
        intrinsics=intrinsics_in_force(cell, camera),
        tcp_position=tuple(pose.position.tolist()),
        tcp_quaternion=tuple(pose.quaternion.tolist()),
    )
    color = np.median(colors, axis=0).astype(np.uint8)
    depth = np.median(np.stack(depths), axis=0).astype(np.uint16)
    return Reference(color, depth, facts), float(np.median(colors.std(axis=0)))


def make_reference(cell: CalibrationCell, camera: str, options: argparse.Namespace) -> int:
    """Take one and put it in force."""
    reference, noise = take_reference(cell, camera)
    print("reference picture:")
    return conclude(
        cell.folder,
        measurement(reference, camera, devices(cell, camera), noise),
        accept=options.accept,
        write=reference.save,
        change=lambda c: c,
    )


def check(cell: CalibrationCell, camera: str, options: argparse.Namespace) -> int:
    """Compare, and say."""
    calibration = cell.folder.calibration
    reference = Reference.load(cell.folder, camera)
    if reference is None:
        raise CalibrationError(f"calibration {calibration.id} has no reference picture: take one with --reference")
    mount, serial = calibration.camera(camera), cell.serials().get(camera, "")
    if mount.serial and serial and mount.serial != serial:
        raise CalibrationError(f"camera {camera!r} is {serial}, calibrated was {mount.serial}")
    reference.require_arm_there(cell.state().arm.T_base_tcp)
    today = cell.frame(camera).color
    report = compare(reference, today, mount.T_base_camera)
    print(report.words)
    if options.picture:
        pictures.save(
            pictures.sheet([reference.color, today, pictures.difference(reference.color, today)], columns=3),
            options.picture,
        )
    if report.moved:
        print("the camera has moved: calibrate hand-eye again, or put it back", file=sys.stderr)
    if report.exposure_changed:
        print("brightness has changed: set light and exposure as they were", file=sys.stderr)
    return 0 if report.good else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Take a reference, or compare with it; the exit code."""
    made = parser("check", __doc__)
    made.add_argument("--reference", action="store_true", help="take the reference picture")
    made.add_argument(
        "--stay", action="store_true", help="do not move the arm; it must stand as in the reference picture"
    )
    made.add_argument("--picture", help="PNG file for both pictures and their difference")
    options = made.parse_args(argv)

    def body() -> int:
        with opened(options) as (cell, camera):
            verify_results(cell.folder.path, cell.folder.calibration)
            cell.set_up("nothing")
            if not options.stay:
                Guide(cell).go_home()
            return make_reference(cell, camera, options) if options.reference else check(cell, camera, options)

    return run("check", body)


if __name__ == "__main__":
    sys.exit(main())
