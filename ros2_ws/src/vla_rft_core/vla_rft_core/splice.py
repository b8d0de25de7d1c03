"""Splicing: how a policy's new chunk follows the one that plays, so that the arm does not jerk where they meet.

hard: as it is; late targets are dropped by the executor. blend: the first targets that are not late go over linearly
from the old chunk to the new one. ensemble: every target is the weighted mean of all chunks that have one for its time,
old ones weighing more (temporal ensembling, ACT, arXiv 2304.13705). rtc: as hard, but the policy was shown what is
committed and made its chunk follow it (real-time chunking, arXiv 2506.07339).

Knows neither policies nor clocks; due times are the chunks' own, which may lie on different grids.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from vla_rft_core.action import action_between
from vla_rft_core.geometry import Array
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ActionChunk, SetPoint


class SpliceMode(StrEnum):
    """How chunks are joined."""

    HARD = "hard"
    BLEND = "blend"
    ENSEMBLE = "ensemble"
    RTC = "rtc"


@dataclass(frozen=True, kw_only=True)
class SpliceConfig:
    """How chunks are joined."""

    mode: SpliceMode = SpliceMode.RTC
    blend_steps: int = 4
    """blend: targets that go over from the old chunk to the new one."""
    decay: float = 0.1
    """ensemble: the weight of the k-th oldest chunk is exp(-decay k)."""
    kept: int = 8
    """ensemble: chunks that are remembered."""

    def __post_init__(self) -> None:
        if self.blend_steps < 0 or not self.decay >= 0.0 or self.kept < 1:
            raise ValueError(
                f"blend_steps and decay must not be negative and kept at least 1, got {self.blend_steps}, "
                f"{self.decay}, {self.kept}"
            )


@dataclass
class Splicer:
    """Remembers what was sent. One per policy; not thread-safe."""

    config: SpliceConfig = field(default_factory=SpliceConfig)
    _sent: ActionChunk | None = field(default=None, init=False)
    _made: deque[ActionChunk] = field(default_factory=deque, init=False)

    def restart(self) -> None:
        """Nothing plays."""
        self._sent = None
        self._made.clear()

    def splice(self, chunk: ActionChunk, *, now_ns: int) -> ActionChunk:
        """The chunk to send in place of a policy's `chunk`, at that time (stamp)."""
        joined = chunk
        if self.config.mode is SpliceMode.BLEND and self._sent is not None:
            joined = _blended(self._sent, chunk, now_ns, self.config.blend_steps)
        elif self.config.mode is SpliceMode.ENSEMBLE:
            self._made.append(chunk)
            while len(self._made) > self.config.kept:
                self._made.popleft()
            joined = _ensemble(list(self._made), self.config.decay)
        self._sent = joined
        return joined

    def committed(self, stamp_ns: int, reference: SetPoint, *, latency_ns: int, spec: RobotSpec) -> Array:
        """Actions (d, action_dim) that will be executed after an observation before an answer to it can play.

        stamp_ns, reference: of the observation; latency_ns: from then until its chunk arrives. (0, action_dim) when
        nothing plays, or when the policy is not to be shown.
        """
        nothing: Array = np.zeros((0, spec.action_dim))
        if self.config.mode is not SpliceMode.RTC or self._sent is None:
            return nothing
        actions, before = [], reference
        for i in range(math.ceil(latency_ns / spec.control_period_ns)):
            after = target_at(self._sent, stamp_ns + (i + 1) * spec.control_period_ns)
            if after is None:
                break
            actions.append(action_between(before, after, spec))
            before = after
        return np.array(actions, np.float64).reshape(-1, spec.action_dim) if actions else nothing


def target_at(chunk: ActionChunk, due_ns: int) -> SetPoint | None:
    """What a chunk wants at a time, between its targets by interpolation; None outside of them."""
    place = (due_ns - chunk.due_ns(0)) / chunk.period_ns
    if not 0.0 <= place <= len(chunk) - 1:
        return None
    index = min(int(place), len(chunk) - 1)
    before, after = chunk.set_point(index), chunk.set_point(min(index + 1, len(chunk) - 1))
    return between(before, after, place - index)


def between(a: SetPoint, b: SetPoint, fraction: float) -> SetPoint:
    """a + fraction (b - a): positions and widths linearly, orientations on the great circle."""
    return SetPoint(a.T_base_tcp.interpolate(b.T_base_tcp, fraction), (1.0 - fraction) * a.width + fraction * b.width)


def _blended(sent: ActionChunk, chunk: ActionChunk, now_ns: int, steps: int) -> ActionChunk:
    points, gone = [], 0
    for i in range(len(chunk)):
        due_ns, new = chunk.due_ns(i), chunk.set_point(i)
        old = target_at(sent, due_ns)
        if due_ns > now_ns and old is not None and gone < steps:
            gone += 1
            new = between(old, new, gone / (steps + 1))
        points.append(new)
    return _with(chunk, points)


def _ensemble(chunks: list[ActionChunk], decay: float) -> ActionChunk:
    """Oldest first. Means of orientations are running ones, step by step on great circles."""
    newest, points = chunks[-1], []
    for i in range(len(newest)):
        mean, total = None, 0.0
        known = [t for t in (target_at(c, newest.due_ns(i)) for c in chunks) if t is not None]
        for k, target in enumerate(known):
            weight = math.exp(-decay * k)
            total += weight
            mean = target if mean is None else between(mean, target, weight / total)
        assert mean is not None  # the newest chunk has a target for its own time
        points.append(mean)
    return _with(newest, points)


def _with(chunk: ActionChunk, points: list[SetPoint]) -> ActionChunk:
    return replace(
        chunk,
        positions=np.array([p.T_base_tcp.position for p in points]).reshape(-1, 3),
        quaternions=np.array([p.T_base_tcp.quaternion for p in points]).reshape(-1, 4),
        widths=np.array([p.width for p in points]),
    )
