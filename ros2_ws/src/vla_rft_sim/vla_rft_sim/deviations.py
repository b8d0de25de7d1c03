"""How a demonstration goes wrong: the next few targets of one, changed in one way. Pure functions, no simulator.

Targets are (H, 3) positions, (H, 4) quaternions and (H,) widths, one per control period; a kind of deviation is only
drawn where it makes a difference, such as around the grasp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vla_rft_core.geometry import Array
from vla_rft_core.types import SetPoint
from vla_rft_episodes.branches import EXPERT

CLOSED_M = 0.03
"""A target below this width closes the fingers."""
OPEN_M = 0.08
"""How far fingers open that open at the wrong time."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What the demonstration asked for from the branch's tick on, and what a deviation made of it."""

    positions: Array
    """(H, 3) in base [m]."""
    quaternions: Array
    """(H, 4) xyzw."""
    widths: Array
    """(H,) [m]."""
    in_force: SetPoint
    """What was sent last before the branch begins."""
    drop_at: int = -1
    """The towel is lost at the start of this period of the branch; never when negative."""
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Phases:
    """When a demonstration grasps and lets go: index of the first target with closed, and again with open fingers."""

    close: int
    open: int
    count: int
    """Targets in the whole demonstration."""

    @classmethod
    def of(cls, widths: Array) -> Phases:
        """From all widths (N,) of a demonstration; ValueError when it never closes or never opens again."""
        closed = np.flatnonzero(widths < CLOSED_M)
        if not len(closed) or closed[-1] + 1 == len(widths):
            raise ValueError(f"the fingers do not close and open again within {len(widths)} targets")
        return cls(int(closed[0]), int(closed[-1]) + 1, len(widths))


Window = Callable[[Phases, int], tuple[int, int]]
"""Of phases and horizon: the first and last tick at which the kind may begin."""
Change = Callable[[Targets, Phases, int, np.random.Generator], Targets]
"""Of the targets, the phases, the branch's tick and a generator."""


@dataclass(frozen=True)
class Kind:
    """A way to go wrong, and its share of all branches."""

    name: str
    share: float
    window: Window
    change: Change


def _anywhere(phases: Phases, horizon: int) -> tuple[int, int]:
    return 0, phases.count - horizon // 2


def _well_before_grasp(phases: Phases, horizon: int) -> tuple[int, int]:
    """Early enough for a change of timing; much of the branch passes before it shows."""
    return phases.close - (3 * horizon) // 4, phases.close - 4


def _before_grasp(phases: Phases, horizon: int) -> tuple[int, int]:
    return phases.close - horizon // 2, phases.close - 1


def _at_grasp(phases: Phases, horizon: int) -> tuple[int, int]:
    """Late enough for the lifting to be seen: with and without a towel."""
    return phases.close - horizon // 4, phases.close - 1


def _while_held(phases: Phases, horizon: int) -> tuple[int, int]:
    return phases.close + 5, phases.open - 3


def _well_before_release(phases: Phases, horizon: int) -> tuple[int, int]:
    return phases.close + 4, phases.open - 10


def _before_release(phases: Phases, horizon: int) -> tuple[int, int]:
    return phases.open - (3 * horizon) // 4, phases.open - 1


def _as_demonstrated(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    return targets


def _never_close(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    widths = targets.widths.copy()
    widths[phases.close - tick :] = widths[0]
    return replace(targets, widths=widths)


def _shift(targets: Targets, event: int, periods: int) -> Targets:
    """The width's change at index `event` > 0 comes so many periods later, or earlier when negative."""
    widths = targets.widths.copy()
    if periods > 0:
        widths[event : event + periods] = widths[event - 1]
    else:
        widths[max(0, event + periods) : event] = widths[event]
    return replace(targets, widths=widths, parameters={"periods": float(periods)})


def _close_early(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    return _shift(targets, phases.close - tick, -int(random.integers(3, 11)))


def _close_late(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    return _shift(targets, phases.close - tick, int(random.integers(2, 9)))


def _open_early(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    event = min(phases.open - tick, len(targets.widths))
    at = int(random.integers(0, max(1, event)))
    widths = targets.widths.copy()
    widths[at:] = OPEN_M
    return replace(targets, widths=widths, parameters={"after_periods": float(at)})


def _open_late(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    return _shift(targets, phases.open - tick, int(random.integers(3, 11)))


def _ramp(targets: Targets, offset: Array, random: np.random.Generator) -> Targets:
    """Depart smoothly by `offset` (3,) within 4 to 7 periods, and stay off."""
    periods = int(random.integers(4, 8))
    fraction = np.clip(np.arange(1, len(targets.widths) + 1) / periods, 0.0, 1.0)
    smooth = 0.5 - 0.5 * np.cos(math.pi * fraction)
    named = {f"offset_{axis}_m": float(part) for axis, part in zip("xyz", offset, strict=True)}
    positions = targets.positions + smooth[:, None] * offset
    return replace(targets, positions=positions, parameters={**named, "periods": float(periods)})


def _aside(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    distance, angle = random.uniform(0.008, 0.045), random.uniform(0.0, 2.0 * math.pi)
    return _ramp(targets, np.array([distance * math.cos(angle), distance * math.sin(angle), 0.0]), random)


def _higher(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    return _ramp(targets, np.array([0.0, 0.0, random.uniform(0.006, 0.045)]), random)


def _dropped(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    at = int(random.integers(0, max(1, len(targets.widths) // 2)))
    return replace(targets, drop_at=at, parameters={"after_periods": float(at)})


def _dead(targets: Targets, phases: Phases, tick: int, random: np.random.Generator) -> Targets:
    pose, count = targets.in_force.T_base_tcp, len(targets.widths)
    return replace(
        targets,
        positions=np.tile(pose.position, (count, 1)),
        quaternions=np.tile(pose.quaternion, (count, 1)),
        widths=np.full(count, targets.in_force.width),
    )


KINDS = (
    Kind(EXPERT, 0.16, _anywhere, _as_demonstrated),
    Kind("never close", 0.14, _at_grasp, _never_close),
    Kind("close early", 0.08, _well_before_grasp, _close_early),
    Kind("close late", 0.08, _before_grasp, _close_late),
    Kind("open early", 0.12, _while_held, _open_early),
    Kind("open late", 0.08, _before_release, _open_late),
    Kind("aside", 0.08, _anywhere, _aside),
    Kind("aside at grasp", 0.07, _before_grasp, _aside),
    Kind("higher at grasp", 0.06, _before_grasp, _higher),
    Kind("drop", 0.08, _well_before_release, _dropped),
    Kind("dead", 0.05, _anywhere, _dead),
)


def draw(phases: Phases, horizon: int, random: np.random.Generator) -> tuple[Kind, int]:
    """A kind by its share, and a tick within its window."""
    kind = KINDS[int(random.choice(len(KINDS), p=[kind.share for kind in KINDS]))]
    first, last = kind.window(phases, horizon)
    first, last = max(0, first), min(last, phases.count - 1)
    return kind, int(random.integers(first, max(first, last) + 1))
