"""What the commands share: their arguments, the cell they work on, and how a refusal ends.

Exit code 0: measured and in force; 1: measured, and not to be used (the old calibration stays in force); 2: could not
be measured at all.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from calibration.errors import CalibrationError
from calibration.results import Measurement, Verdict, keep, put_in_force
from calibration.rig import CalibrationCell
from vla_rft_core.calibration import Calibration, Intrinsics
from vla_rft_core.cell import CellFolder, find_cell, from_factory
from vla_rft_core.errors import VlaRftError

SIM = "sim"
SIM_FACTORY = "vla_rft_sim.calibration_cell:connect"
SIM_FOLDER_FACTORY = "vla_rft_sim.calibration_cell:fresh_folder"
ROS_FACTORY = "vla_rft_nodes.calibration_cell:connect"
SIM_FOLDER = Path("runs/calibration-cell")


def parser(name: str, docstring: str | None) -> argparse.ArgumentParser:
    """The arguments that every command takes."""
    made = argparse.ArgumentParser(prog=f"python -m calibration.{name}", description=(docstring or "").split("\n\n")[0])
    made.add_argument("--cell", required=True, help="cell folder of the running robot; or sim: a simulated one")
    made.add_argument("--camera", default="", help="camera of the spec (default: the first)")
    made.add_argument("--accept", action="store_true", help="put a doubtful result in force, too")
    made.add_argument(
        "--factory", default="", help="module:function that makes the cell (default: ROS, or the simulator)"
    )
    made.add_argument("--seed", type=int, default=0, help="sim: which imperfect set-up")
    made.add_argument(
        "--folder", type=Path, default=SIM_FOLDER, help=f"sim: cell folder for results (default {SIM_FOLDER})"
    )
    return made


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[tuple[CalibrationCell, str]]:
    """The cell that the arguments name, and the camera's name; the cell is closed at the end."""
    folder = cell_folder(options)
    camera = options.camera or folder.spec.cameras[0].name
    folder.spec.camera(camera)
    if options.cell == SIM:
        cell = from_factory(options.factory or SIM_FACTORY, folder, seed=options.seed)
    else:
        cell = from_factory(options.factory or ROS_FACTORY, folder)
    try:
        yield cell, camera
    finally:
        cell.close()


def cell_folder(options: argparse.Namespace) -> CellFolder:
    """The folder whose calibration is meant; a simulated one is made when it is not there yet."""
    if options.cell != SIM:
        return find_cell(options.cell)
    if not options.folder.exists():
        from_factory(SIM_FOLDER_FACTORY, options.folder)
    return CellFolder.load(options.folder)


def intrinsics_in_force(cell: CalibrationCell, camera: str) -> Intrinsics:
    """Those that were estimated for this very camera, else those that it reports."""
    mount = cell.folder.calibration.camera(camera)
    mine = mount.intrinsics is not None and mount.serial == cell.serials().get(camera, "")
    return mount.intrinsics if mine and mount.intrinsics is not None else cell.intrinsics(camera)


def devices(cell: CalibrationCell, *names: str) -> dict[str, str]:
    """Serial numbers of some devices, as far as they say them."""
    return {name: serial for name, serial in cell.serials().items() if name in names and serial}


def conclude(
    folder: CellFolder,
    measurement: Measurement,
    *,
    accept: bool,
    write: Callable[[Path], None],
    change: Callable[[Calibration], Calibration],
) -> int:
    """Keep a measurement, put it in force if its verdict allows, print both; the exit code."""
    entry = keep(folder.path, measurement, write)
    for reason in measurement.reasons:
        print(f"  {reason}")
    print(f"verdict: {measurement.verdict}")
    print(f"kept: {folder.path / 'calibration' / entry.folder}, sha256 {entry.sha256[:12]}…")
    usable = measurement.verdict is Verdict.TRUST or (measurement.verdict is Verdict.DOUBTFUL and accept)
    if not usable:
        more = "; --accept would put it in force" if measurement.verdict is Verdict.DOUBTFUL else ""
        print(f"not in force: the calibration stays {folder.calibration.id}{more}")
        return 1
    new = put_in_force(folder.path, measurement, entry, change)
    print(f"in force: calibration {new.id} (before: {folder.calibration.id})")
    return 0


def run(name: str, body: Callable[[], int]) -> int:
    """The exit code of a command's body; what it raises becomes one sentence."""
    try:
        return body()
    except CalibrationError as error:
        print(f"{name}: {error}. Nothing was changed.", file=sys.stderr)
        return 1
    except (ValueError, VlaRftError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
