"""What a verdict is founded on, from one pass over an episode's messages.

Pictures are compared as the bytes they were compressed to and never decoded; ground truth is skipped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import seconds
from vla_rft_core.geometry import quaternion_to_matrix, rotation_angle
from vla_rft_episodes import channels, figures, messages
from vla_rft_episodes.figures import Motion, StillSpeeds

if TYPE_CHECKING:
    from vla_rft_episodes.reader import Episode
    from vla_rft_episodes.verdict import VerdictLimits

_STAMP_END = 12
"""A CDR message with a header begins with 4 bytes of encapsulation and 8 of stamp; the picture is in what follows."""
_ALTERED_M = 0.001
_ALTERED_RAD = 0.01
"""A sent set-point further than these from the requested one was altered on its way."""


@dataclass(frozen=True)
class StreamFigures:
    """One topic that should come at a constant rate."""

    topic: str
    count: int
    expected: int
    """Messages in the attempt's duration at the nominal rate."""
    dropped: int
    """Messages that the recorder itself says it could not write."""
    missing: int
    """Messages that would fill the gaps between the others."""
    gap_s: float
    """Longest silence [s]."""
    backward: int
    """Messages stamped earlier than the one before."""
    repeated: int
    """Messages stamped like the one before."""

    @property
    def repeated_share(self) -> float:
        """0 to 1, of what came."""
        return self.repeated / self.count if self.count else 0.0

    @property
    def missing_share(self) -> float:
        """0 to 1, of what was expected."""
        return max(0.0, 1.0 - self.count / self.expected) if self.expected else 0.0

    @property
    def dropped_share(self) -> float:
        """0 to 1, of what reached the recorder."""
        return self.dropped / (self.count + self.dropped) if self.dropped else 0.0


@dataclass(frozen=True)
class PictureFigures:
    """One stream of pictures."""

    topic: str
    frozen_s: float
    """Longest time the very same picture was delivered [s]."""
    state_skew_s: float | None
    """90th percentile of the distance to the nearest robot state [s]; what is missing now and then is no skew."""
    depth_skew_s: float | None
    """The same of depth to the nearest colour picture [s]; None for colour."""


@dataclass(frozen=True)
class Measurement:
    """Figures of one attempt."""

    streams: tuple[StreamFigures, ...]
    pictures: tuple[PictureFigures, ...]
    holds: tuple[str, ...]
    """Why holds were latched meanwhile."""
    ending: str
    """Termination reason."""
    figures: Mapping[str, float]
    """All of it as finite numbers by name, for the manifest."""


class Message(Protocol):
    """What is read of `reader.Recorded`."""

    channel: channels.Channel
    stamp_ns: int
    received_ns: int
    data: bytes


@dataclass
class _Collected:
    """Messages by topic, as far as they are needed."""

    stamps: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    repeats: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    last: dict[str, bytes] = field(default_factory=dict)
    states: list[tuple[float, ...]] = field(default_factory=list)
    holds: dict[str, None] = field(default_factory=dict)
    ticks: int = 0
    altered: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def take(self, message: Message) -> None:
        """Add one message."""
        channel = message.channel
        if channel.is_truth:
            return
        self.first_ns = min(self.first_ns or message.received_ns, message.received_ns)
        self.last_ns = max(self.last_ns, message.received_ns)
        self.stamps[channel.topic].append(message.stamp_ns)
        if channels.is_image(channel):
            before = self.last.get(channel.topic, b"")
            # Most pictures differ in length, so that nothing is copied to compare them.
            same = len(before) == len(message.data) and before[_STAMP_END:] == message.data[_STAMP_END:]
            self.repeats[channel.topic].append(same)
            self.last[channel.topic] = message.data
        elif channel == channels.ROBOT_STATE:
            self.states.append(_state_row(messages.deserialize(channel.type, message.data)))
        elif channel == channels.SERVO_REPORT:
            self._take_report(messages.deserialize(channel.type, message.data))
        elif channel == channels.SAFETY_STATUS:
            status = messages.deserialize(channel.type, message.data)
            if status.latched:
                self.holds[status.reason] = None

    def _take_report(self, report: Any) -> None:
        if not report.moving:
            return
        self.ticks += 1
        asked, sent = report.requested, report.sent
        offset = math.dist(_xyz(asked), _xyz(sent))
        turned = rotation_angle(_xyzw(asked), _xyzw(sent))
        self.altered += offset > _ALTERED_M or turned > _ALTERED_RAD

    def motion(self) -> Motion:
        """The robot states as arrays, in order of their stamps."""
        stamps = np.array(self.stamps[channels.ROBOT_STATE.topic], dtype=np.int64)
        rows = np.array(self.states, dtype=np.float64).reshape(-1, 16)
        order = np.argsort(stamps, kind="stable")
        rows = rows[order]
        return Motion(stamps[order], rows[:, :7], rows[:, 7], rows[:, 8:15], rows[:, 15])


def read_motion(episode: Episode) -> Motion:
    """Sent and measured poses of an episode."""
    collected = _Collected()
    for message in episode.messages([channels.ROBOT_STATE.topic]):
        collected.take(message)
    return collected.motion()


