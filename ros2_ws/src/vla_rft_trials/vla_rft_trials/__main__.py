"""`python -m vla_rft_trials <command>`: compare counts; lock, unlock and report a study; rate and amend its trials.

python -m vla_rft_trials compare 10/10 5/10
python -m vla_rft_trials lock launch/protocols/towel.yaml runs/towel-study
python -m vla_rft_trials report runs/towel-study
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vla_rft_core.errors import VlaRftError
from vla_rft_trials import commands
from vla_rft_trials.statistics.two_arms import Count


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m vla_rft_trials", description="Trials: statistics, studies, reports.")
    tools = made.add_subparsers(dest="command", required=True)
    _add_statistics(tools)

    lock = tools.add_parser("lock", help="draw placements, order and code names, and lock them with the protocol")
    lock.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")
    lock.add_argument("study", type=Path, metavar="STUDY", help="a new folder")
    lock.set_defaults(run_command=commands.lock_study)

    tool = tools.add_parser("compose", help="a protocol from a template, for bundles that were just made")
    tool.add_argument("template", type=Path, metavar="TEMPLATE.yaml")
    tool.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml", help="written, with a seed drawn anew")
    tool.add_argument("--policy", action="append", required=True, metavar="NAME=BUNDLE[@METHOD]")
    tool.add_argument("--compare", action="append", default=[], metavar="NAME:NAME", help="default: each with each")
    tool.add_argument("--title", default="")
    tool.add_argument("--count", type=int, default=0, help="placements, one trial of each policy at each")
    tool.add_argument("--draw", default="", metavar="MODULE:FUNCTION", help="of the placements")
    tool.add_argument("--time-limit", type=float, default=0.0, metavar="S")
    developed = "placements to develop on, from this seed, instead of new ones: what is found there is no result"
    tool.add_argument("--development", type=int, metavar="SEED", help=developed)
    tool.set_defaults(run_command=commands.compose_protocol)

    _add(tools, "status", "how far a study has come", commands.show_status)
    tool = _add(
        tools, "unlock", "say which policy each code name was; no trial is run afterwards", commands.unlock_study
    )
    tool.add_argument("--early", default="", metavar="REASON", help="although trials are missing; it is reported")
    _add(tools, "report", "make report.html, report.md, trials.csv and contact_sheet.png again", commands.report)
    tool = _add(tools, "results", "what an unlocked study found, as JSON", commands.show_results)
    tool.add_argument("--out", type=Path, metavar="FILE.json", help="write this file instead of printing")
    tool = tools.add_parser("figures", help="print what `results` wrote as a table")
    tool.add_argument("results", type=Path, metavar="FILE.json")
    tool.set_defaults(run_command=commands.show_figures)
    tool = _add(tools, "strips", "two policies side by side, placement by placement", commands.draw_strips)
    tool.add_argument("first", metavar="NAME")
    tool.add_argument("second", metavar="NAME")
    tool.add_argument("--count", type=int, default=4, help="placements, two strips each (default 4)")
    tool.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    tool = _add(tools, "rate", "score the videos a second time, blind", commands.rate_videos)
    tool.add_argument("--rater", required=True, metavar="NAME")
    tool = _add(tools, "void", "declare an ended trial void; its record stays", commands.void)
    tool.add_argument("trial", type=int, metavar="N", help="number of the trial, from 1")
    tool.add_argument("--by", required=True, metavar="NAME")
    tool.add_argument("--reason", required=True)
    tool = _add(tools, "undo", "take back the last word about an ended trial", commands.undo)
    tool.add_argument("--by", required=True, metavar="NAME")
    return made


def _add(
    tools: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    command: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    tool = tools.add_parser(name, help=summary)
    tool.add_argument("study", type=Path, metavar="STUDY")
    tool.set_defaults(run_command=command)
    return tool


def _add_statistics(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tool = tools.add_parser("compare", help="what k of n against k of n says")
    tool.add_argument("a", type=_count, metavar="K/N")
    tool.add_argument("b", type=_count, metavar="K/N")
    tool.add_argument(
        "--discordant",
        type=_discordant,
        metavar="WINS:LOSSES",
        help="trials were paired: placements where only the first, only the second succeeded",
    )
    tool.add_argument("--alpha", type=float, default=0.05, help="two-sided error (default 0.05)")
    tool.set_defaults(run_command=commands.compare)


def _discordant(text: str) -> tuple[int, int]:
    first, colon, second = text.partition(":")
    if not colon or not first.isdecimal() or not second.isdecimal():
        raise argparse.ArgumentTypeError(f"expected wins:losses like 6:0, got {text!r}")
    return int(first), int(second)


def _count(text: str) -> Count:
    try:
        return Count.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, or 2 with one sentence on stderr when it could not be done."""
    chosen = parser().parse_args(arguments)
    try:
        return int(chosen.run_command(chosen))
    except (ValueError, VlaRftError, OSError) as error:
        print(f"vla_rft_trials: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
