"""`python -m vla_rft_sim.conformance`: does the stand-in still look and behave like the vendor's library?

Compares names, signatures, defaults, enum values and struct fields with the table of this package, with a dump of the
library (`--api FILE`), and, where this Python can import `flexivrdk`, with the library itself, which is then also asked
the same wrong questions as the stand-in. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.metadata
import json
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_rft_sim.rdk import VERSION, module_over, not_found
from vla_rft_sim.rdk_api import Api, Difference, compare, from_dump, from_module, from_table
from vla_rft_sim.rdk_link import Link

_NAN = float("nan")


def stand_in() -> Any:
    """The stand-in with no robot on its network."""

    def open_link(serial: str, lite: bool) -> Link:
        raise RuntimeError(not_found(serial, lite))

    return module_over(open_link)


def questions() -> dict[str, Callable[[Any], Any]]:
    """What to ask a module `m` of the vendor's kind without a robot: a name to a question."""

    def written(struct: str, field: str, value: Any) -> Callable[[Any], Any]:
        def ask(m: Any) -> Any:
            made = getattr(m, struct)()
            setattr(made, field, value)
            return getattr(made, field)

        return ask

    serials = (
        "bogus",
        "",
        "Rizon4s",
        "Rizon9s-123456",
        "rizon4s-1",
        "Enlight-L-123456",
        "Rizon4s-123456",
        "Rizon 4s_1",
    )
    asked: dict[str, Callable[[Any], Any]] = {}
    for serial in serials:
        asked[f"Robot({serial!r})"] = lambda m, serial=serial: m.Robot(serial, [], False)
    asked |= {
        "Robot()": lambda m: m.Robot(),
        "Robot(1)": lambda m: m.Robot(1),
        "Robot(unknown=1)": lambda m: m.Robot("bogus", unknown=1),
        "Robot(whitelist='abc')": lambda m: m.Robot("bogus", "abc"),
        "Gripper(None)": lambda m: m.Gripper(None),
        "Tool('x')": lambda m: m.Tool("x"),
        "Robot.Stop()": lambda m: m.Robot.Stop(),
        "Robot.Stop(3)": lambda m: m.Robot.Stop(3),
        "Robot.SendCartesianMotionForce(1)": lambda m: m.Robot.SendCartesianMotionForce(1),
        "Robot.ExecutePlan(1)": lambda m: m.Robot.ExecutePlan(1),
        "Tool.params(1)": lambda m: m.Tool.params(1),
        "Coord([1, 2, 3])": lambda m: m.Coord([1, 2, 3]),
        "Coord(…)": lambda m: repr(m.Coord([1, 2, 3], [4, 5, 6], ["a", "b"])),
        "str(Coord)": lambda m: str(m.Coord([1, 2, 3], [4, 5, 6], ["a", "b"])),
        "JPos(…)": lambda m: repr(m.JPos([1] * 7)),
        "NrtCartesianCmd(…)": lambda m: repr(m.NrtCartesianCmd([1] * 7, duration=2)),
        "ToolParams(1)": lambda m: m.ToolParams(1),
        "Mode(2)": lambda m: repr(m.Mode(2)),
        "Mode('x')": lambda m: m.Mode("x"),
        "Mode.IDLE == 1": lambda m: m.Mode.IDLE == 1,
        "Mode.IDLE == Mode(1)": lambda m: m.Mode(1) == m.Mode.IDLE,
        "Mode.IDLE == CoordType.TCP": lambda m: m.Mode.IDLE == m.CoordType.TCP,
        "hash, int, str": lambda m: (hash(m.Mode.IDLE), int(m.Mode.IDLE), str(m.Mode.IDLE), repr(m.Mode.IDLE)),
        "exported members": lambda m: list(map(str, (m.IDLE, m.TCP, m.UNKNOWN, m.ERROR, m.READY))),
        "pickled struct": lambda m: pickle.dumps(m.RobotInfo()),
        "copied struct": lambda m: copy.copy(m.RobotInfo()),
        "copied enum": lambda m: str(copy.copy(m.Mode.IDLE)),
        "deleted field": lambda m: delattr(m.ToolParams(), "mass"),
        "equal structs": lambda m: m.ToolParams() == m.ToolParams(),
        "level alias": lambda m: m.RobotEvent.Level is m.RobotEvent_Level,
        "__version__": lambda m: m.__version__,
    }
    poses = ([1] * 7, (1.0,) * 7, [1.0] * 6, [1] * 8, "abcdefg", b"1234567", None, [None] * 7, ["1"] * 7, [True] * 7)
    for value in (*poses, range(7), {1, 2, 3, 4, 5, 6, 7}, {0: 1}):
        asked[f"pose_d = {value!r}"] = written("NrtCartesianCmd", "pose_d", value)
    asked["pose_d = nan"] = lambda m: repr(written("NrtCartesianCmd", "pose_d", [_NAN] * 7)(m))
    asked["pose_d = generator"] = lambda m: written("NrtCartesianCmd", "pose_d", (1.0 for _ in range(7)))(m)
    for value in (1, True, "1", None, 1j, [1]):
        asked[f"duration = {value!r}"] = written("NrtCartesianCmd", "duration", value)
        asked[f"DoF = {value!r}"] = written("RobotInfo", "DoF", value)
    for value in (1, 1.0, None, "x"):
        asked[f"DoF = {value!r}"] = written("RobotInfo", "DoF", value)
        asked[f"has_FT_sensor = {value!r}"] = written("RobotInfo", "has_FT_sensor", value)
        asked[f"serial_num = {value!r}"] = written("RobotInfo", "serial_num", value)
        asked[f"q_min = {value!r}"] = written("RobotInfo", "q_min", value)
        asked[f"level = {value!r}"] = written("RobotEvent", "level", value)
    for value in ((1, 2), (1, 2, 3), [1, 2], 1):
        asked[f"timestamp = {value!r}"] = written("RobotStates", "timestamp", value)
    return asked