def measure(episode: Episode, limits: VerdictLimits) -> Measurement:
    """Read the episode once and measure everything that the limits speak of."""
    collected = _Collected()
    for message in episode.messages():
        collected.take(message)
    info = episode.info
    duration_s = seconds(collected.last_ns - collected.first_ns)
    streams = tuple(
        _stream(topic, collected, hz=hz, duration_s=duration_s, dropped=info.dropped.get(topic, 0))
        for topic, hz in sorted(info.expected_hz.items())
    )
    pictures = tuple(_picture(topic, collected) for topic in sorted(collected.repeats))
    numbers = {"duration_s": duration_s}
    numbers |= _stream_numbers(streams, pictures)
    numbers |= motion_numbers(collected.motion(), limits, period_s=episode.spec.control_period_s)
    if collected.ticks:
        numbers["altered_share"] = collected.altered / collected.ticks
    return Measurement(streams, pictures, tuple(collected.holds), info.termination_reason, numbers)


def _stream(topic: str, collected: _Collected, *, hz: float, duration_s: float, dropped: int) -> StreamFigures:
    stamps = np.array(collected.stamps.get(topic, ()), dtype=np.int64)
    found = figures.gaps(stamps, hz)
    return StreamFigures(
        topic=topic,
        count=len(stamps),
        expected=math.floor(hz * duration_s),
        dropped=dropped,
        missing=found.missing,
        gap_s=found.longest_s,
        backward=figures.backward_steps(stamps),
        repeated=figures.repeated_stamps(stamps),
    )


def _picture(topic: str, collected: _Collected) -> PictureFigures:
    stamps = np.array(collected.stamps[topic], dtype=np.int64)
    camera = topic.split("/")[2]
    is_depth = topic == channels.depth(camera).topic
    colour = collected.stamps.get(channels.color(camera).topic, ()) if is_depth else ()
    return PictureFigures(
        topic=topic,
        frozen_s=figures.longest_repeat_s(stamps, np.array(collected.repeats[topic])),
        state_skew_s=_skew_s(stamps, collected.stamps.get(channels.ROBOT_STATE.topic, ())),
        depth_skew_s=_skew_s(stamps, colour),
    )


def _skew_s(stamps: NDArray[np.int64], reference: list[int] | tuple[int, ...]) -> float | None:
    if not len(reference):
        return None
    return float(np.percentile(figures.skews_s(stamps, np.array(reference, dtype=np.int64)), 90))


def _stream_numbers(streams: tuple[StreamFigures, ...], pictures: tuple[PictureFigures, ...]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for stream in streams:
        numbers[f"{stream.topic} messages"] = float(stream.count)
        numbers[f"{stream.topic} expected"] = float(stream.expected)
        numbers[f"{stream.topic} missing in gaps"] = float(stream.missing)
        numbers[f"{stream.topic} dropped"] = float(stream.dropped)
        numbers[f"{stream.topic} longest gap_s"] = stream.gap_s
    for picture in pictures:
        numbers[f"{picture.topic} frozen_s"] = picture.frozen_s
        if picture.state_skew_s is not None:
            numbers[f"{picture.topic} skew to state_s"] = picture.state_skew_s
        if picture.depth_skew_s is not None:
            numbers[f"{picture.topic} skew to colour_s"] = picture.depth_skew_s
    return numbers


def motion_numbers(motion: Motion, limits: VerdictLimits, *, period_s: float) -> dict[str, float]:
    """Idle share, jerk, tracking error, and where the towel was taken: tcp x, y [m] and yaw [rad] in base."""
    numbers = {"states": float(len(motion))}
    if not len(motion):
        return numbers
    still = StillSpeeds(limits.still_linear, limits.still_angular, limits.still_width)
    idle = figures.idle(motion, still, period_s=period_s)
    jerk = figures.jerk(motion, period_s=period_s)
    tracking = figures.tracking(motion, longest_lag_s=limits.longest_lag_s)
    numbers |= {
        "width_min_m": float(motion.widths.min()),
        "width_max_m": float(motion.widths.max()),
        "idle_share": idle.share,
        "idle_longest_s": idle.longest_s,
        "jerk_mean_m_s3": jerk.mean,
        "jerk_peak_m_s3": jerk.peak,
        "tracking_p95_m": tracking.p95_m,
        "tracking_lag_s": tracking.lag_s,
    }
    row = figures.first_closing(motion, closed_width=limits.closed_width)
    if row is not None:
        x, y = motion.measured[row, :2].tolist()
        numbers |= {"grasp_x_m": x, "grasp_y_m": y, "grasp_yaw_rad": finger_yaw(motion.measured[row, 3:])}
    return numbers


def finger_yaw(quaternion: NDArray[np.float64]) -> float:
    """Direction of the tool's x axis on the table [rad], in (-pi/2, pi/2]: fingers look the same turned by half."""
    x_axis = quaternion_to_matrix(quaternion)[:, 0]
    yaw = math.remainder(math.atan2(x_axis[1], x_axis[0]), math.pi)
    return math.pi / 2 if yaw <= -math.pi / 2 else yaw


def _state_row(state: Any) -> tuple[float, ...]:
    sent, measured = state.commanded_tcp_pose, state.tcp_pose
    width = state.commanded_gripper_width
    return (*_xyz(sent), *_xyzw(sent), width, *_xyz(measured), *_xyzw(measured), state.gripper_width)


def _xyz(pose: Any) -> tuple[float, float, float]:
    return pose.position.x, pose.position.y, pose.position.z


def _xyzw(pose: Any) -> tuple[float, float, float, float]:
    q = pose.orientation
    return q.x, q.y, q.z, q.w
