"""Episode: a finished attempt, read as core types.

`streams` is the very input that `sync.assemble` has live: live and recorded observations come from one function.
Ground truth has no method of its own: whoever wants a topic below /sim/ asks for it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from vla_rft_core import manifest
from vla_rft_core.errors import ManifestError
from vla_rft_core.spec import RobotSpec
from vla_rft_core.sync import History, Streams
from vla_rft_core.types import ActionChunk, CameraFrame, Depth, Image, RobotState
from vla_rft_episodes import channels, codec, layout
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.entries import ChunkAnswer, SafetyEvent, ServoEntry
from vla_rft_episodes.errors import EpisodeError, TruncatedError
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.mcap_file import McapFile, MessageRef, Recorded

__all__ = ["Episode", "Recorded", "RecordedFrame", "read_info"]

_DECODED = 4
"""Decoded images kept per kind."""


class RecordedFrame:
    """A `CameraFrame` of an episode whose images are read from the file and decoded when they are looked at."""

    def __init__(self, camera: str, images: _Images, color: MessageRef, depth: MessageRef | None) -> None:
        self.camera = camera
        self.stamp_ns = color.stamp_ns
        """Capture time."""
        self.received_ns = color.received_ns
        """When the recorder got the colour image."""
        self.number = 0
        """The device's counter does not travel with images."""
        self._images, self._color, self._depth = images, color, depth

    @property
    def has_depth(self) -> bool:
        """Depth of the same capture time was recorded."""
        return self._depth is not None

    @property
    def color(self) -> Image:
        """uint8 RGB [H, W, 3], read-only."""
        return self._images.color(self._color)

    @property
    def depth(self) -> Depth | None:
        """uint16 [H, W] in millimetres, aligned to colour, read-only; None where there is none."""
        return self._images.depth(self._depth) if self._depth is not None else None

    def forget(self) -> None:
        """Let go of decoded images; they are decoded again when they are looked at again."""
        for name in ("color", "depth"):
            vars(self).pop(name, None)

    def frame(self) -> CameraFrame:
        """The same, decoded now."""
        return CameraFrame(self.camera, self.stamp_ns, self.received_ns, self.number, self.color, self.depth)


class _Images:
    """Decodes images of one file; remembers the last few, as whoever looks at one mostly looks twice."""

    def __init__(self, file: McapFile) -> None:
        self.color: Callable[[MessageRef], Image] = lru_cache(maxsize=_DECODED)(
            lambda ref: _read_only(codec.decode_color(file.load(ref)))
        )
        self.depth: Callable[[MessageRef], Depth] = lru_cache(maxsize=_DECODED)(
            lambda ref: _read_only(codec.decode_depth(file.load(ref)))
        )


def _read_only(pixels: Any) -> Any:
    pixels.flags.writeable = False
    return pixels


class Episode:
    """One finished attempt. Example: `Episode.open(collection / "20261121T034512.123-4f2a").robot_states()`."""

    def __init__(self, file: McapFile, info: EpisodeInfo) -> None:
        self._file, self._images = file, _Images(file)
        self.info = info

    @classmethod
    def open(cls, path: Path) -> Episode:
        """From an episode's folder (info of the manifest, with its verdict) or from its MCAP file (info of the file).

        EpisodeError in one sentence for what is missing, unfinished, truncated, foreign or of another version. Hashes
        are not compared: that is `manifest.verify`'s and fsck's business.
        """
        if path.is_dir():
            info = read_info(path)
            file = McapFile(path / layout.MCAP_NAME)
            if file.start["id"] != info.id:
                raise EpisodeError(f"{path}: the manifest is of episode {info.id}, the file of {file.start['id']}")
            return cls(file, info)
        if not path.exists():
            raise EpisodeError(f"{path}: no such episode")
        file = McapFile(path)
        try:
            return cls(file, layout.from_metadata(file.start, file.end, str(path)))
        except (ValueError, KeyError) as error:
            raise EpisodeError(f"{path}: its record of the attempt is malformed ({error})") from None

    @property
    def path(self) -> Path:
        """The MCAP file."""
        return self._file.path

    @cached_property
    def spec(self) -> RobotSpec:
        """The robot as it was; EpisodeError when the recorded one is none."""
        try:
            return self.info.robot_spec
        except ValueError as error:
            raise EpisodeError(str(error)) from None

    @property
    def counts(self) -> Mapping[Channel, int]:
        """Messages of every channel in the file."""
        return self._file.counts

    def attachments(self) -> Mapping[str, bytes]:
        """The cell folder's files, by name."""
        return self._file.attachments()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """All messages of the topics (None = all) in the order in which they were received."""
        return self._file.messages(topics)

    def robot_states(self) -> Iterator[RobotState]:
        """Measured states with the set-point in force."""
        return (codec.decode_robot_state(m.data) for m in self._of(channels.ROBOT_STATE))

    def servo_entries(self) -> Iterator[ServoEntry]:
        """What was requested, safe and sent, tick by tick; silent while the arm stood."""
        return (codec.decode_servo_report(m.data) for m in self._of(channels.SERVO_REPORT))

    def chunks(self) -> Iterator[ActionChunk]:
        """What was asked for."""
        return (codec.decode_action_chunk(m.data) for m in self._of(channels.ACTION_CHUNK))

    def chunk_answers(self) -> Iterator[ChunkAnswer]:
        """What became of it."""
        return (codec.decode_chunk_verdict(m.data) for m in self._of(channels.CHUNK_VERDICT))

    def safety_events(self) -> Iterator[SafetyEvent]:
        """Mode, lease and holds."""
        return (codec.decode_safety_status(m.data) for m in self._of(channels.SAFETY_STATUS))

    def frames(self, camera: str) -> Iterator[RecordedFrame]:
        """Frames of a camera in the order in which they were received; depth is that of the same capture time."""
        self.spec.camera(camera)
        depths = {ref.stamp_ns: ref for ref in self._file.refs(channels.depth(camera).topic)}
        for ref in self._file.refs(channels.color(camera).topic):
            yield RecordedFrame(camera, self._images, ref, depths.get(ref.stamp_ns))

    def streams(self) -> Streams:
        """What `sync.assemble` reads: as a live client remembers it, but of the whole attempt."""
        states = list(self.robot_states())
        return Streams(
            frames={
                camera.name: History.of((frame.received_ns, frame) for frame in self.frames(camera.name))  # type: ignore[misc]
                for camera in self.spec.cameras
            },
            robot=History.of((state.arm.stamp_ns, (state.arm, state.gripper)) for state in states),
            commanded=History.of(
                (state.arm.stamp_ns, state.commanded) for state in states if state.commanded is not None
            ),
        )

    def _of(self, channel: Channel) -> Iterator[Recorded]:
        return self._file.messages([channel.topic])


def read_info(folder: Path) -> EpisodeInfo:
    """What the manifest of a finished attempt says; EpisodeError when it has none or another kind's."""
    if (folder / layout.MCAP_NAME).exists() and not (folder / manifest.FILE_NAME).exists():
        raise TruncatedError(f"{folder}: was never finished; repair recovers what is there")
    try:
        found = manifest.read_manifest(folder, kind=layout.KIND)
        return EpisodeInfo.from_plain(found.metadata, str(folder / manifest.FILE_NAME))
    except (ManifestError, ValueError) as error:
        raise EpisodeError(str(error)) from None
