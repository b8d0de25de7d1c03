"""ChunkExecutor: plays absolute targets by their due times, sampled at the servo rate.

Chunks are spliced onto what plays: late targets are dropped, known ones keep playing up to the first new one, and when
the last target is past by more than the grace time there is nothing to play and the caller must hold. Positions are
interpolated linearly or by a cubic, orientations by slerp, the gripper's width steps to its target at the start of a
segment. Knows nothing of limits (`safety`) or of who may move the arm (`modes`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_rft_core.clock import nanoseconds
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import ActionChunk, SetPoint, Source


@dataclass(frozen=True, kw_only=True)
class ExecutorConfig:
    """How chunks are played."""

    interpolation: str = "linear"
    """Of positions between targets: "linear" or "cubic" (velocity-continuous through the targets)."""
    grace_s: float = 0.2
    """How long the last target is kept when nothing follows, before the arm must hold [s]."""

    def __post_init__(self) -> None:
        if self.interpolation not in ("linear", "cubic"):
            raise ValueError(f"interpolation: must be 'linear' or 'cubic', got {self.interpolation!r}")
        if not 0.0 <= self.grace_s <= 1.0:
            raise ValueError(f"grace_s: must be between 0 and 1 s, got {self.grace_s}")


@dataclass(frozen=True, eq=False)
class Knot:
    """A set-point due at a time, and the chunk it came from (None for the point where playing started)."""

    due_ns: int
    set_point: SetPoint
    chunk: ActionChunk | None
    velocity: Array
    """(3,) of the position there [m/s]; used by the cubic."""


@dataclass(frozen=True, eq=False)
class Played:
    """One sample of what plays."""

    set_point: SetPoint
    sequence: int
    source: Source
    policy_id: str


@dataclass
class ChunkExecutor:
    """Plays chunks. Not thread-safe: its owner (`ServoLoop`) serialises access."""

    config: ExecutorConfig = field(default_factory=ExecutorConfig)
    _knots: list[Knot] = field(default_factory=list, init=False)

    def splice(self, chunk: ActionChunk, *, now_ns: int, reference: SetPoint) -> int:
        """Let `chunk` follow what plays; `reference` is the set-point in force, where playing starts if nothing plays.

        Returns how many of its targets were late and dropped. ValueError when all of them are.
        """
        first = next((i for i in range(len(chunk)) if chunk.due_ns(i) > now_ns), None)
        if first is None:
            late_ms = (now_ns - chunk.due_ns(len(chunk) - 1)) / 1e6
            raise ValueError(
                f"all {len(chunk)} targets of chunk {chunk.sequence} are late, the last by {late_ms:.0f} ms"
            )
        playing = self.sample(now_ns)
        start = playing.set_point if playing else reference
        velocity = self._velocity(now_ns) if playing else np.zeros(3)
        kept = [k for k in self._knots if now_ns < k.due_ns < chunk.due_ns(first)] if playing else []
        fresh = [Knot(chunk.due_ns(i), chunk.set_point(i), chunk, np.zeros(3)) for i in range(first, len(chunk))]
        self._knots = _with_velocities([Knot(now_ns, start, None, velocity), *kept, *fresh])
        return first

    def sample(self, now_ns: int) -> Played | None:
        """What to send now, or None when there is nothing to play (never started, cleared, or expired)."""
        knots = self._knots
        if not knots or now_ns > knots[-1].due_ns + nanoseconds(self.config.grace_s):
            return None
        while len(knots) > 2 and knots[1].due_ns <= now_ns:
            del knots[0]
        before, after = knots[0], knots[min(1, len(knots) - 1)]
        chunk = after.chunk
        if chunk is None:
            return None
        fraction = (now_ns - before.due_ns) / max(1, after.due_ns - before.due_ns)
        set_point = SetPoint(self._interpolate(before, after, min(1.0, max(0.0, fraction))), after.set_point.width)
        return Played(set_point, chunk.sequence, chunk.source, chunk.policy_id)

    def clear(self) -> None:
        """Forget everything: nothing plays until a fresh chunk arrives."""
        self._knots = []

    def _interpolate(self, before: Knot, after: Knot, fraction: float) -> Pose:
        pose = before.set_point.T_base_tcp.interpolate(after.set_point.T_base_tcp, fraction)
        if self.config.interpolation == "linear" or fraction in (0.0, 1.0):
            return pose
        duration_s = (after.due_ns - before.due_ns) / 1e9
        s, r = fraction, 1.0 - fraction
        position = (
            (1.0 + 2.0 * s) * r * r * before.set_point.T_base_tcp.position
            + s * r * r * duration_s * before.velocity
            + s * s * (3.0 - 2.0 * s) * after.set_point.T_base_tcp.position
            - s * s * r * duration_s * after.velocity
        )
        return Pose(position, pose.quaternion)

    def _velocity(self, now_ns: int) -> Array:
        step_ns = 1_000_000
        here, there = self.sample(now_ns), self.sample(now_ns + step_ns)
        if here is None or there is None:
            return np.zeros(3)
        return (there.set_point.T_base_tcp.position - here.set_point.T_base_tcp.position) * (1e9 / step_ns)


def _with_velocities(knots: list[Knot]) -> list[Knot]:
    """Central differences at inner knots, rest at the last one (Catmull-Rom for uneven times)."""
    out = [knots[0]]
    for i in range(1, len(knots) - 1):
        before, knot, after = knots[i - 1 : i + 2]
        span_s = (after.due_ns - before.due_ns) / 1e9
        velocity = (after.set_point.T_base_tcp.position - before.set_point.T_base_tcp.position) / span_s
        out.append(Knot(knot.due_ns, knot.set_point, knot.chunk, velocity))
    return [*out, knots[-1]]
