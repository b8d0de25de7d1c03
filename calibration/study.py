"""`python -m calibration.study --out DIR`: everything against the truth, in simulation, with a page to look at.

First all commands run once on an imperfect cell, through rendered pictures and simulated contact, and put their results
in force in a cell folder below DIR. Then the figures over many seeds. Exit code 1 when a criterion is not met.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibration import check, gripper, hand_eye, intrinsics, latency, table
from calibration.command import SIM_FOLDER_FACTORY
from calibration.study_figures import (
    TRUTH,
    Figure,
    drift_figures,
    gripper_figures,
    hand_eye_figures,
    intrinsics_figures,
    latency_figures,
    table_figures,
)
from calibration.study_page import write_page
from vla_rft_core.calibration import result_folder
from vla_rft_core.cell import CellFolder, from_factory
from vla_rft_core.files import write_atomic
from vla_rft_core.geometry import Pose

COMMANDS: tuple[tuple[str, Callable[[Sequence[str]], int], tuple[str, ...]], ...] = (
    ("intrinsics", intrinsics.main, ()),
    ("hand_eye", hand_eye.main, ()),
    ("table", table.main, ()),
    ("gripper", gripper.main, ()),
    ("latency", latency.main, ()),
    ("reference", check.main, ("--reference",)),
)


def run_commands(out: Path, seed: int) -> tuple[CellFolder, list[Figure]]:
    """Every command once, through the command line; what they found against the truth."""
    folder = out / "cell"
    codes = {}
    for name, command, extra in COMMANDS:
        print(f"\n== {name} ==", flush=True)
        codes[name] = command(["--cell", "sim", "--folder", str(folder), "--seed", str(seed), *extra])
    print("\n== check ==", flush=True)
    picture = str(out / "check.png")
    codes["check"] = check.main(["--cell", "sim", "--folder", str(folder), "--seed", str(seed), "--picture", picture])
    cell = CellFolder.load(folder)
    truth = from_factory(f"{TRUTH}:draw_truth", seed)
    target = from_factory(f"{TRUTH}:realised_base", truth).inverse().compose(truth.T_base_camera)
    return cell, [
        Figure(
            name="all commands, one after the other, unattended",
            criterion="every one ends with 0 and its result in force",
            measured=", ".join(f"{name} {code}" for name, code in codes.items()),
            met=not any(codes.values()),
            how=f"rendered pictures and physics, seed {seed}",
        ),
        *_command_figures(cell, truth, target, seed),
    ]


def _command_figures(cell: CellFolder, truth: Any, target: Pose, seed: int) -> list[Figure]:
    mount = cell.calibration.cameras[0]
    metres, radians = mount.T_base_camera.distance_to(target)
    late = mount.latency.seconds - truth.camera_latency_s if mount.latency else math.nan
    height = cell.safety.table_height - from_factory(f"{TRUTH}:reported_table", truth)
    how = f"the commands above, seed {seed}"
    return [
        Figure(
            name="hand-eye from rendered pictures",
            criterion="≤ 2 mm and ≤ 0.2°",
            measured=f"{1e3 * metres:.2f} mm, {math.degrees(radians):.3f}°",
            met=metres <= 0.002 and math.degrees(radians) <= 0.2,
            how=how,
        ),
        Figure(
            name="table height in safety.yaml",
            criterion="≤ 1 mm",
            measured=f"{1e3 * height:+.2f} mm",
            met=abs(height) <= 0.001,
            how=how,
        ),
        Figure(
            name="camera latency",
            criterion="within 5 ms",
            measured=f"{1e3 * late:+.1f} ms of {1e3 * truth.camera_latency_s:.1f} ms",
            met=abs(late) <= 0.005,
            how=how,
        ),
    ]


def save(out: Path, figures: list[Figure], cell: CellFolder) -> Path:
    """Write figures.json and the page; its path."""
    plain = [asdict(figure) for figure in figures]
    text = json.dumps(plain, indent=1, ensure_ascii=False)
    write_atomic(out / "figures.json", (text + "\n").encode())
    folders = {entry.kind: result_folder(Path("cell"), entry) for entry in cell.calibration.results}
    return write_page(out, plain, folders, cell.calibration.id)


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, write figures.json and index.html; the exit code."""
    made = argparse.ArgumentParser(prog="python -m calibration.study", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("--out", type=Path, required=True, help="new folder for the page and the cell folder")
    made.add_argument("--seed", type=int, default=0, help="of the cell on which all commands run (default 0)")
    made.add_argument("--seeds", type=int, default=20, help="for the figures over many cells (default 20)")
    made.add_argument("--latency-seeds", type=int, default=5, help="for latencies, which take longest (default 5)")
    options = made.parse_args(argv)
    if options.out.exists():
        print(f"study: {options.out}: exists already and is not overwritten", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True)
    cell, figures = run_commands(options.out, options.seed)
    fresh = options.out / "uncalibrated"
    from_factory(SIM_FOLDER_FACTORY, fresh)
    folder = CellFolder.load(fresh)
    many = options.seeds
    for section in (
        lambda: hand_eye_figures(many),
        lambda: intrinsics_figures(many),
        lambda: drift_figures(many, folder),
        lambda: table_figures(many, folder),
        lambda: gripper_figures(many, folder),
        lambda: latency_figures(options.latency_seeds, folder),
    ):
        figures += section()
        page = save(options.out, figures, cell)  # after every section: what is found stays, whatever comes
    for figure in figures:
        mark = {True: "met", False: "NOT MET", None: "–"}[figure.met]
        print(f"{mark:8} {figure.name}: {figure.measured} ({figure.criterion}; {figure.how})")
    print(f"page: {page}")
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
