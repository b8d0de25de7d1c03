"""Pictures: the newest picture of each view as JPEG, encoded when somebody is ready for it and once for all of them.

A viewer who is slow gets fewer pictures, never older ones.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.console.snapshot import Vital

CAMERA, GHOST = 0, 1
"""Views: the live camera, and the same with the required start of the next trial laid over it."""
QUALITY = 80
HEADER = struct.Struct("<BId")
"""Before the JPEG, little-endian: view uint8, number uint32, age of the picture when it is sent [s] float64."""
RATE_PICTURES = 31


@dataclass(frozen=True)
class Picture:
    """As it came."""

    number: int
    """Counts this view's pictures."""
    serialized: bytes
    stamp_ns: int
    """Capture, CLOCK_REALTIME [ns]."""

    @property
    def age_s(self) -> float:
        """Since the capture [s]."""
        return (time.time_ns() - self.stamp_ns) / 1e9


class Pictures:
    """Written by the thread that spins the node; `packet` is called by the server's threads."""

    def __init__(self, node: Node, camera: str, *, fps: float, on_picture: Callable[[], None]) -> None:
        """`fps`: what the camera should deliver. `on_picture` is called when a view has a new one."""
        self._fps, self._on_picture = fps, on_picture
        self._newest: dict[int, Picture] = {}
        self._encoded: dict[int, tuple[int, bytes]] = {}
        self._encoding = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=RATE_PICTURES)
        node.create_subscription(
            Image, topics.color_image(camera), partial(self._on_image, CAMERA), qos.IMAGE, raw=True
        )
        node.create_subscription(Image, topics.SCENE_OVERLAY, partial(self._on_image, GHOST), qos.IMAGE, raw=True)

    def newest(self, view: int) -> Picture | None:
        """The newest of a view; None before the first."""
        return self._newest.get(view)

    def packet(self, view: int) -> tuple[int, bytes] | None:
        """(number, header and JPEG) of the newest; None before the first. Takes a few milliseconds for a new one."""
        with self._encoding:
            picture = self._newest.get(view)
            if picture is None:
                return None
            number, jpeg = self._encoded.get(view, (-1, b""))
            if number != picture.number:
                jpeg = to_jpeg(picture.serialized)
                self._encoded[view] = (picture.number, jpeg)
        return picture.number, HEADER.pack(view, picture.number & 0xFFFFFFFF, picture.age_s) + jpeg

    def vital(self) -> Vital:
        """The camera's rate, as it arrives here."""
        arrivals, picture = tuple(self._arrivals), self._newest.get(CAMERA)
        if picture is None or len(arrivals) < 2:
            return Vital(name="camera", value="", unit="fps", words="no picture yet", ok=False)
        rate = (len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-6)
        silent_s = time.monotonic() - arrivals[-1]
        if silent_s > 1.0:
            return Vital(name="camera", value="0", unit="fps", words=f"silent for {silent_s:.0f} s", ok=False)
        return Vital(
            name="camera", value=f"{rate:.1f}", unit="fps", words=f"of {self._fps:g}", ok=rate >= 0.8 * self._fps
        )

    def _on_image(self, view: int, serialized: bytes) -> None:
        before = self._newest.get(view)
        number = before.number + 1 if before is not None else 0
        self._newest[view] = Picture(number, serialized, convert.raw_stamp_ns(serialized))
        if view == CAMERA:
            self._arrivals.append(time.monotonic())
        self._on_picture()


def to_jpeg(serialized: bytes) -> bytes:
    """A serialised rgb8 image as JPEG."""
    color = convert.from_color_image(deserialize_message(serialized, Image))
    ok, encoded = cv2.imencode(".jpg", np.ascontiguousarray(color[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise ValueError(f"a picture of shape {color.shape} could not be encoded")
    return encoded.tobytes()
