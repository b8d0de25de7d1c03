"""`python -m vla_rft_nodes.replay EPISODE --speed 0.25`: plays the set-points of a demonstration again.

What was sent then is asked for now: chunks of source `replay` through executor and safety filter like any other. It
says how far the arm was from where it was sent, and from where it was in the demonstration; exit 1 when a hold latched.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.table import Table

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import seconds
from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_core.geometry import Pose
from vla_rft_core.home import home_chunk
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.reader import Episode
from vla_rft_interfaces.msg import RobotState, SafetyStatus
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.operate import connected

NEAR_M, NEAR_RAD = 0.02, 0.1
"""The arm may be so far from the start without --approach."""
APPROACHED_M = 0.005
ARRIVE_S = 10.0
SETTLE_S = 0.5
"""After the last target, before the arm's way is looked at [s]."""
HOME_SPEED = 0.25
"""The approach at full speed [m/s]."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What was sent, at the control period, and where the arm was."""

    start_ns: int
    """When the first set-point was sent (stamp)."""
    targets: tuple[SetPoint, ...]
    """Sent at or before `start_ns + (i + 1) * period`."""
    first: SetPoint
    measured_ns: tuple[int, ...]
    measured: tuple[Pose, ...]
    """Of the tcp, in base, at these stamps."""

    @classmethod
    def of(cls, episode: Episode) -> Demonstration:
        """EpisodeError when the arm was never sent anywhere."""
        entries = [entry for entry in episode.servo_entries() if entry.moving]
        if not entries:
            raise EpisodeError(f"{episode.path}: the arm was never sent anywhere, there is nothing to replay")
        stamps = [entry.stamp_ns for entry in entries]
        period_ns = episode.spec.control_period_ns
        grid = range(stamps[0] + period_ns, stamps[-1] + period_ns, period_ns)
        states = list(episode.robot_states())
        return cls(
            start_ns=stamps[0],
            targets=tuple(entries[bisect_right(stamps, t) - 1].sent for t in grid),
            first=entries[0].sent,
            measured_ns=tuple(state.arm.stamp_ns for state in states),
            measured=tuple(state.arm.T_base_tcp for state in states),
        )

    def measured_at(self, stamp_ns: int) -> Pose:
        """Where the tcp was then."""
        return self.measured[max(0, bisect_right(self.measured_ns, stamp_ns) - 1)]


@dataclass(frozen=True)
class Error:
    """Distances between two ways of the tcp."""

    p50_mm: float
    max_mm: float
    p50_rad: float
    max_rad: float

    @classmethod
    def between(cls, pairs: Sequence[tuple[Pose, Pose]]) -> Error:
        """Pairwise."""
        distances = np.array([a.distance_to(b) for a, b in pairs]) * (1e3, 1.0)
        (p50_mm, p50_rad), (max_mm, max_rad) = np.median(distances, axis=0), distances.max(axis=0)
        return cls(*(round(float(value), 4) for value in (p50_mm, max_mm, p50_rad, max_rad)))


