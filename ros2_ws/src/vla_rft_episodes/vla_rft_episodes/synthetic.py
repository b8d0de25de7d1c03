"""Attempts that nobody recorded: a smooth made-up fold with noise for pictures, for benchmarks and tests.

Needs no robot, simulator or ROS; nothing in the pictures has to do with the motion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_rft_core import config
from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_episodes import channels, codec
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.entries import ServoEntry
from vla_rft_episodes.info import EpisodeInfo, new_episode_id
from vla_rft_episodes.verdict import judge
from vla_rft_episodes.writer import EpisodeWriter

STARTED_NS = 1_795_000_000 * NS_PER_S
STATE_HZ = 100.0
_LAG_STEPS = 5
"""The measured pose follows the sent one by so many states."""
_TOOL_DOWN = (0.0, 1.0, 0.0, 0.0)
_WAY = np.array(
    [  # time (0 to 1), x, y, z, width
        [0.00, 0.40, 0.00, 0.28, 0.08],
        [0.25, 0.50, 0.12, 0.06, 0.08],
        [0.35, 0.50, 0.12, 0.01, 0.08],
        [0.42, 0.50, 0.12, 0.01, 0.00],
        [0.60, 0.50, 0.00, 0.12, 0.00],
        [0.80, 0.50, -0.12, 0.02, 0.00],
        [0.85, 0.50, -0.12, 0.02, 0.08],
        [1.00, 0.45, -0.10, 0.20, 0.08],
    ]
)


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What the attempt is like."""

    duration_s: float = 6.0
    color_hz: float = 10.0
    depth_hz: float = 0.0
    """0 = no depth."""
    size: tuple[int, int] = (64, 48)
    """Width and height of the pictures."""
    pictures: int = 8
    """Different ones, used in turn."""
    seed: int = 0
    grasp_offset: tuple[float, float] = (0.0, 0.0)
    """Shifts the whole path in x and y [m]."""


@dataclass(frozen=True)
class SyntheticMessage:
    """One message as it would arrive."""

    channel: Channel
    data: bytes
    stamp_ns: int
    received_ns: int


def synthetic_info(
    cell: CellFolder, settings: SyntheticConfig | None = None, *, started_ns: int = STARTED_NS
) -> EpisodeInfo:
    """What is known at the start of such an attempt."""
    settings = settings or SyntheticConfig()
    camera = cell.spec.cameras[0].name
    expected_hz = {channels.ROBOT_STATE.topic: STATE_HZ, channels.color(camera).topic: settings.color_hz}
    if settings.depth_hz:
        expected_hz[channels.depth(camera).topic] = settings.depth_hz
    return EpisodeInfo(
        id=new_episode_id(started_ns),
        task="fold_towel",
        prompt="fold the towel in half",
        operator="nobody",
        source="teleop",
        spec_name=cell.spec.name,
        spec=config.to_mapping(cell.spec),
        calibration_id=cell.calibration.id,
        safety_profile=cell.safety.name,
        simulated=True,
        started_ns=started_ns,
        expected_hz=expected_hz,
    )


def synthetic_messages(
    cell: CellFolder, settings: SyntheticConfig | None = None, *, started_ns: int = STARTED_NS
) -> Iterator[SyntheticMessage]:
    """States, servo ticks and pictures in the order of their stamps."""
    settings = settings or SyntheticConfig()
    camera = cell.spec.cameras[0].name
    step_ns = round(NS_PER_S / STATE_HZ)
    path = _path(settings)
    streams = [
        (hz, channel)
        for hz, channel in (
            (settings.color_hz, channels.color(camera)),
            (settings.depth_hz, channels.depth(camera)),
        )
        if hz
    ]
    pools = {channel: _compressed(channel, camera, settings) for _, channel in streams}
    due = {channel: 0 for _, channel in streams}
    for index, row in enumerate(path):
        stamp_ns = started_ns + index * step_ns
        sent = _set_point(row)
        state = _state(path[max(0, index - _LAG_STEPS)], sent, stamp_ns)
        yield SyntheticMessage(channels.ROBOT_STATE, codec.encode_robot_state(state), stamp_ns, stamp_ns)
        entry = ServoEntry(
            stamp_ns=stamp_ns, source="teleop", sequence=index, requested=sent, safe=sent, sent=sent, moving=True
        )
        yield SyntheticMessage(channels.SERVO_REPORT, codec.encode_servo_report(entry), stamp_ns, stamp_ns)
        for hz, channel in streams:
            if due[channel] * NS_PER_S / hz <= index * step_ns:
                picture = pools[channel][due[channel] % settings.pictures]
                yield SyntheticMessage(channel, _stamped(picture, stamp_ns), stamp_ns, stamp_ns)
                due[channel] += 1


