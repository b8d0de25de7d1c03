"""`python -m vla_rft_nodes.operate <command>`: what a person at the cell asks of robot_node, from a terminal.

status, ready, maintenance, rearm; two motions for the first days, `jog` (a straight line of some centimetres) and
`home`, both slow unless told otherwise; and `policy`, which lends the lease to policy_node. Motions are chunks like any
other: executor and safety filter stand in their way.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.home import home_chunk
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.ros import prepare_environment

CONNECT_S = 20.0
ARRIVE_S = 5.0
"""How long after the last target the arm may take."""
ARRIVED_M = 0.005
LONGEST_JOG_M = 0.2
HOME_SPEED = 0.25
"""The way home at 100 % [m/s]."""


def jog_chunk(start: SetPoint, spec: RobotSpec, *, delta: Sequence[float], speed: float, sequence: int) -> ActionChunk:
    """A straight line by `delta` (3,) [m] in base at `speed` [m/s]; orientation and fingers stay."""
    length = math.hypot(*delta)
    if not 0.0 < length <= LONGEST_JOG_M:
        raise ValueError(f"a jog is longer than 0 and at most {LONGEST_JOG_M} m, got {length:g}")
    steps = math.ceil(length / (speed * spec.control_period_s))
    end = start.T_base_tcp.moved(delta, (0.0, 0.0, 0.0))
    points = [SetPoint(start.T_base_tcp.interpolate(end, (i + 1) / steps), start.width) for i in range(steps)]
    return ActionChunk.from_set_points(
        points, stamp_ns=time.time_ns(), period_ns=spec.control_period_ns, sequence=sequence, source=Source.HOME
    )


def _status(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    status, state = client.status, client.state()
    assert status is not None
    x, y, z = state.arm.T_base_tcp.position.tolist()
    why = f" ({status.reason or status.source})" if status.reason or status.source else ""
    lines = [f"mode {status.mode}{why}", f"tcp at ({x:.3f}, {y:.3f}, {z:.3f}) m, width {state.gripper.width:.3f} m"]
    return lines + ([f"fault: {state.arm.fault}"] if state.arm.fault else [])


def _ready(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    return client.ready()


def _maintenance(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    return client.set_mode(SafetyStatus.MAINTENANCE)


def _rearm(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    client.rearm("terminal")
    return ["left the hold; motion waits for a source"]


def _jog(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    speed, start = options.percent / 100.0 * cell.safety.max_speed, client.state().reference
    chunk = jog_chunk(
        start, cell.spec, delta=(options.x, options.y, options.z), speed=speed, sequence=client.next_sequence()
    )
    return _play(client, chunk, speed)


def _home(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    speed = options.percent / 100.0 * HOME_SPEED
    start, sequence = client.state().reference, client.next_sequence()
    return _play(client, home_chunk(start, cell.spec, stamp_ns=time.time_ns(), sequence=sequence, speed=speed), speed)


def _policy(client: CellClient, cell: CellFolder, options: argparse.Namespace) -> list[str]:
    """Until the time is up, a hold is latched, somebody takes the lease, or Ctrl-C: then it is taken back."""

    def lent() -> bool:
        status = client.status
        return status is not None and status.mode == SafetyStatus.ACTIVE and status.source == Source.POLICY

    client.set_mode(SafetyStatus.ACTIVE, Source.POLICY)
    began = time.monotonic()
    try:
        client.wait_until(lambda: not lent(), options.seconds)
    finally:
        if lent():
            client.set_mode(SafetyStatus.READY)
    status = client.status
    held = f"; hold: {status.reason}" if status is not None and status.latched else ""
    return [f"the policy had the lease for {time.monotonic() - began:.1f} s{held}"]


def _play(client: CellClient, chunk: ActionChunk, speed: float) -> list[str]:
    client.play(chunk, within_m=ARRIVED_M, timeout_s=ARRIVE_S)
    return [f"arrived within {1e3 * ARRIVED_M:.0f} mm, {len(chunk)} targets at {speed:.3f} m/s"]


COMMANDS: dict[str, Callable[[CellClient, CellFolder, argparse.Namespace], list[str]]] = {
    "status": _status,
    "ready": _ready,
    "maintenance": _maintenance,
    "rearm": _rearm,
    "jog": _jog,
    "home": _home,
    "policy": _policy,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m vla_rft_nodes.operate", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("--cell", default="vla_rft_sim:towel_cell", help="cell folder: a path, or package:folder")
    commands = made.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        command = commands.add_parser(name)
        if name == "jog":
            for axis in "xyz":
                command.add_argument(f"--{axis}", type=float, default=0.0, help=f"along {axis} of base [m]")
        if name == "policy":
            command.add_argument("--seconds", type=float, default=60.0, help="at most so long (default 60)")
        if name in ("jog", "home"):
            command.add_argument("--percent", type=_percent, default=5.0, help="of full speed (default 5)")
    return made


def _percent(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 100.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 100, got {text}")
    return value


@contextlib.contextmanager
def spinning(name: str, *, signals: SignalHandlerOptions = SignalHandlerOptions.ALL) -> Iterator[Node]:
    """A node in the running graph, spun by a thread of its own."""
    prepare_environment()
    rclpy.init(signal_handler_options=signals)
    executor = SingleThreadedExecutor()
    node = rclpy.create_node(name)
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        rclpy.try_shutdown()
        thread.join(timeout=5.0)


@contextlib.contextmanager
def connected(
    spec: RobotSpec, *, name: str = "operate", signals: SignalHandlerOptions = SignalHandlerOptions.ALL
) -> Iterator[tuple[Node, CellClient]]:
    """A client of the cell, and the node that it lives in."""
    with spinning(name, signals=signals) as node:
        client = CellClient(node, spec)
        client.connect(CONNECT_S)
        yield node, client


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(argv)
    try:
        cell = find_cell(options.cell)
        with connected(cell.spec) as (_, client):
            print("\n".join(COMMANDS[options.command](client, cell, options)))
    except (ValueError, VlaRftError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
