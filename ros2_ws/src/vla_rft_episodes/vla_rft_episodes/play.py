"""Look at what a camera saw: in a window where there is a display, as an MP4 file where there is none.

Frames keep the times at which they were captured; a gap in the recording is a standstill in the picture.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import NS_PER_S, seconds
from vla_rft_episodes.errors import EpisodeError

TIME_BASE = Fraction(1, 90_000)
"""MP4 time unit [s]."""
_X264 = {"preset": "veryfast", "crf": "20", "threads": "1"}
_ESCAPE = 27


class Frame(Protocol):
    """What is read of a recorded frame."""

    @property
    def stamp_ns(self) -> int: ...
    @property
    def color(self) -> NDArray[np.uint8]: ...


def has_display() -> bool:
    """Whether a window can be shown."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(frames: Iterable[Frame], *, title: str) -> None:
    """Play in a window at the recorded pace until the end; q or Esc closes it, space pauses."""
    start_ns = None
    began = time.monotonic()
    for frame in frames:
        start_ns = frame.stamp_ns if start_ns is None else start_ns
        due = began + seconds(frame.stamp_ns - start_ns)
        cv2.imshow(title, frame.color[:, :, ::-1])
        key = cv2.waitKey(max(1, round(1e3 * (due - time.monotonic())))) & 0xFF
        if key == ord(" "):
            paused = time.monotonic()
            cv2.waitKey(0)
            began += time.monotonic() - paused
        elif key in (ord("q"), _ESCAPE):
            break
    cv2.destroyAllWindows()


def write_mp4(frames: Iterable[Frame], path: Path) -> int:
    """Encode as H.264; the number of frames. EpisodeError when `path` exists, cannot be written or nothing is there."""
    try:
        path.open("xb").close()
    except FileExistsError:
        raise EpisodeError(f"{path}: exists already and is not overwritten") from None
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        count = _encode(frames, path)
    except BaseException:
        path.unlink()
        raise
    if not count:
        path.unlink()
        raise EpisodeError(f"{path}: not written, for the camera has no frame in this episode")
    return count


def _encode(frames: Iterable[Frame], path: Path) -> int:
    count, first_ns, last_pts = 0, 0, -1
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=30, options=_X264)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = TIME_BASE
        for frame in frames:
            height, width = (side - side % 2 for side in frame.color.shape[:2])
            if not count:
                first_ns, stream.height, stream.width = frame.stamp_ns, height, width
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.color[:height, :width]), format="rgb24")
            # Two frames of one stamp would be refused: the later one is shown for the shortest time there is.
            pts = max(last_pts + 1, round((frame.stamp_ns - first_ns) * TIME_BASE.denominator / NS_PER_S))
            picture.pts, picture.time_base, last_pts = pts, TIME_BASE, pts
            container.mux(stream.encode(picture))
            count += 1
        if count:
            container.mux(stream.encode(None))
    return count
