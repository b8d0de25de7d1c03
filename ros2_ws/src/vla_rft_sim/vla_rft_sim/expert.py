"""The scripted expert: folds the towel in half from the truth, as a teleoperation device.

It looks at the truth once, when it plans, and never again: if it misses or loses the towel it goes on regardless, as
a recorded motion would. A step that did not reach the robot (its chunk came too late) is taken again. It knows nothing
of the world it runs in, only corners and the robot's state.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.geometry import Array, Pose, quaternion_multiply, rotvec_to_quaternion
from vla_rft_core.types import RobotState, SetPoint
from vla_rft_hardware.protocols import TeleopCommand
from vla_rft_sim.layout import TOOL_DOWN

Plan = list[SetPoint]
"""Set-points, one per control period."""


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """How the fold is done. Lengths in metres, times in control periods."""

    period_s: float = 0.1
    max_step: float = 0.03
    """No command moves the set-point further than this."""
    max_turn: float = 0.15
    """[rad]"""
    speed: float = 0.25
    """Peak speed of the planned path [m/s]."""
    turn_rate: float = 1.0
    """Peak turning speed of the planned path [rad/s]."""
    approach_height: float = 0.07
    grasp_height: float = 0.008
    approach_offset: tuple[float, float] = (0.0, 0.0)
    """Where the way down begins, beside the point over the grasp, in base x and y [m]."""
    inset: float = 0.004
    """The fingers close this far inside the towel's edge."""
    along: float = 0.0
    """... and this far from the edge's middle, towards its second corner."""
    yaw: float = 0.0
    """How far the fingers are turned against the edge [rad]."""
    lift: float = 0.30
    """Height of the fold's arc over the towel's length; from 0.55 on the crease is pulled past the middle."""
    overshoot: float = 0.008
    """How far beyond the opposite edge the held edge is laid down: it springs back a little when let go."""
    release_along: float = 0.0
    """How much further along the edge it is laid down than it was taken."""
    sway: float = 0.0
    """How far sideways the top of the arc is."""
    release_height: float = 0.016
    retreat: float = 0.12
    open_width: float = 0.08
    settle: int = 1
    """Periods at rest before the fingers close and before they open."""
    close: int = 6
    open: int = 4


_AGAIN = 3
"""How often a step is taken again before the expert goes on regardless: something holds the arm there."""
_STILL = (0.001, 0.01)
"""No way at all [m, rad]."""
_RAMP = 0.3
"""Fraction of a segment's time spent speeding up, and again slowing down."""


def _progress(length: float, angle: float, config: ExpertConfig) -> Array:
    """Fractions of a segment, one per period: smooth ramps and constant speed between them, within the peak speeds."""
    duration = max(length / config.speed, angle / config.turn_rate) / (1.0 - _RAMP)
    steps = max(1, math.ceil(duration / config.period_s))
    t = np.arange(1, steps + 1) / steps
    way = np.where(t <= 0.5, _ramp_integral(t), 1.0 - _RAMP - _ramp_integral(1.0 - t))
    return way / (1.0 - _RAMP)


def _ramp_integral(t: Array) -> Array:
    """Way made by time t (0..1) at a speed that rises to 1 along a half cosine and stays there."""
    rising = 0.5 * (t - _RAMP / math.pi * np.sin(math.pi * t / _RAMP))
    return np.where(t < _RAMP, rising, t - 0.5 * _RAMP)


def _line(start: Pose, end: Pose, config: ExpertConfig) -> list[Pose]:
    return [start.interpolate(end, float(f)) for f in _progress(*start.distance_to(end), config)]


def _arc(start: Pose, end: Pose, top: Array, config: ExpertConfig) -> list[Pose]:
    """Half an ellipse over the straight line from start to end; its top is `top` (3,) away from the line's middle."""
    height = float(np.linalg.norm(top))
    length = math.dist(start.position, end.position) + height
    poses = []
    for fraction in _progress(length, 0.0, config):
        angle = math.pi * float(fraction)
        along = start.interpolate(end, 0.5 - 0.5 * math.cos(angle))
        poses.append(along.moved(top * math.sin(angle), (0.0, 0.0, 0.0)))
    return poses


