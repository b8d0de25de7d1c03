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
import time
from collections.abc import Sequence

from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_hardware.teleop.keyboard import KeyboardMap
from vla_rft_hardware.teleop.mapping import load_map
from vla_rft_interfaces.msg import SimTruth
from vla_rft_interfaces.srv import ResetScene
from vla_rft_nodes import qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.operate import connected
from vla_rft_nodes.operator_input import OperatorInput
from vla_rft_nodes.record_session import Session, SessionOptions, SimulatedTable
from vla_rft_nodes.recorder_client import RecorderClient

SETTLE_S = 0.5
TRUTH_S = 2.0


class SimulatedScene:
    """The towel of a simulated cell: laid out with successive seeds, looked at in `sim/truth`."""

    def __init__(self, node: Node, cell: CellClient, *, seed: int) -> None:
        self._cell, self._seed = cell, seed
        self._truth: SimTruth | None = None
        self._client = node.create_client(ResetScene, topics.SIM_RESET)
        node.create_subscription(SimTruth, topics.SIM_TRUTH, self._on_truth, qos.STATE)

    def table(self) -> SimulatedTable:
        """For a session."""
        return SimulatedTable(self._reset, lambda: self._truth is not None and bool(self._truth.success))

    def _reset(self) -> str:
        seed, self._seed = self._seed, self._seed + 1
        response = self._cell.call(self._client, ResetScene.Request(seed=seed))
        if response.error_code:
            raise DeviceError(f"the scene cannot be reset: {response.error_msg}")
        if not self._cell.wait_until(lambda: self._truth is not None and self._truth.seed == seed, TRUTH_S):
            raise DeviceError("sim_node published no truth after the reset")
        time.sleep(SETTLE_S)
        return str(response.placement)

    def _on_truth(self, message: SimTruth) -> None:
        self._truth = message


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
        say=arguments.say,
    )
    # Signals reach this thread only: an attempt that is open is finished while ROS still works.
    with connected(folder.spec, name="record", signals=SignalHandlerOptions.NO) as (node, cell):
        table = SimulatedScene(node, cell, seed=arguments.seed).table() if arguments.reset_scene else None
        keys = OperatorInput(node, cell, fd=sys.stdin.fileno(), drive=arguments.keyboard)
        with contextlib.closing(keys):
            if arguments.keyboard:
                print(load_map(KeyboardMap, "keyboard").legend())
            Session(cell, RecorderClient(node), keys, folder=folder, options=options, table=table).run()


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
