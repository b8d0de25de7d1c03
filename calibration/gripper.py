"""`python -m calibration.gripper --cell DIR`: commanded over reached widths, closed and open, and the force's sign.

Sweeps the opening up and down with nothing between the fingers, then squeezes a block of known width.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from calibration import pictures
from calibration.command import conclude, devices, opened, parser, run
from calibration.errors import CalibrationError
from calibration.results import Measurement, Verdict
from calibration.rig import CalibrationCell, Guide
from calibration.solve.gripper import GripperFound, solve
from vla_rft_core.geometry import Array
from vla_rft_core.types import SetPoint, Source

BLOCK_M = 0.030
MAX_CLOSED_M, MAX_OPEN_ERROR_M, MAX_ERROR_M, MAX_HYSTERESIS_M = 0.002, 0.003, 0.005, 0.002
BLOCK_TOLERANCE_M = 0.002
LEAST_SQUEEZE_N = 2.0
_PATIENCE_S = 4.0


def judge(found: GripperFound, largest: float, block: float) -> tuple[Verdict, tuple[str, ...]]:
    """Whether to trust the curve, and why; a force of the wrong sign is rejected."""
    checks = (
        (
            found.closed <= MAX_CLOSED_M,
            f"closed, {1e3 * found.closed:.1f} mm remain (at most {1e3 * MAX_CLOSED_M:.0f})",
        ),
        (
            abs(found.opened - largest) <= MAX_OPEN_ERROR_M,
            f"open, {1e3 * found.opened:.1f} of {1e3 * largest:.0f} mm are reached "
            f"(within {1e3 * MAX_OPEN_ERROR_M:.0f})",
        ),
        (
            found.largest_error <= MAX_ERROR_M,
            f"at most {1e3 * found.largest_error:.1f} mm off the command, at {1e3 * found.at_error:.0f} mm "
            f"(limit {1e3 * MAX_ERROR_M:.0f})",
        ),
        (
            found.hysteresis <= MAX_HYSTERESIS_M,
            f"opening and closing differ by {1e3 * found.hysteresis:.1f} mm (limit {1e3 * MAX_HYSTERESIS_M:.0f})",
        ),
    )
    verdict = Verdict.TRUST if all(good for good, _ in checks) else Verdict.DOUBTFUL
    reasons = [("" if good else "NOT MET: ") + words for good, words in checks]
    if np.isnan(found.block_force):
        return Verdict.DOUBTFUL, (*reasons, "the force's sign was not checked: no block")
    if found.block_force > LEAST_SQUEEZE_N:
        return Verdict.REJECT, (
            *reasons,
            f"squeezing a block is sensed as {found.block_force:+.1f} N, which means opening: the sign is reversed",
        )
    if found.block_force > -LEAST_SQUEEZE_N:
        verdict = Verdict.DOUBTFUL
        reasons.append(f"squeezing a block is hardly sensed ({found.block_force:+.1f} N): no force sensing?")
    else:
        reasons.append(f"squeezing a block is sensed as {found.block_force:+.1f} N: closing, as it has to be")
    if abs(found.block_width - block) > BLOCK_TOLERANCE_M:
        verdict = Verdict.DOUBTFUL
    reasons.append(f"a block of {1e3 * block:.1f} mm is measured as {1e3 * found.block_width:.1f} mm")
    return verdict, tuple(reasons)


def move_fingers(guide: Guide, width: float) -> tuple[float, float]:
    """Command a width and wait until the fingers rest: width [m] and force [N] then."""
    cell = guide.cell
    cell.activate(Source.HOME)
    pose = cell.state().reference.T_base_tcp
    guide.play([SetPoint(pose, width)] * 3)
    guide.pass_time(0.6)  # the deadband, the rate limit and the gripper's latency
    for _ in range(round(_PATIENCE_S / 0.1)):
        before = cell.state().gripper
        guide.pass_time(0.1)
        after = cell.state().gripper
        if not after.moving and abs(after.width - before.width) < 1e-4:
            return after.width, after.force
    raise CalibrationError(f"the fingers do not come to rest at {1e3 * width:.0f} mm")


def take(cell: CalibrationCell, options: argparse.Namespace) -> GripperFound:
    """Sweep and squeeze."""
    guide, safety = Guide(cell), cell.folder.safety
    cell.set_up("nothing")
    guide.go_home()
    up = np.linspace(safety.min_width, safety.max_width, options.widths)
    sweep = [*up, *up[-2::-1]]
    rows: list[tuple[float, float, float]] = []
    move_fingers(guide, sweep[0])
    for width in tqdm(sweep, desc="widths", file=sys.stderr):
        rows.append((width, *move_fingers(guide, width)))
    commanded, measured, forces = np.array(rows).T
    return solve(commanded, measured, forces, block=_squeeze(guide, options.block) if options.block else None)


def _squeeze(guide: Guide, block: float) -> tuple[Array, Array]:
    move_fingers(guide, guide.cell.folder.safety.max_width)
    guide.cell.set_up("block")
    move_fingers(guide, max(0.0, block - 0.010))
    samples = []
    for _ in range(20):
        guide.pass_time(0.02)
        gripper = guide.cell.state().gripper
        samples.append((gripper.width, gripper.force))
    move_fingers(guide, guide.cell.folder.safety.max_width)
    guide.cell.set_up("nothing")
    widths, forces = np.array(samples).T
    return widths, forces


def measurement(found: GripperFound, largest: float, block: float, serials: dict[str, str]) -> Measurement:
    """The result as it is kept."""
    verdict, reasons = judge(found, largest, block)
    return Measurement(
        kind="gripper",
        verdict=verdict,
        reasons=reasons,
        values={
            "commanded_m": found.curve.commanded,
            "measured_m": found.curve.measured,
            "block_width_m": None if np.isnan(found.block_width) else found.block_width,
            "block_force_n": None if np.isnan(found.block_force) else found.block_force,
        },
        residuals={
            "largest_error_mm": 1e3 * found.largest_error,
            "hysteresis_mm": 1e3 * found.hysteresis,
            "free_force_n": found.free_force,
        },
        serials=serials,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep, squeeze, judge; the exit code."""
    made = parser("gripper", __doc__)
    made.add_argument("--widths", type=int, default=11, help="widths over the stroke (default 11)")
    made.add_argument(
        "--block", type=float, default=BLOCK_M, help=f"width of the block [m]; 0: none (default {BLOCK_M})"
    )
    options = made.parse_args(argv)

    def body() -> int:
        with opened(options) as (cell, _):
            found = take(cell, options)
            result = measurement(found, cell.folder.safety.max_width, options.block, devices(cell, "robot", "gripper"))
            print("gripper:")
            return conclude(
                cell.folder,
                result,
                accept=options.accept,
                write=lambda out: pictures.gripper(found.curve, out / "gripper.png"),
                change=lambda c: replace(c, gripper=found.curve),
            )

    return run("gripper", body)


if __name__ == "__main__":
    sys.exit(main())
