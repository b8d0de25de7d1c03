"""Video files of a dataset: H.264 written so that the same pictures give the same bytes, and read picture by picture.

Every second picture is a keyframe, so any picture is at most two decodings away. Knows nothing of datasets.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.stats import Histogram, histogram

Image = NDArray[np.uint8]

GOP = 2
_X264 = {
    "preset": "veryfast",
    "crf": "20",
    "threads": "1",  # more would make the bytes depend on the computer
    "bf": "0",
    "keyint_min": str(GOP),
    "sc_threshold": "0",
    # Useless with so few pictures per group, and the look-ahead gives other bytes once in a thousand files.
    "x264-params": "mbtree=0:rc-lookahead=0:weightp=0",
}
_MP4 = {"movflags": "faststart", "fflags": "bitexact"}


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """A finished video file and what its pictures look like once decoded."""

    path: Path
    frames: int
    shape: tuple[int, int, int]
    """Height, width, 3."""
    histogram: Histogram


class VideoEncoder:
    """Writes pictures one after the other at `fps`; `close` returns what was written.

    As a context it gives up what was not closed: `with VideoEncoder(path, fps=10) as encoder: ...; encoder.close()`
    """

    def __init__(self, path: Path, *, fps: int) -> None:
        self._path, self._fps = path, fps
        self._container = av.open(str(path), "w", format="mp4", options=_MP4)
        self._stream = self._container.add_stream("libx264", rate=fps, options=_X264)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = GOP
        self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, fps)
        self._shape: tuple[int, int, int] | None = None
        self._frames = 0
        self._closed = False

    def write(self, image: Image) -> None:
        """Append uint8 RGB [H, W, 3]; H and W are even and the same for all."""
        if self._shape is None:
            height, width, *channels = image.shape
            if image.dtype != np.uint8 or channels != [3] or height % 2 or width % 2:
                raise ValueError(f"need uint8 [H, W, 3] with even H and W, got {image.dtype} {list(image.shape)}")
            self._shape = (height, width, 3)
            self._stream.height, self._stream.width = height, width
        if image.shape != self._shape:
            raise ValueError(f"pictures of {self._path.name} are {self._shape}, got {image.shape}")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = self._frames, Fraction(1, self._fps)
        self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def close(self) -> EncodedVideo:
        """Finish the file; ValueError when it got no picture."""
        if self._shape is None:
            raise ValueError(f"{self._path.name}: a video without pictures")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._closed = True
        return EncodedVideo(self._path, self._frames, self._shape, file_histogram(self._path))

    def __enter__(self) -> VideoEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._closed:
            self._container.close()
            self._path.unlink(missing_ok=True)


def file_histogram(path: Path, span: tuple[int, int] | None = None) -> Histogram:
    """Summed histogram of all decoded pictures, or of those with number first <= i < last."""
    video = VideoFile(path)
    try:
        first, last = span or (0, len(video))
        counts = np.zeros((3, 256), dtype=np.int64)
        for number in range(first, last):
            counts += histogram(video.frame(number))
        return counts
    finally:
        video.close()


class VideoFile:
    """A video opened for random access by picture number. One thread at a time."""

    def __init__(self, path: Path) -> None:
        """LerobotError when there is no such file or it holds no video."""
        self.path = path
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1  # frame threads delay the first picture after a seek
            packets = [(p.pts, p.is_keyframe) for p in self._container.demux(self._stream) if p.pts is not None]
        except FileNotFoundError:
            raise LerobotError(f"{path}: no such file") from None
        except (OSError, IndexError, AttributeError, av.FFmpegError) as error:  # no stream; a codec that nobody knows
            raise LerobotError(f"{path}: not a video that can be read ({error})") from None
        packets.sort()
        if not any(key for _, key in packets):
            raise LerobotError(f"{path}: holds no picture that decoding could start at")
        self._pts = [pts for pts, _ in packets]
        self._keys = [number for number, (_, key) in enumerate(packets) if key]
        self._time_base = self._stream.time_base
        self._rgb = VideoReformatter()
        self._decoder = iter(())
        self._next = -1
        """Number of the picture that the decoder gives next; -1 = it must seek."""

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self._stream.height, self._stream.width

    def times(self) -> NDArray[np.float64]:
        """(n,) presentation time of every picture [s]."""
        return np.array(self._pts, dtype=np.float64) * float(self._time_base)

    def number_at(self, time_s: float) -> int:
        """Number of the picture shown nearest to a time [s]; LerobotError beyond half a picture of the ends."""
        wanted = time_s / float(self._time_base)
        after = min(bisect_right(self._pts, wanted), len(self._pts) - 1)
        number = min((max(0, after - 1), after), key=lambda i: abs(self._pts[i] - wanted))
        step = (self._pts[-1] - self._pts[0]) / max(1, len(self._pts) - 1)
        if abs(self._pts[number] - wanted) > 0.5 * step + 1:
            raise LerobotError(f"{self.path}: has no picture at {time_s:.3f} s; it ends at {self.times()[-1]:.3f} s")
        return number

    def frame(self, number: int) -> Image:
        """Picture `number` as uint8 RGB [H, W, 3]."""
        try:
            key = self._keys[bisect_right(self._keys, number) - 1]
            if not max(key, 0) <= self._next <= number:
                self._container.seek(self._pts[key], stream=self._stream)
                self._decoder, self._next = self._container.decode(self._stream), -1
            for frame in self._decoder:
                if frame.pts >= self._pts[number]:
                    self._next = number + 1
                    return np.asarray(self._rgb.reformat(frame, format="rgb24").to_ndarray())
        except av.FFmpegError as error:
            raise LerobotError(f"{self.path}: picture {number} cannot be decoded ({error})") from None
        raise LerobotError(f"{self.path}: ends before picture {number}")

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class OpenVideos:
    """The video files used last, kept open. After a fork the child opens its own: a file's position is shared."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._owner = os.getpid()
        self._files: OrderedDict[Path, VideoFile] = OrderedDict()

    def get(self, path: Path) -> VideoFile:
        """The open file."""
        if os.getpid() != self._owner:
            self._owner, self._files = os.getpid(), OrderedDict()
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        video = self._files[path] = VideoFile(path)
        if len(self._files) > self._capacity:
            self._files.popitem(last=False)[1].close()
        return video

    def frames(self, path: Path, times_s: Sequence[float]) -> Image:
        """The pictures shown at these times, uint8 [n, H, W, 3]; decoded in the order of the file."""
        video = self.get(path)
        numbers = [video.number_at(time_s) for time_s in times_s]
        images = np.empty((len(numbers), *video.size, 3), dtype=np.uint8)
        for position in np.argsort(numbers, kind="stable"):
            images[position] = video.frame(numbers[position])
        return images

    def close(self) -> None:
        """Close all."""
        for video in self._files.values():
            video.close()
        self._files.clear()

    def __reduce__(self) -> tuple[type[OpenVideos], tuple[int]]:
        return OpenVideos, (self._capacity,)
