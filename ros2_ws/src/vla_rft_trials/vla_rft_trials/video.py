"""A trial's video: H.264 in MP4 with the frames' true times, written by a thread of its own.

While it is written the file is fragmented MP4 and plays up to the last fragment even after SIGKILL; `close` rewrites it
with the index in front, so that a browser plays and seeks it from disk. Does not know what the frames show.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import VlaRftError

TIME_BASE = Fraction(1, 90_000)
"""MP4 time unit [s]: 11 microseconds, finer than any camera's stamp is true."""
KEYFRAME_INTERVAL = 10
"""Frames per group: what a kill loses at most, and what a seek decodes at most."""
QUEUE_FRAMES = 32
_X264 = {"preset": "superfast", "tune": "zerolatency", "crf": "23", "threads": "1"}
_MP4 = {"video_track_timescale": str(TIME_BASE.denominator)}
_FRAGMENTED = {**_MP4, "movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FASTSTART = {**_MP4, "movflags": "faststart"}


class VideoError(VlaRftError):
    """The video could not be written or read; one sentence with the file."""


@dataclass(frozen=True)
class VideoSummary:
    """What became of the frames given to a writer."""

    frames: int
    """Written to the file."""
    dropped: int
    """Not written because the encoder was behind and the queue full."""
    out_of_order: int
    """Not written because their stamp was not later than the one before."""
    seconds: float
    """From the first to the last written frame [s]."""


class VideoWriter:
    """Writes frames in the background; `write` never waits for the encoder.

    Example: `with VideoWriter(folder / "trial_000.mp4") as video: video.write(frame.color, frame.stamp_ns)`
    """

    def __init__(self, path: Path, *, queue_frames: int = QUEUE_FRAMES) -> None:
        """Claim `path`, which must not exist yet; frames may be any even size, set by the first one."""
        try:
            path.open("xb").close()
        except FileExistsError as error:
            raise VideoError(f"{path} exists and is not overwritten") from error
        except OSError as error:
            raise VideoError(f"cannot create {path}: {error.strerror}") from error
        self.path = path
        self._queue: queue.SimpleQueue[tuple[NDArray[np.uint8], int] | None] = queue.SimpleQueue()
        self._queue_frames = queue_frames
        self._first_ns: int | None = None
        self._last_ns = 0
        self._shape: tuple[int, ...] = ()
        self._accepted = self._dropped = self._out_of_order = 0
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"video {path.name}", daemon=True)
        self._thread.start()

    def write(self, image: NDArray[np.uint8], stamp_ns: int) -> bool:
        """Hand over one uint8 RGB frame [H, W, 3] captured at `stamp_ns`; False when it was not taken (counted).

        Raises VideoError once the encoder has failed. The image is copied, so the caller may reuse its buffer.
        """
        self._check()
        if self._first_ns is None:
            self._begin(image, stamp_ns)
        elif stamp_ns <= self._last_ns:
            self._out_of_order += 1
            return False
        if image.shape != self._shape:
            raise ValueError(f"frames of {self.path.name} are {self._shape}, got {image.shape}")
        if self._queue.qsize() >= self._queue_frames:
            self._dropped += 1
            return False
        self._queue.put((np.array(image), stamp_ns))
        self._last_ns = stamp_ns
        self._accepted += 1
        return True

    def _begin(self, image: NDArray[np.uint8], stamp_ns: int) -> None:
        height, width, *channels = image.shape
        if image.dtype != np.uint8 or channels != [3] or height % 2 or width % 2:
            raise ValueError(f"need uint8 [H, W, 3] with even H and W, got {image.dtype} {image.shape}")
        self._first_ns, self._shape = stamp_ns, image.shape

    def close(self) -> VideoSummary:
        """Encode what is queued and finish the file (removed again when it holds no frame); may be called twice."""
        self._queue.put(None)
        self._thread.join()
        self._check()
        seconds = (self._last_ns - (self._first_ns or 0)) / NS_PER_S if self._accepted else 0.0
        return VideoSummary(self._accepted, self._dropped, self._out_of_order, seconds)

    def _check(self) -> None:
        if self._failure:
            raise VideoError(f"cannot write {self.path}: {self._failure}") from self._failure

    def _run(self) -> None:
        """The thread: encode until None arrives; a failure is kept for the caller."""
        try:
            first = self._queue.get()
            if first is None:
                self.path.unlink()
                return
            self._encode(*first)
            move_index_to_front(self.path)
        except (OSError, av.FFmpegError) as error:
            self._failure = error

    def _encode(self, image: NDArray[np.uint8], first_ns: int) -> None:
        """Encode the first frame and all that follow."""
        with av.open(str(self.path), "w", format="mp4", options=_FRAGMENTED) as container:
            stream = container.add_stream("libx264", rate=30, options=_X264)
            stream.height, stream.width = image.shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = stream.time_base = TIME_BASE
            stream.codec_context.gop_size = KEYFRAME_INTERVAL
            item: tuple[NDArray[np.uint8], int] | None = (image, first_ns)
            while item is not None:
                frame = av.VideoFrame.from_ndarray(item[0], format="rgb24")
                frame.pts = round((item[1] - first_ns) * TIME_BASE.denominator / NS_PER_S)
                frame.time_base = TIME_BASE
                container.mux(stream.encode(frame))
                item = self._queue.get()
            container.mux(stream.encode(None))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def move_index_to_front(path: Path) -> None:
    """Rewrite an MP4 without encoding it again so that it starts with its index (`faststart`); atomic."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with (
            av.open(str(path)) as source,
            av.open(str(temporary), "w", format="mp4", options=_FASTSTART) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def frames_at(path: Path, fractions: list[float]) -> list[tuple[float, NDArray[np.uint8]]]:
    """(time [s], uint8 RGB [H, W, 3]) of the frames nearest to these fractions (0..1) of a video's time."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
            if not times:
                raise VideoError(f"{path} holds no frame")
            times.sort()
            wanted = [_nearest(times, times[0] + fraction * (times[-1] - times[0])) for fraction in fractions]
            frames = [_frame_at(container, stream, pts) for pts in wanted]
            return [
                (float((pts - times[0]) * stream.time_base), frame) for pts, frame in zip(wanted, frames, strict=True)
            ]
    except (OSError, IndexError, av.FFmpegError) as error:
        raise VideoError(f"cannot read {path}: {error}") from error


def trial_frames(folder: Path, video: str, fractions: list[float]) -> list[tuple[float, NDArray[np.uint8]]]:
    """`frames_at` of a trial's video in a study folder; VideoError, worded for a reader, when there is none."""
    if not video:
        raise VideoError("no video was made")
    if not (folder / video).is_file():
        raise VideoError(f"{video} is missing")
    try:
        return frames_at(folder / video, fractions)
    except VideoError as error:
        raise VideoError(f"{video} cannot be read") from error


def _nearest(times: list[int], wanted: float) -> int:
    return min(times, key=lambda time: abs(time - wanted))


def _frame_at(container: av.container.InputContainer, stream: av.VideoStream, pts: int) -> NDArray[np.uint8]:
    """Decode from the keyframe before `pts` up to it."""
    container.seek(pts, stream=stream, backward=True)
    for frame in container.decode(stream):
        if frame.pts is not None and frame.pts >= pts:
            return frame.to_ndarray(format="rgb24")
    raise VideoError(f"{container.name} ends before its frame at {float(pts * stream.time_base):.2f} s")