class Replay:
    """One replay; the states that arrive meanwhile are kept."""

    def __init__(self, node: Node, cell: CellClient, demonstration: Demonstration, *, speed: float) -> None:
        self._cell, self._demonstration = cell, demonstration
        self._period_ns = round(cell.spec.control_period_ns / speed)
        self._speed = speed
        self._states: list[bytes] = []
        node.create_subscription(RobotState, topics.ROBOT_STATE, self._states.append, qos.EVENT, raw=True)

    def approach(self, *, allowed: bool) -> None:
        """To the first set-point over the raised waypoint, slowly; DeviceError when that is not allowed."""
        first, here = self._demonstration.first, self._cell.state().reference
        metres, radians = here.T_base_tcp.distance_to(first.T_base_tcp)
        if metres <= NEAR_M and radians <= NEAR_RAD and not allowed:
            return
        if not allowed:
            raise DeviceError(f"the arm is {1e3 * metres:.0f} mm, {radians:.2f} rad from the start: add --approach")
        way = home_chunk(
            here,
            _homing_at(self._cell.spec, first),
            stamp_ns=time.time_ns(),
            sequence=self._cell.next_sequence(),
            speed=HOME_SPEED * self._speed,
        )
        self._cell.play(way, within_m=APPROACHED_M, timeout_s=ARRIVE_S)

    def play(self, *, max_targets: int) -> str:
        """All set-points in chunks, each following the one before; why a hold was latched, or ""."""
        self._states.clear()
        self._cell.set_mode(SafetyStatus.ACTIVE, Source.REPLAY)
        started_ns = time.time_ns()
        try:
            for first in range(0, len(self._demonstration.targets), max_targets):
                targets = self._demonstration.targets[first : first + max_targets]
                chunk = ActionChunk.from_set_points(
                    targets,
                    stamp_ns=started_ns + first * self._period_ns,
                    period_ns=self._period_ns,
                    sequence=self._cell.next_sequence(),
                    source=Source.REPLAY,
                )
                outcome = self._cell.execute(chunk)
                if not outcome.accepted:
                    return self._held() or f"rejected: {outcome.reason}"
                end_ns = chunk.stamp_ns + len(targets) * self._period_ns
                if self._cell.wait_until(lambda: bool(self._held()), seconds(end_ns - time.time_ns())):
                    return self._held()
            time.sleep(SETTLE_S)
        finally:
            self._started_ns = started_ns
            self._cell.take_back()
        return self._held()

    def errors(self) -> dict[str, Error]:
        """Of what was played so far; empty when nothing was."""
        to_sent, to_demonstration = [], []
        end_ns = self._started_ns + len(self._demonstration.targets) * self._period_ns
        for serialized in list(self._states):
            state = convert.from_robot_state(deserialize_message(serialized, RobotState))
            if not self._started_ns <= state.arm.stamp_ns <= end_ns:
                continue
            then_ns = self._demonstration.start_ns + round((state.arm.stamp_ns - self._started_ns) * self._speed)
            to_sent.append((state.arm.T_base_tcp, state.reference.T_base_tcp))
            to_demonstration.append((state.arm.T_base_tcp, self._demonstration.measured_at(then_ns)))
        if not to_sent:
            return {}
        return {"sent": Error.between(to_sent), "demonstration": Error.between(to_demonstration)}

    def _held(self) -> str:
        status = self._cell.status
        return status.reason if status is not None and status.latched else ""


def _homing_at(spec: RobotSpec, point: SetPoint) -> RobotSpec:
    """A spec whose home is that point: the guarded way home becomes the guarded way there."""
    pose = point.T_base_tcp
    home = replace(
        spec.home,
        position=tuple(pose.position.tolist()),
        quaternion=tuple(pose.quaternion.tolist()),
        width=float(point.width),
    )
    return replace(spec, home=home)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m vla_rft_nodes.replay", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("episode", type=Path, help="folder of a recorded episode")
    made.add_argument("--speed", type=_speed, default=0.25, help="of the demonstration's (default 0.25)")
    made.add_argument("--approach", action="store_true", help="drive to the start first, over the raised waypoint")
    made.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    made.add_argument("--cell", default="vla_rft_sim:towel_cell", help="cell folder: a path, or package:folder")
    return made


def _speed(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text}")
    return value


def _replay(arguments: argparse.Namespace) -> int:
    folder = find_cell(arguments.cell)
    episode = Episode.open(arguments.episode)
    folder.spec.require_same(episode.spec, ours="the cell", theirs=f"episode {episode.info.id}")
    demonstration = Demonstration.of(episode)
    with connected(folder.spec, name="replay", signals=SignalHandlerOptions.NO) as (node, cell):
        replay = Replay(node, cell, demonstration, speed=arguments.speed)
        if cell.status is not None and cell.status.mode != SafetyStatus.READY:
            cell.ready()
        replay.approach(allowed=arguments.approach)
        held = replay.play(max_targets=folder.safety.max_targets)
        errors = replay.errors()
    if arguments.json:
        plain = {name: asdict(error) for name, error in errors.items()}
        print(json.dumps({"episode": episode.info.id, "speed": arguments.speed, "held": held, "error": plain}))
    else:
        _print(episode.info.id, arguments.speed, errors)
    if held:
        print(f"replay: {held}", file=sys.stderr)
    return 1 if held else 0


def _print(episode: str, speed: float, errors: dict[str, Error]) -> None:
    table = Table(title=f"{episode} at {speed:g} of its speed: the tcp's distance from ...")
    for heading in ("", "p50 [mm]", "max [mm]", "p50 [rad]", "max [rad]"):
        table.add_column(heading, justify="right" if heading else "left")
    names = {"sent": "where it was sent", "demonstration": "where it was in the demonstration"}
    for name, error in errors.items():
        figures = (error.p50_mm, error.max_mm, error.p50_rad, error.max_rad)
        table.add_row(
            names[name], *(f"{figure:.{digits}f}" for figure, digits in zip(figures, (1, 1, 3, 3), strict=True))
        )
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay one episode; the exit code."""
    arguments = parser().parse_args(argv)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            return _replay(arguments)
        except (ValueError, VlaRftError) as error:
            print(f"replay: {error}", file=sys.stderr)
            return 1
    return 130


if __name__ == "__main__":
    sys.exit(main())
