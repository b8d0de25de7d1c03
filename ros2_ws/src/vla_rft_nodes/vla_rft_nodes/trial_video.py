"""TrialVideo: what one camera saw during a trial, with a caption bar, from the image callback to the writer."""

from __future__ import annotations

import threading
from pathlib import Path

from sensor_msgs.msg import Image

from vla_rft_core.clock import nanoseconds
from vla_rft_nodes import convert
from vla_rft_trials.overlay import Caption, with_caption
from vla_rft_trials.video import VideoWriter


class TrialVideo:
    """A context manager around the writer; `add` is the image callback's, the rest the trial's."""

    def __init__(self, path: Path, title: str, started_ns: int) -> None:
        self._writer = VideoWriter(path)
        self._title, self._started_ns = title, started_ns
        self._lock = threading.Lock()
        self._open = True
        self.state = ""
        """What the caption says on the right."""
        self.dropped = 0
        """Frames that the encoder could not take; known when it is closed."""

    def add(self, message: Image) -> None:
        """One more frame, unless the trial is over."""
        stamp_ns = convert.to_ns(message.header.stamp)
        caption = Caption(self._title, max(0, stamp_ns - self._started_ns) / nanoseconds(1.0), self.state)
        image = with_caption(convert.from_color_image(message), caption)
        with self._lock:
            if self._open:
                self._writer.write(image, stamp_ns)

    def __enter__(self) -> TrialVideo:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open = False
            self.dropped = self._writer.close().dropped
