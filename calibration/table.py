"""`python -m calibration.table --cell DIR`: how high the table is, where the safety filter needs it.

The closed fingertips touch it in a grid of points (or a person leads them to it); depth is compared with that. Writes
table height and workspace into safety.yaml.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from calibration import pictures
from calibration.command import conclude, devices, intrinsics_in_force, opened, parser, run
from calibration.results import Measurement, Verdict
from calibration.rig import CalibrationCell, Guide
from calibration.safety_file import SafetyChange, prepare, put_safety_in_force
from calibration.solve.table import Plane, depth_points, fit_plane, touch_height
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import SetPoint

ABOVE_M = 0.045
"""Above the table as it is in the safety profile, where the first descent begins."""
AGAIN_M = 0.012
"""Above the table as touched, where later ones begin."""
DESCENT_M_S = 0.004
TOUCH_N, STOP_N = 1.5, 5.0
_TICK_NS = 10_000_000
DEEPEST_M = 0.012
"""Below the table as it is in the safety profile, where a descent gives up."""
TRUST_RMS_M, DOUBT_RMS_M = 0.001, 0.003
MAX_TILT_RAD = math.radians(0.6)
DEPTH_SHARE = 0.02
"""Depth may be off by this share of the distance: the data sheet's."""
_MARGIN_M = 0.06


@dataclass(frozen=True, eq=False)
class TableFound:
    """Touched and seen."""

    touched: Plane
    points: Array
    """(N, 3) touched [m, base]."""
    seen: Plane | None
    """From depth; None without a depth stream."""
    seen_distance_m: float
    """Camera to table."""


def descend(guide: Guide, *, start: Pose, lowest: float) -> float:
    """Lower the tip from `start` until it is pressed up; the height [m] at which that began. Leaves the tip lifted.

    CalibrationError when nothing is met above `lowest` [m].
    """
    cell = guide.cell
    state = guide.go(start)
    rest = np.mean([_force(cell) for _ in range(20) if not cell.wait(_TICK_NS)])
    step = DESCENT_M_S * guide.period_ns * 1e-9
    heights: list[float] = []
    forces: list[float] = []
    z = float(state.arm.T_base_tcp.position[2])

    def at(height: float) -> SetPoint:
        return SetPoint(Pose([*start.position[:2], height], start.quaternion), 0.0)  # type: ignore[arg-type]

    while z > lowest and not _pressed(forces):
        z -= step
        guide.play([at(z)])
        for _ in range(guide.period_ns // _TICK_NS):
            guide.pass_time(_TICK_NS * 1e-9)
            heights.append(float(cell.state().arm.T_base_tcp.position[2]))
            forces.append(_force(cell) - float(rest))
            if _pressed(forces):
                break
    lifted = heights[-1] + AGAIN_M
    guide.play([at(heights[-1] + (i + 1) * AGAIN_M / 5) for i in range(5)])  # at once: it still goes down
    guide.pass_time(0.5)
    guide.wait_still(at(lifted).T_base_tcp)
    return touch_height(np.array(heights), np.array(forces), least_n=TOUCH_N)


def _pressed(forces: list[float]) -> bool:
    """The last samples mean contact, not noise."""
    return len(forces) >= 3 and float(np.mean(forces[-3:])) > STOP_N


def _force(cell: CalibrationCell) -> float:
    """Upwards at the tip [N]."""
    return float(cell.state().arm.wrench[2])


def touch_grid(cell: CalibrationCell, columns: int, rows: int) -> Array:
    """Touch the table in a grid over the workspace: (N, 3) in base [m]."""
    guide, safety, down = Guide(cell), cell.folder.safety, cell.spec.home.quaternion
    low, high = np.array(safety.workspace_low[:2]) + _MARGIN_M, np.array(safety.workspace_high[:2]) - _MARGIN_M
    guess = safety.table_height + ABOVE_M
    lowest = safety.table_height - DEEPEST_M
    x, y = np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows)
    spots = [(a, b) for i, a in enumerate(x) for b in (y if i % 2 == 0 else y[::-1])]
    points: list[tuple[float, float, float]] = []
    guide.go_home()
    here = cell.state().arm.T_base_tcp
    guide.go(here, width=0.0)
    for a, b in tqdm(spots, desc="touching", unit="point", file=sys.stderr):
        guide.go(Pose((a, b, safety.table_height + 0.12), down))  # type: ignore[arg-type]
        start = Pose((a, b, guess), down)  # type: ignore[arg-type]
        height = descend(guide, start=start, lowest=lowest)
        points.append((a, b, height))
        guess = max(p[2] for p in points) + AGAIN_M
        guide.go(Pose((a, b, safety.table_height + 0.12), down))  # type: ignore[arg-type]
    guide.go_home()
    return np.array(points)