def write_synthetic(
    collection: Path,
    cell: CellFolder,
    settings: SyntheticConfig | None = None,
    *,
    started_ns: int = STARTED_NS,
    messages: Iterable[SyntheticMessage] | None = None,
) -> Path:
    """A finished and judged episode in a collection: its folder. `messages` replaces those of the settings."""
    from vla_rft_episodes.reader import Episode

    info = synthetic_info(cell, settings, started_ns=started_ns)
    writer = EpisodeWriter.create(collection, info, cell=cell)
    ended_ns = started_ns
    for message in messages if messages is not None else synthetic_messages(cell, settings, started_ns=started_ns):
        writer.write(message.channel, message.data, stamp_ns=message.stamp_ns, received_ns=message.received_ns)
        ended_ns = max(ended_ns, message.received_ns)
    return writer.finish(
        ended_ns=ended_ns, termination_reason="operator stop", verdict=lambda path: judge(Episode.open(path))
    )


def _path(settings: SyntheticConfig) -> Array:
    """(N, 4) x, y, z, width, one row per state; every segment begins and ends at rest."""
    times = np.arange(round(settings.duration_s * STATE_HZ)) / (settings.duration_s * STATE_HZ)
    segment = np.clip(np.searchsorted(_WAY[:, 0], times, side="right") - 1, 0, len(_WAY) - 2)
    begin, end = _WAY[segment], _WAY[segment + 1]
    fraction = ((times - begin[:, 0]) / (end[:, 0] - begin[:, 0]))[:, None]
    smooth = fraction**2 * (3.0 - 2.0 * fraction)
    path = begin[:, 1:] + smooth * (end[:, 1:] - begin[:, 1:])
    path[:, :2] += settings.grasp_offset
    return path


def _set_point(row: Array) -> SetPoint:
    return SetPoint(Pose(row[:3], np.array(_TOOL_DOWN)), float(row[3]))


def _state(row: Array, sent: SetPoint, stamp_ns: int) -> RobotState:
    measured = _set_point(row)
    arm = ArmState(stamp_ns, np.zeros(7), np.zeros(7), np.zeros(7), measured.T_base_tcp, np.zeros(6), np.zeros(6))
    gripper = GripperState(stamp_ns, measured.width, 0.0, False)
    return RobotState(arm=arm, gripper=gripper, commanded=sent)


def _compressed(channel: Channel, camera: str, settings: SyntheticConfig) -> list[bytes]:
    """The different pictures as messages; compressing each again for its own stamp would take most of the time."""
    compress = codec.compress_color if channel == channels.color(camera) else codec.compress_depth
    return [compress(image, camera=camera, stamp_ns=0) for image in _pictures(channel, settings)]


def _stamped(data: bytes, stamp_ns: int) -> bytes:
    """A CDR message whose first field is a header, with another stamp."""
    return data[:4] + struct.pack("<iI", *divmod(stamp_ns, NS_PER_S)) + data[12:]


def _pictures(channel: Channel, settings: SyntheticConfig) -> list[np.ndarray]:
    """A colour gradient or a slope of depth, with the noise of a sensor."""
    random = np.random.default_rng(settings.seed)
    width, height = settings.size
    slope = np.linspace(0.0, 1.0, width)[None, :] + np.linspace(0.0, 1.0, height)[:, None]
    if "depth" in channel.topic:
        millimetres = (500 + 300 * slope + random.normal(0, 2, slope.shape) for _ in range(settings.pictures))
        return [image.astype(np.uint16) for image in millimetres]
    base = slope[:, :, None] * np.array([90.0, 70.0, 50.0]) + 20.0
    noise = (random.normal(0, 3, base.shape) for _ in range(settings.pictures))
    return [np.clip(base + part, 0, 255).astype(np.uint8) for part in noise]
