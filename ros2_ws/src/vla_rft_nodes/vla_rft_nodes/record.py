"""`python -m vla_rft_nodes.record`: the terminal of an operator who collects demonstrations.

    python -m vla_rft_nodes.record --task fold_towel --prompt "fold the towel in half" --operator NAME --count 50

Cell and recorder run already (`teleop.launch.yaml`). With --keyboard this terminal moves the arm, too.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence

from rclpy.signals import SignalHandlerOptions

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_hardware.teleop.keyboard import KeyboardMap
from vla_rft_hardware.teleop.mapping import load_map
from vla_rft_nodes.operate import connected
from vla_rft_nodes.operator_input import OperatorInput
from vla_rft_nodes.record_session import Session, SessionOptions
from vla_rft_nodes.recorder_client import RecorderClient
from vla_rft_nodes.session_view import TerminalView
from vla_rft_nodes.simulated_scene import SimulatedScene


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m vla_rft_nodes.record", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("--task", required=True, help="the named job, like fold_towel")
    made.add_argument("--prompt", required=True, help="the sentence given to the policy")
    made.add_argument("--operator", required=True, help="who demonstrates")
    made.add_argument("--count", type=_positive, default=50, help="kept attempts to collect (default 50)")
    made.add_argument("--keyboard", action="store_true", help="this terminal's letter keys move the arm")
    made.add_argument("--start-device", action="store_true", help="hand the arm over at each start (scripted expert)")
    made.add_argument("--reset-scene", action="store_true", help="simulation: lay the towel out before each attempt")
    made.add_argument("--seed", type=int, default=0, help="of the first lay-out; the next ones count upwards")
    made.add_argument("--say", type=_command, default=(), metavar="CMD", help="command that speaks, like espeak-ng")
    made.add_argument("--cell", default="vla_rft_sim:towel_cell", help="cell folder: a path, or package:folder")
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _command(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))
    if not words or shutil.which(words[0]) is None:
        raise argparse.ArgumentTypeError(f"no such command: {text!r}")
    return words


def _record(arguments: argparse.Namespace) -> None:
    folder = find_cell(arguments.cell)
    options = SessionOptions(
        task=arguments.task,
        prompt=arguments.prompt,
        operator=arguments.operator,
        count=arguments.count,
        start_device=arguments.start_device,
    )
    # Signals reach this thread only: an attempt that is open is finished while ROS still works.
    with connected(folder.spec, name="record", signals=SignalHandlerOptions.NO) as (node, cell):
        table = SimulatedScene(node, cell, seed=arguments.seed).table() if arguments.reset_scene else None
        keys = OperatorInput(node, cell, fd=sys.stdin.fileno(), drive=arguments.keyboard)
        with contextlib.closing(keys):
            if arguments.keyboard:
                print(load_map(KeyboardMap, "keyboard").legend())
            view = TerminalView(folder, task=options.task, say=arguments.say)
            Session(cell, RecorderClient(node), keys, view=view, options=options, table=table).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one session; the exit code."""
    arguments = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # the terminal is put back on every way out
    try:
        _record(arguments)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except (ValueError, VlaRftError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