def touch_by_hand(cell: CalibrationCell, count: int, ask: Callable[[str], str] = input) -> Array:
    """A person leads the closed fingertips to the table and says when they touch it."""
    points: list[Array] = []
    for i in range(count):
        ask(f"point {i + 1} of {count}: touch the table with the closed fingertips, then press Enter ")
        points.append(cell.state().arm.T_base_tcp.position)
    return np.array(points)


def look(cell: CalibrationCell, camera: str, touched: Plane) -> tuple[Plane | None, float]:
    """The plane of the depth picture over the workspace, and how far away it is."""
    frame = cell.frame(camera)
    mount, safety = cell.folder.calibration.camera(camera), cell.folder.safety
    eye = mount.T_base_camera.position
    distance = float(np.linalg.norm(eye - [*touched.middle, touched.height]))
    if frame.depth is None:
        return None, distance
    low, high = np.array(safety.workspace_low[:2]), np.array(safety.workspace_high[:2])
    points = depth_points(
        frame.depth,
        intrinsics_in_force(cell, camera),
        mount.T_base_camera,
        low,
        high,
        near=touched.height,
        within=0.04,
    )
    return fit_plane(points[:: max(1, len(points) // 4000)]), distance


def judge(found: TableFound) -> tuple[Verdict, tuple[str, ...]]:
    """Whether to trust the height, and why."""
    plane = found.touched
    verdict = Verdict.TRUST if plane.rms_m <= TRUST_RMS_M else Verdict.DOUBTFUL
    reasons = [
        f"table at {1e3 * plane.height:.2f} ± {1e3 * plane.std_m:.2f} mm, touched in {len(found.points)} points, "
        f"rms {1e3 * plane.rms_m:.2f} mm (trust up to {1e3 * TRUST_RMS_M:.1f})",
        f"tilted by {math.degrees(plane.tilt):.2f} deg (at most {math.degrees(MAX_TILT_RAD):.1f})",
    ]
    if plane.tilt > MAX_TILT_RAD:
        verdict = Verdict.DOUBTFUL
    if found.seen is not None:
        off, limit = found.seen.at(*plane.middle) - plane.height, DEPTH_SHARE * found.seen_distance_m
        reasons.append(
            f"depth has it {1e3 * off:+.1f} mm from there (data sheet at this distance: {1e3 * limit:.0f} mm)"
        )
        if abs(off) > limit:
            verdict = Verdict.DOUBTFUL
    if plane.rms_m > DOUBT_RMS_M:
        verdict = Verdict.REJECT
    return verdict, tuple(reasons)


def measurement(found: TableFound, camera_serials: dict[str, str]) -> Measurement:
    """The result as it is kept."""
    verdict, reasons = judge(found)
    plane = found.touched
    values = {"height_m": plane.height, "slope_rad": plane.slope, "middle_m": plane.middle, "touched_m": found.points}
    if found.seen is not None:
        values["depth_height_m"] = found.seen.at(*plane.middle)
    return Measurement(
        kind="table",
        verdict=verdict,
        reasons=reasons,
        values=values,
        residuals={"rms_mm": 1e3 * plane.rms_m, "std_mm": 1e3 * plane.std_m, "tilt_deg": math.degrees(plane.tilt)},
        serials=camera_serials,
    )


def take(cell: CalibrationCell, camera: str, options: argparse.Namespace) -> TableFound:
    """Touch and look."""
    cell.set_up("nothing")
    points = touch_by_hand(cell, options.points) if options.by_hand else touch_grid(cell, options.columns, options.rows)
    plane = fit_plane(points)
    seen, distance = look(cell, camera, plane)
    return TableFound(touched=plane, points=points, seen=seen, seen_distance_m=distance)


def main(argv: Sequence[str] | None = None) -> int:
    """Touch, look, judge, and write safety.yaml; the exit code."""
    made = parser("table", __doc__)
    made.add_argument("--columns", type=int, default=3, help="points along x (default 3)")
    made.add_argument("--rows", type=int, default=3, help="points along y (default 3)")
    made.add_argument(
        "--by-hand", action="store_true", help="a person leads the fingertips; their extent is the workspace"
    )
    made.add_argument("--points", type=int, default=6, help="by hand: points to touch (default 6)")
    options = made.parse_args(argv)

    def body() -> int:
        with opened(options) as (cell, camera):
            found = take(cell, camera, options)
            result = measurement(found, devices(cell, "robot", camera))
            change = SafetyChange.of(found.touched.height, found.points if options.by_hand else None)
            prepare(cell.folder.path, change)  # whether it can be written: before anything is
            print("table:")
            code = conclude(
                cell.folder,
                result,
                accept=options.accept,
                write=lambda out: pictures.table(found.points, found.touched, found.seen, out / "table.png"),
                change=lambda c: c,
            )
            if code == 0:
                before, after = put_safety_in_force(cell.folder.path, change)
                heights = f"{after.table_height:.4f} m (before: {before.table_height:.4f})"
                print(f"safety.yaml: {after.name}, table at {heights}")
            return code

    return run("table", body)


if __name__ == "__main__":
    sys.exit(main())