def plan_fold(start: SetPoint, corners: Array, config: ExpertConfig) -> list[SetPoint]:
    """Set-points, one per period, that fold a flat towel with these corners (4, 3) in half.

    The short side with the larger y is taken by its middle and laid just beyond the other one.
    """
    sides = [0.5 * (corners[0] + corners[3]), 0.5 * (corners[1] + corners[2])]
    held, other = sorted(sides, key=lambda middle: -middle[1])
    across = corners[3] - corners[0]
    along = (other - held)[:2] / np.linalg.norm((other - held)[:2])
    # The pads lie along the short side; of the two ways round, the one nearer to home.
    yaw = math.remainder(math.atan2(across[1], across[0]), math.pi)
    quaternion = quaternion_multiply(rotvec_to_quaternion([0.0, 0.0, yaw + config.yaw]), TOOL_DOWN)
    sideways = across[:2] / np.linalg.norm(across[:2])

    def over(point: Array, ahead: float, aside: float, height: float) -> Pose:
        return Pose((*(point[:2] + ahead * along + aside * sideways), height), quaternion)

    length = float(np.linalg.norm((other - held)[:2]))
    grasp = over(held, config.inset, config.along, config.grasp_height)
    above = grasp.moved((*config.approach_offset, config.approach_height - config.grasp_height), (0.0, 0.0, 0.0))
    release_aside = config.along + config.release_along
    release = over(other, config.overshoot - config.inset, release_aside, config.release_height)
    top = np.array([*(config.sway * sideways), config.lift * length])
    away = release.moved((0.0, 0.0, config.retreat), (0.0, 0.0, 0.0))
    stages = [
        (_line(start.T_base_tcp, above, config), config.open_width),
        (_line(above, grasp, config) + [grasp] * config.settle, config.open_width),
        ([grasp] * config.close, 0.0),
        (_arc(grasp, release, top, config) + [release] * config.settle, 0.0),
        ([release] * config.open + _line(release, away, config) + [away], config.open_width),
    ]
    return [SetPoint(pose, width) for poses, width in stages for pose in poses]


class ScriptedExpert:
    """A `PrivilegedDevice` that folds once per `start()`; show it the towel with `observe_corners`."""

    def __init__(
        self, clock: Clock, config: ExpertConfig | None = None, *, drift: Callable[[Plan], Plan] | None = None
    ) -> None:
        self._clock = clock
        self.config = config or ExpertConfig()
        self._drift = drift
        self._corners: Array | None = None
        self._plan: deque[SetPoint] | None = None
        self._sent: tuple[SetPoint, SetPoint] | None = None
        """The last step that was handed out, and the reference that it began at."""
        self._again = 0
        self._wants_truth = False

    def start(self) -> None:
        """Plan anew with the next truth."""
        self._corners, self._plan, self._sent, self._wants_truth = None, None, None, True

    def observe_corners(self, corners: Array) -> None:
        """The towel's corners (4, 3) in base [m]; looked at only between `start()` and the plan."""
        if self._wants_truth:
            self._corners, self._wants_truth = corners.copy(), False

    @property
    def done(self) -> bool:
        """The whole plan was handed out."""
        return self._plan is not None and not self._plan

    def read(self, state: RobotState) -> TeleopCommand:
        """The next step of the plan; `enabled` is False before there is one and after its end."""
        reference = state.reference
        if self._plan is None and self._corners is not None:
            plan = plan_fold(reference, self._corners, self.config)
            self._plan = deque(self._drift(plan) if self._drift else plan)
        if not self._plan:
            return TeleopCommand(self._clock.realtime_ns(), False, np.zeros(3), np.zeros(3), reference.width)
        lost = self._sent is not None and not _is_under_way(*self._sent, reference)
        if lost and self._again < _AGAIN:
            self._again, wanted = self._again + 1, self._sent[0]
        else:
            self._again, wanted = 0, self._plan.popleft()
        self._sent = (wanted, reference)
        translation, rotvec = reference.T_base_tcp.delta_to(wanted.T_base_tcp)
        return TeleopCommand(
            stamp_ns=self._clock.realtime_ns(),
            enabled=True,
            translation=_shortened(translation, self.config.max_step),
            rotvec=_shortened(rotvec, self.config.max_turn),
            width=wanted.width,
        )

    def close(self) -> None:
        """Nothing to release."""


def _is_under_way(step: SetPoint, before: SetPoint, reference: SetPoint) -> bool:
    """At least half of the way from `before` to `step` is commanded by now, and the fingers' width is."""
    way, left = before.T_base_tcp.distance_to(step.T_base_tcp), reference.T_base_tcp.distance_to(step.T_base_tcp)
    near = all(b <= 0.5 * a + small for a, b, small in zip(way, left, _STILL, strict=True))
    return near and reference.width == step.width


def _shortened(vector: Array, longest: float) -> Array:
    norm = float(np.linalg.norm(vector))
    return vector * (longest / norm) if norm > longest else vector


def connect_expert() -> ScriptedExpert:
    """The expert as a device of teleop_node."""
    return ScriptedExpert(SystemClock())
