"""An episode on the grid of its control period: one row per observation that a policy would have seen.

Row k is `sync.assemble` at t_k = t_0 + k·Δ, and its action leads from the set-point in force at t_k to that at t_k + Δ.
Reads what a robot measures, was asked and did; no topic below /sim/. Knows nothing of files of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.action import action_between
from vla_rft_core.clock import seconds
from vla_rft_core.errors import StaleInputError
from vla_rft_core.spec import RobotSpec
from vla_rft_core.sync import FreshnessLimits, History, Streams, assemble
from vla_rft_core.types import Observation, SetPoint, Source
from vla_rft_episodes import channels
from vla_rft_episodes.entries import ServoEntry
from vla_rft_episodes.lerobot.layout import LerobotError, features_of
from vla_rft_episodes.reader import Episode

BEFORE_FIRST_TICK_NS = 50_000_000
"""A state tells the set-point of its own servo tick, which goes out after it was measured: so much earlier is safe."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row: what was seen at t_k, and what was done until t_k + Δ."""

    stamp_ns: int
    """t_k"""
    observation: Observation
    before: SetPoint
    """In force at t_k."""
    requested: SetPoint
    safe: SetPoint
    sent: SetPoint
    """In force at t_k + Δ."""
    source: str
    """Who moved the arm at t_k + Δ; empty while it was held."""
    intervention: bool
    """A teleoperator had taken over from a policy."""

    def without_images(self) -> Row:
        """The same, light enough to keep."""
        return replace(self, observation=replace(self.observation, images={}))


def rows(episode: Episode) -> Iterator[Row]:
    """All rows in order. LerobotError in one sentence for an episode of which no honest rows can be made."""
    name, spec = f"episode {episode.info.id}", episode.spec
    _require_monotonic(episode, name)
    entries = list(episode.servo_entries())
    first = next((e for e in entries if e.moving and e.source != Source.HOME), None)
    if first is None:
        raise LerobotError(f"{name}: has no row, as no source ever moved the arm")
    streams = episode.streams()
    newest = streams.robot.newest()
    taken_ns = min((e.stamp_ns for e in entries if e.moving and e.source == Source.POLICY), default=None)
    sent = SentHistory.of(entries, streams)
    period_ns, prompt, started = spec.control_period_ns, episode.info.prompt, False
    stamp_ns = first.stamp_ns - 1  # the set-point in force is still the one from before
    while newest is not None and stamp_ns + period_ns <= newest[0]:
        try:
            seen = assemble(stamp_ns, spec=spec, streams=streams, prompt=prompt, limits=FreshnessLimits())
        except StaleInputError as error:
            if started:
                raise LerobotError(f"{name}: {seconds(stamp_ns - first.stamp_ns):.1f} s into it, {error}") from None
        else:
            started = True
            yield _row(stamp_ns, seen, sent, period_ns=period_ns, policy_since_ns=taken_ns)
            _forget_images(streams, stamp_ns)
        stamp_ns += period_ns
    if not started:
        raise LerobotError(f"{name}: has no row, as no observation was complete while the arm was moved")


def columns(all_rows: Iterable[Row], spec: RobotSpec) -> dict[str, NDArray]:
    """The rows as the columns of `layout.features_of(spec)`, (n,) or (n, d) each."""
    values: dict[str, list] = {name: [] for name, feature in features_of(spec).items() if feature.in_table}
    for row in all_rows:
        seen = row.observation
        one = {
            "observation.state": seen.state,
            "action": action_between(row.before, row.sent, spec),
            "observation.commanded": set_point_row(seen.commanded),
            "action.requested": set_point_row(row.requested),
            "action.safe": set_point_row(row.safe),
            "action.sent": set_point_row(row.sent),
            "stamp_ns": row.stamp_ns,
            "observation.state.stamp_ns": seen.state_stamp_ns,
            "observation.state.age_ms": seen.ages_ns["state"] / 1e6,
            "intervention": row.intervention,
            "source": row.source,
        }
        for camera, stamp_ns in seen.image_stamps_ns.items():
            one[f"observation.{camera}.stamp_ns"] = stamp_ns
            one[f"observation.{camera}.age_ms"] = seen.ages_ns[f"image.{camera}"] / 1e6
        for name, value in one.items():
            values[name].append(value)
    features = features_of(spec)
    kinds = {name: object if features[name].dtype == "string" else features[name].dtype for name in values}
    return {name: np.array(of, dtype=kinds[name]) for name, of in values.items()}


def set_point_row(set_point: SetPoint) -> NDArray[np.float64]:
    """(8,): x y z qx qy qz qw width."""
    pose = set_point.T_base_tcp
    return np.array([*pose.position, *pose.quaternion, set_point.width])


@dataclass(frozen=True)
class SentHistory:
    """What was in force when: servo reports, and before the first of them the set-point that the states tell."""

    entries: History[ServoEntry]
    before: SetPoint | None

    @classmethod
    def of(cls, entries: list[ServoEntry], streams: Streams) -> SentHistory:
        """Of one episode."""
        earlier = streams.commanded.at_or_before(entries[0].stamp_ns - BEFORE_FIRST_TICK_NS)
        return cls(History.of((e.stamp_ns, e) for e in entries), earlier[1] if earlier else None)

    def at(self, stamp_ns: int) -> ServoEntry | None:
        """The newest report at or before a time."""
        found = self.entries.at_or_before(stamp_ns)
        return found[1] if found else None

    def set_point(self, stamp_ns: int, otherwise: SetPoint) -> SetPoint:
        """The set-point in force at a time."""
        entry = self.at(stamp_ns)
        return entry.sent if entry else self.before or otherwise


def _row(stamp_ns: int, seen: Observation, sent: SentHistory, *, period_ns: int, policy_since_ns: int | None) -> Row:
    after = sent.at(stamp_ns + period_ns)
    assert after is not None  # the grid begins right before a report
    source = after.source if after.moving else ""
    taken_over = policy_since_ns is not None and policy_since_ns < after.stamp_ns
    return Row(
        stamp_ns=stamp_ns,
        observation=seen,
        before=sent.set_point(stamp_ns, seen.commanded),
        requested=after.requested,
        safe=after.safe,
        sent=after.sent,
        source=source,
        intervention=source == Source.TELEOP and taken_over,
    )


def _require_monotonic(episode: Episode, name: str) -> None:
    """Source stamps of a stream never go back; `History` would sort them in and hide it."""
    topics = [channels.ROBOT_STATE.topic, channels.SERVO_REPORT.topic]
    topics += [channels.color(camera.name).topic for camera in episode.spec.cameras]
    newest: dict[str, int] = {}
    for message in episode.messages(topics):
        topic = message.channel.topic
        back_ns = newest.get(topic, message.stamp_ns) - message.stamp_ns
        if back_ns > 0:
            raise LerobotError(
                f"{name}: stamps of {topic} are not monotonic, one goes back by {seconds(back_ns):.3f} s"
            )
        newest[topic] = message.stamp_ns


def _forget_images(streams: Streams, stamp_ns: int) -> None:
    """An episode's decoded images would fill the memory; a frame is seldom needed twice."""
    for history in streams.frames.values():
        found = history.at_or_before(stamp_ns)
        if found is not None:
            found[1].forget()  # type: ignore[attr-defined]  # a RecordedFrame
