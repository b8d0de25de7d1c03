"""`python -m vla_rft_nodes.bringup <name> [key:=value ...]`: run a launch file until it ends or is told to stop.

Exit code: 0 when the process whose end stopped everything ended with 0, and after Ctrl-C or SIGTERM; otherwise that
process's code (128 + number for a signal); 2 for a mistake in the arguments or the launch file.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType

from . import find, show
from .model import LaunchError
from .output import Terminal
from .plan import Plan, load
from .supervise import Exit, Supervisor

POLL_S = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_intermixed_args(argv)
    try:
        return _dispatch(options)
    except LaunchError as error:
        print(f"bringup: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vla_rft_nodes.bringup",
        description="Start the processes of launch/<name>.launch.yaml; Ctrl-C stops them all.",
    )
    parser.add_argument("name", nargs="?", help="launch file, by name (demo) or by path")
    parser.add_argument("arguments", nargs="*", metavar="key:=value", help="launch arguments")
    parser.add_argument("--list", action="store_true", help="table of the launch files, or of what <name> starts")
    parser.add_argument("--show-args", action="store_true", help="the launch arguments, as ros2 launch shows them")
    parser.add_argument("--dry-run", action="store_true", help="print the commands instead of running them")
    parser.add_argument(
        "--log-dir", type=Path, help="default: <run_dir>/log if the file has run_dir, else ROS's log folder"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also print what goes to log files only")
    return parser


def _dispatch(options: argparse.Namespace) -> int:
    if options.name is None:
        if not options.list:
            raise LaunchError(f"which launch file? One of: {', '.join(find.launch_files()) or 'none found'}")
        print(show.files_table(find.launch_files()))
        return 0
    if options.list or options.show_args:
        path = find.launch_file(options.name)
        print(show.file_tables(path) if options.list else show.arguments_text(path))
        return 0
    plan = load(options.name, parse_arguments(options.arguments))
    if options.dry_run:
        print(show.commands_text(plan))
        return 0
    return run(plan, log_dir=options.log_dir or default_log_dir(plan), show_all=options.verbose)


def parse_arguments(words: Sequence[str]) -> dict[str, str]:
    """`["backend:=sim"]` → `{"backend": "sim"}`; of a repeated one the last counts."""
    arguments = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not (name and separator and value):
            raise LaunchError(f"malformed launch argument '{word}': write <name>:=<value>")
        arguments[name] = value
    return arguments


def default_log_dir(plan: Plan) -> Path:
    """`<run_dir>/log` where the launch file sets `run_dir`, else a new folder where ROS keeps its logs."""
    if run_dir := plan.configurations.get("run_dir"):
        return Path(run_dir) / "log"
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    logs = Path(os.environ.get("ROS_LOG_DIR") or home / "log")
    return logs / f"{datetime.now():%Y-%m-%d-%H-%M-%S}-{plan.name}-{os.getpid()}"


def run(plan: Plan, *, log_dir: Path, show_all: bool = False) -> int:
    """Start everything, wait for an end, stop everything, and say what happened; returns the exit code."""
    terminal = Terminal()
    requests = StopRequests()
    if not plan.processes:
        raise LaunchError(f"{plan.name} starts nothing with these arguments")
    with Supervisor(plan, log_dir=log_dir.absolute(), terminal=terminal, show_all=show_all) as supervisor:
        supervisor.start()
        terminal.line(f"{plan.name}: started {', '.join(supervisor.running())}; logs in {log_dir}; Ctrl-C stops all")
        code = watch(supervisor, requests, terminal)
        already = requests.count
        supervisor.stop(hurry=lambda: requests.count - already)
        for name in supervisor.forced:
            terminal.line(f"{name} did not stop when asked (SIGINT) and was forced to")
    return code


class StopRequests:
    """Counts Ctrl-C, SIGTERM and a closed terminal, from now on."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def watch(supervisor: Supervisor, requests: StopRequests, terminal: Terminal) -> int:
    """Report every process that ends until one of them, or the operator, calls for the end; returns the exit code."""
    code = 0
    while not requests.count:
        ended = supervisor.poll()
        for exit_ in ended:
            report(exit_, terminal)
            code = code or exit_.code
        deciding = [exit_ for exit_ in ended if exit_.spec.required]
        if deciding:
            terminal.line("stopping the rest" if supervisor.running() else "all processes have ended")
            return next((exit_.code for exit_ in deciding if exit_.code), 0)
        if not supervisor.running() and not ended:
            terminal.line("all processes have ended")
            return code
        time.sleep(POLL_S)
    terminal.line("stopping everything; Ctrl-C again hastens it")
    return 0


def report(ended: Exit, terminal: Terminal) -> None:
    """One line, and for a failure the last lines that the terminal has not shown yet."""
    spec = ended.spec
    role = "everything depends on it" if spec.required else "the others go on"
    terminal.line(f"{spec.name} ended with {ended.cause}" + (f" ({role})" if ended.code else ""))
    if ended.code and spec.output == "log":
        for line in ended.tail:
            terminal.line(f"    {line}")
        terminal.line(f"    (all of it: {ended.log})")


if __name__ == "__main__":
    sys.exit(main())
