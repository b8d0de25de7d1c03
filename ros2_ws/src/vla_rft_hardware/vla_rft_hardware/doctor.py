"""`python -m vla_rft_hardware.doctor --backend sim|flexiv`: everything that can be checked before the arm moves.

Connects and reads; it neither clears a fault nor enables, initialises or moves anything. Exit code 0 when nothing is
red, 1 when something is, 2 for a mistake on the command line. Devices are opened by factory string: this module knows
no simulator and no vendor library.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from vla_rft_core.cell import CellFolder, find_cell, from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import CHECKS, CheckResult, Status, run_checks
from vla_rft_hardware.host import ThisHost

from vla_rft_hardware import checks_host, checks_robot, checks_camera  # isort: skip (their lines come in this order)

REGISTERED = (checks_host, checks_robot, checks_camera)
"""Modules whose import registers checks."""

DEVICE_CHECKS = (checks_robot.__name__, checks_camera.__name__)
"""Modules of the checks that need a device of their own: left out beside a running cell, whose nodes hold them."""
GRAPH_CHECKS = ("ros graph", "camera drift")
"""Checks of other rooms that are left out for the same reason."""

_LOOKS = {Status.GREEN: ("✓ green ", "32"), Status.YELLOW: ("! yellow", "33"), Status.RED: ("✗ red   ", "31")}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """How the devices of one backend are reached."""

    robot: str
    """Factory of arm and gripper, called with `address` and `cell`."""
    camera: str
    """Factory of a camera, called with `address`, its name and `cell`."""
    cell: str
    """Cell folder when none is named; empty: one must be."""


BACKENDS = {
    "sim": Backend(
        robot="vla_rft_sim.stand_ins:connect_robot",
        camera="vla_rft_sim.stand_ins:connect_camera",
        cell="vla_rft_sim:towel_cell",
    ),
    "flexiv": Backend(
        robot="vla_rft_hardware.flexiv:connect_robot",
        camera="vla_rft_hardware.realsense:connect_camera",
        cell="",
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m vla_rft_hardware.doctor", description=(__doc__ or "").split("\n\n")[0], allow_abbrev=False
    )
    made.add_argument("--backend", choices=tuple(BACKENDS), required=True)
    made.add_argument(
        "--cell", default="", help="cell folder: a path, or package:folder (sim: the simulated towel cell)"
    )
    made.add_argument("--address", default="", help="sim: socket of the world; empty: the user's own")
    made.add_argument("--serial", default="", help="flexiv: serial number of the robot, such as Rizon4s-123456")
    made.add_argument("--camera-serial", default="", help="flexiv: serial number of the camera; empty: the only one")
    made.add_argument("--interface", default="", help="flexiv: network interface, or its IPv4 address, of the robot")
    made.add_argument("--disk", type=Path, default=Path(), help="folder where episodes will be recorded")
    made.add_argument("--skip", action="append", default=[], metavar="CHECK", help="leave a check out; repeatable")
    made.add_argument(
        "--running", action="store_true", help="beside a running cell: its nodes hold the devices, which are left alone"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return made


def connect_bench(options: argparse.Namespace, cell: CellFolder) -> Bench:
    """The bench with every device that can be connected; what cannot says why."""
    backend = BACKENDS[options.backend]
    bench = Bench(backend=options.backend, cell=cell, host=ThisHost(), disk=options.disk, interface=options.interface)
    if options.running:
        return bench
    address = options.address if bench.simulated else options.serial
    extra = {"interface": _ipv4(bench)} if options.interface and not bench.simulated else {}
    made, bench.robot_problem = _open(backend.robot, address, cell=cell, **extra)
    if made is not None:
        bench.arm, bench.gripper = made
    if bench.simulated and bench.arm is None:
        return bench  # the world that does not answer has the camera, too: one red line says it
    address = options.address if bench.simulated else options.camera_serial
    bench.camera, bench.camera_problem = _open(backend.camera, address, bench.camera_spec.name, cell=cell)
    return bench


def _held() -> list[str]:
    """Checks of what the nodes of a running cell hold, and report on by themselves."""
    return [name for name, function in CHECKS.items() if function.__module__ in DEVICE_CHECKS or name in GRAPH_CHECKS]


def _ipv4(bench: Bench) -> str:
    """The address of the interface named, which is what the vendor's library wants."""
    return next((i.address for i in bench.host.interfaces() if i.name == bench.interface), bench.interface)


def _open(factory: str, *arguments: str, **named: Any) -> tuple[Any, str]:
    """(device, "") or (None, why not in one line)."""
    try:
        return from_factory(factory, *arguments, **named), ""
    except (VlaRftError, ValueError) as error:
        return None, " ".join(str(error).split())


def line(result: CheckResult, *, colour: bool) -> str:
    """One result as one line: symbol and word, name, what was found, what to do."""
    look, code = _LOOKS[result.status]
    width = max(map(len, CHECKS))
    mark = f"\x1b[{code}m{look}\x1b[0m" if colour else look
    remedy = f" → {result.remedy}" if result.remedy else ""
    return f"{mark}  {result.name:{width}}  {result.words}{remedy}"


def summary(results: Sequence[CheckResult]) -> str:
    """The last line: how many of each, and what that means."""
    red, yellow = (sum(r.status is status for r in results) for status in (Status.RED, Status.YELLOW))
    counts = f"{len(results) - red - yellow} green, {yellow} yellow, {red} red"
    return f"{counts}: {'do not move the arm' if red else 'the arm may be made READY'}"


def as_document(backend: str, results: Sequence[CheckResult]) -> dict[str, Any]:
    """The JSON document: `status` is red when any check is, and green otherwise."""
    red = any(result.status is Status.RED for result in results)
    return {
        "backend": backend,
        "status": Status.RED if red else Status.GREEN,
        "checks": [asdict(result) for result in results],
    }


def main(
    argv: Sequence[str] | None = None,
    *,
    connect: Callable[[argparse.Namespace, CellFolder], Bench] = connect_bench,
    out: TextIO | None = None,
) -> int:
    """Run every check; the exit code."""
    out = out or sys.stdout
    options = parser().parse_args(argv)
    named = options.cell or BACKENDS[options.backend].cell
    try:
        if not named:
            raise ValueError(f"--cell: the backend {options.backend} needs the folder of your cell")
        if options.backend == "flexiv" and not options.serial and not options.running:
            raise ValueError("--serial: the backend flexiv needs the robot's serial number")
        bench = connect(options, find_cell(named))
        try:
            results = []
            for result in run_checks(bench, skip=options.skip, without=_held() if options.running else ()):
                results.append(result)
                if not options.json:
                    print(line(result, colour=out.isatty()), file=out, flush=True)
        finally:
            bench.close()
    except ValueError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_document(options.backend, results)) if options.json else summary(results), file=out)
    return 1 if any(result.status is Status.RED for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
