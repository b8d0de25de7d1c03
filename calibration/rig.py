"""What a calibration needs of a cell beside `Cell`, and how the arm is led: as chunks, slowly, and waited for.

A cell comes by factory string: the simulated one, or the ROS client of a running one. Knows no board and no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from calibration.errors import CalibrationError
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.cell import Cell, CellFolder
from vla_rft_core.clock import nanoseconds
from vla_rft_core.geometry import Pose, norm
from vla_rft_core.types import ActionChunk, CameraFrame, RobotState, SetPoint, Source

SPEED_M_S, TURN_RAD_S = 0.15, 0.5
"""On the way from pose to pose; the safety profile's limits stand below."""
_STILL_M_S, _STILL_RAD_S = 0.004, 0.02
_THERE_M, _THERE_RAD = 0.006, 0.03
_PATIENCE_S = 4.0
SETTLE_S = 0.4
"""From standing still to the picture: longer than any camera's latency."""
_MOST_TARGETS = 100


class CalibrationCell(Cell, Protocol):
    """A set-up that can be calibrated."""

    folder: CellFolder
    simulated: bool

    def serials(self) -> Mapping[str, str]:
        """Serial numbers of "robot" and of each camera by name; what does not say its own is left out."""

    def intrinsics(self, camera: str) -> Intrinsics:
        """As the camera reports them."""

    def frame(self, camera: str) -> CameraFrame:
        """A picture that arrives after the call, with depth where it is streamed; DeviceError when none comes."""

    def activate(self, source: Source) -> None:
        """Ready the arm where it is not, and give the lease to `source`; ModeError when that is refused."""

    @property
    def holding(self) -> str:
        """Why a latched hold stands; empty when none does."""

    def set_up(self, what: str) -> None:
        """Ask for a set-up ("board on gripper", "board on table", "block", "nothing"); returns when it stands."""

    def blink(self, on: bool) -> None:
        """Switch the lamp, or the patch of screen, that the camera looks at."""

    def close(self) -> None:
        """Let go of the cell."""


@dataclass
class Guide:
    """Leads the arm of one cell."""

    cell: CalibrationCell
    speed: float = SPEED_M_S
    """[m/s]"""
    _sequence: int = 0

    @property
    def period_ns(self) -> int:
        """Between two targets."""
        return self.cell.spec.control_period_ns

    def now_ns(self) -> int:
        """The cell's time: the newest state's stamp."""
        return self.cell.state().arm.stamp_ns

    def play(self, set_points: list[SetPoint]) -> None:
        """Hand over targets, one per control period, and return at once; CalibrationError when they are refused."""
        self.cell.activate(Source.HOME)
        self._sequence += 1
        chunk = ActionChunk.from_set_points(
            set_points,
            stamp_ns=self.now_ns(),
            period_ns=self.period_ns,
            sequence=self._sequence,
            source=Source.HOME,
        )
        outcome = self.cell.execute(chunk)
        if not outcome.accepted:
            raise CalibrationError(f"the arm may not move: {outcome.reason}")

    def go(self, goal: Pose, *, width: float | None = None, speed: float | None = None) -> RobotState:
        """Move straight to a tcp pose, wait until everything stands still, and return the state then.

        CalibrationError when a hold latched or the arm stands elsewhere.
        """
        self.cell.activate(Source.HOME)  # before: a gripper that is not ready says no width
        start = self.cell.state().reference
        wide = start.width if width is None else width
        metres, radians = start.T_base_tcp.distance_to(goal)
        period_s = self.period_ns * 1e-9
        steps = max(
            1, math.ceil(metres / ((speed or self.speed) * period_s)), math.ceil(radians / (TURN_RAD_S * period_s))
        )
        points = [SetPoint(start.T_base_tcp.interpolate(goal, (i + 1) / steps), wide) for i in range(steps)]
        for first in range(0, steps, _MOST_TARGETS):
            part = points[first : first + _MOST_TARGETS]
            self.play(part)
            self.pass_time(len(part) * period_s)
        return self.wait_still(goal)

    def go_home(self) -> RobotState:
        """Up to the spec's raise height, across, and down; the fingers open to their home width."""
        self.cell.activate(Source.HOME)
        home, start = self.cell.spec.home, self.cell.state().reference.T_base_tcp
        height = max(home.raise_height, float(start.position[2]))
        self.go(Pose([*start.position[:2], height], start.quaternion))  # type: ignore[arg-type]
        self.go(Pose([*home.position[:2], height], home.quaternion), width=home.width)  # type: ignore[arg-type]
        return self.go(home.T_base_tcp, width=home.width)

    def pass_time(self, duration_s: float) -> None:
        """Let the cell's time pass; CalibrationError when a hold latched meanwhile."""
        self.cell.wait(nanoseconds(round(duration_s, 2)))
        if self.cell.holding:
            raise CalibrationError(f"the arm holds: {self.cell.holding}")

    def wait_still(self, goal: Pose | None = None) -> RobotState:
        """Until the arm is at the goal and rests, and has done so for `SETTLE_S`."""
        for _ in range(round(_PATIENCE_S / 0.1)):
            self.pass_time(0.1)
            state = self.cell.state()
            if is_still(state) and (goal is None or _is_there(state, goal)):
                self.pass_time(SETTLE_S)
                return self.cell.state()
        state = self.cell.state()
        metres, radians = state.arm.T_base_tcp.distance_to(goal or state.arm.T_base_tcp)
        where = f"{1e3 * metres:.0f} mm and {radians:.2f} rad from where it was sent"
        raise CalibrationError(f"the arm does not come to rest at its goal: it is {where}")


def is_still(state: RobotState) -> bool:
    """The tcp does not move."""
    twist = state.arm.tcp_twist
    return norm(twist[:3]) < _STILL_M_S and norm(twist[3:]) < _STILL_RAD_S


def _is_there(state: RobotState, goal: Pose) -> bool:
    metres, radians = state.arm.T_base_tcp.distance_to(goal)
    return metres < _THERE_M and radians < _THERE_RAD
