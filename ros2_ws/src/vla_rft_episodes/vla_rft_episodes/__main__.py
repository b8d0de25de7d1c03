"""`python -m vla_rft_episodes <command>`: look at attempts, check and mend them, decide about them, export.

Exit code 0; 1 when something is wrong with what was looked at; 2 when a command could not be done.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from vla_rft_core.errors import VlaRftError
from vla_rft_episodes import commands

_ELSEWHERE = {
    "export": ("vla_rft_episodes.lerobot.export", "derive a LeRobot v3.0 dataset from episodes"),
    "check-dataset": ("vla_rft_episodes.lerobot.check", "is a LeRobot v3.0 dataset whole and readable?"),
}
"""Commands whose module adds its own arguments; imported only when they are asked for."""


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vla_rft_episodes", description=__doc__)
    tools = parser.add_subparsers(dest="command", required=True)
    _add_looking(tools)
    _add_mending(tools)
    for name, (module, text) in _ELSEWHERE.items():
        tool = tools.add_parser(name, help=text)
        if name == chosen:
            importlib.import_module(module).add_arguments(tool)
    return parser


def _add_looking(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tool = tools.add_parser("ls", help="what is in a collection, one line per attempt")
    tool.add_argument("collection", type=Path, metavar="DIR")
    tool.add_argument("--goal", type=int, default=50, help="how many are wanted (default 50)")
    tool.set_defaults(run=commands.list_episodes)

    tool = tools.add_parser("info", help="all that is known of one episode")
    tool.add_argument("episode", type=Path, metavar="EPISODE")
    tool.add_argument("--limits", type=Path, metavar="YAML", help="judge it again by these limits; nothing is written")
    tool.add_argument("--json", action="store_true", help="print JSON")
    tool.set_defaults(run=commands.show_info)

    tool = tools.add_parser("play", help="show what a camera saw, or write it as MP4 where there is no display")
    tool.add_argument("episode", type=Path, metavar="EPISODE")
    tool.add_argument("--camera", help="default: the first one of the spec")
    tool.add_argument("--out", type=Path, metavar="FILE.mp4", help="write this file instead of showing a window")
    tool.set_defaults(run=commands.play)

    tool = tools.add_parser("coverage", help="draw where the towels of a collection were taken")
    tool.add_argument("collection", type=Path, metavar="DIR")
    tool.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="made anew each time")
    tool.add_argument("--cell", type=float, default=0.05, metavar="M", help="side of a cell [m] (default 0.05)")
    tool.add_argument(
        "--region",
        type=float,
        nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="part of the table to draw, base [m] (default: the workspace of the newest episode)",
    )
    tool.add_argument("--json", type=Path, metavar="FILE.json", help="write the map as data, too, for a trial protocol")
    tool.set_defaults(run=commands.draw_coverage)


def _add_mending(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tool = tools.add_parser("fsck", help="is everything as it was written? exit code 1 when not")
    tool.add_argument("collection", type=Path, metavar="DIR")
    tool.add_argument("--json", action="store_true", help="print one JSON line instead of a table")
    tool.set_defaults(run=commands.check)

    tool = tools.add_parser("repair", help="finish what recorders could not; recordings themselves are never changed")
    tool.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="a collection, or one .open-ID folder in it")
    tool.set_defaults(run=commands.repair)

    tool = tools.add_parser("benchmark", help="how long verdict and fsck take on a made-up attempt; one JSON line")
    tool.add_argument("--cell", required=True, metavar="CELL", help="cell folder, or package:folder")
    tool.add_argument("--seconds", type=float, default=60.0, help="length of the attempt (default 60)")
    tool.set_defaults(run=commands.run_benchmark)

    for name, text, run in (
        ("trash", "discard episodes; nothing is deleted", commands.trash),
        ("restore", "take episodes out of the trash", commands.restore),
    ):
        tool = tools.add_parser(name, help=text)
        tool.add_argument("episodes", nargs="+", metavar="ID", help="an episode's id or its folder")
        tool.add_argument("--in", dest="collection", type=Path, default=Path(), metavar="DIR", help="the collection")
        tool.add_argument("--by", default=getpass.getuser(), help="who decides (default: you)")
        tool.set_defaults(run=run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    chosen = given[0] if given else None
    arguments = _parser(chosen).parse_args(given)
    try:
        if chosen in _ELSEWHERE:
            return int(importlib.import_module(_ELSEWHERE[chosen][0]).run(arguments))
        return int(arguments.run(arguments))
    except BrokenPipeError:
        return 0  # whoever reads has seen enough
    except (VlaRftError, ValueError, OSError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