def answer(question: Callable[[Any], Any], module: Any) -> str:
    """What a module returns or raises: the exception's type and text."""
    try:
        return repr(question(module))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def compare_behaviour(library: Any, ours: Any) -> list[Difference]:
    """The questions that the two answer differently."""
    differences = []
    for name, question in questions().items():
        expected, found = answer(question, library), answer(question, ours)
        if expected != found:
            differences.append(Difference(name, expected, found))
    return differences


def _library() -> tuple[Any, str]:
    """The vendor's module where this Python has it in the version that counts; else None and why not."""
    try:
        version = importlib.metadata.version("flexivrdk")
    except importlib.metadata.PackageNotFoundError:
        return None, "flexivrdk is not installed for this Python (wheels: 3.10, 3.12, 3.14)"
    if version != VERSION:
        return None, f"flexivrdk {version} is installed, the stand-in is {VERSION}"
    return importlib.import_module("flexivrdk"), ""


def run(api: Path | None) -> dict[str, Any]:
    """The whole comparison as plain data: per source the differences, or why it was not compared."""
    ours, table = stand_in(), from_table()
    found = from_module(ours)

    def against(expected: Api) -> list[dict[str, Any]]:
        return [asdict(difference) for difference in compare(expected, found, left_out=table.left_out)]

    report: dict[str, Any] = {"version": VERSION, "facts": len(table.facts), "table": against(table)}
    report["api_file"] = against(from_dump(api)) if api else "not given"
    library, why_not = _library()
    if library is None:
        report["library"] = report["behaviour"] = why_not
    else:
        report["library"] = against(from_module(library))
        report["behaviour"] = [asdict(difference) for difference in compare_behaviour(library, ours)]
        report["questions"] = len(questions())
    report["not_implemented"] = sorted(table.left_out)
    report["differences"] = sum(
        len(value) for key, value in report.items() if key in _COMPARED and value and _listed(value)
    )
    return report


_COMPARED = ("table", "api_file", "library", "behaviour")


def _listed(value: Any) -> bool:
    return isinstance(value, list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and say by the exit code whether anything differs."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--api", type=Path, metavar="FILE", help="dump of the library's API (JSON)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    report = run(options.api)
    if options.json:
        print(json.dumps(report, indent=2, default=repr))
    else:
        for source in _COMPARED:
            value = report[source]
            print(f"{source:10} {f'{len(value)} differences' if _listed(value) else 'not compared: ' + value}")
            for difference in value if _listed(value) else []:
                print(f"  {difference['name']}: expected {difference['expected']!r}, found {difference['found']!r}")
        print(f"not implemented: {', '.join(report['not_implemented'])}")
    return 1 if report["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
