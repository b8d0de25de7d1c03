"""Colour and depth images <-> CDR bytes of sensor_msgs/CompressedImage: JPEG for colour, lossless PNG for depth."""

from __future__ import annotations

import cv2
import numpy as np

from vla_rft_core.types import CameraFrame, Depth, Image
from vla_rft_episodes.codec_common import make, to_header, to_ns
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.messages import deserialize, serialize

TYPE = "sensor_msgs/msg/CompressedImage"
COLOR_FORMAT = "rgb8; jpeg compressed bgr8"
DEPTH_FORMAT = "16UC1; png compressed"
JPEG_QUALITY = 95
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Lossless at any setting; this one costs a recorder the least time."""


def optical_frame(camera: str) -> str:
    """Name of a camera's colour optical frame."""
    return f"{camera}_color_optical_frame"


def encode_color(frame: CameraFrame) -> bytes:
    """A frame's colour image as JPEG, stamped with its capture time."""
    return compress_color(frame.color, camera=frame.camera, stamp_ns=frame.stamp_ns)


def encode_depth(frame: CameraFrame) -> bytes:
    """A frame's depth image as PNG, stamped with its capture time; ValueError when it has none."""
    if frame.depth is None:
        raise ValueError(f"frame of camera {frame.camera!r} stamped {frame.stamp_ns} has no depth")
    return compress_depth(frame.depth, camera=frame.camera, stamp_ns=frame.stamp_ns)


def compress_color(color: Image, *, camera: str, stamp_ns: int) -> bytes:
    """uint8 RGB [H, W, 3] as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(color, cv2.COLOR_RGB2BGR), _JPEG)
    return _encode(data, COLOR_FORMAT, camera=camera, stamp_ns=stamp_ns)


def compress_depth(depth: Depth, *, camera: str, stamp_ns: int) -> bytes:
    """uint16 millimetres [H, W] as PNG."""
    if depth.dtype != np.uint16:
        raise ValueError(f"depth of camera {camera!r} is {depth.dtype}, expected uint16 millimetres")
    _, data = cv2.imencode(".png", depth, _PNG)
    return _encode(data, DEPTH_FORMAT, camera=camera, stamp_ns=stamp_ns)


def decode_color(data: bytes) -> Image:
    """uint8 RGB [H, W, 3]; EpisodeError when it is another kind of image."""
    pixels = _decode(data, COLOR_FORMAT, cv2.IMREAD_COLOR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def decode_depth(data: bytes) -> Depth:
    """uint16 millimetres [H, W]; EpisodeError when it is another kind of image."""
    pixels = _decode(data, DEPTH_FORMAT, cv2.IMREAD_UNCHANGED)
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise EpisodeError(f"expected a PNG of uint16 millimetres, found {pixels.dtype} {list(pixels.shape)}")
    return pixels


def image_stamp_ns(data: bytes) -> int:
    """Capture time of a serialised image."""
    return to_ns(deserialize(TYPE, data).header.stamp)


def _encode(data: np.ndarray, image_format: str, *, camera: str, stamp_ns: int) -> bytes:
    header = to_header(stamp_ns, optical_frame(camera))
    return serialize(TYPE, make(TYPE, header=header, format=image_format, data=data.reshape(-1)))


def _decode(data: bytes, image_format: str, flags: int) -> np.ndarray:
    message = deserialize(TYPE, data)
    if message.format != image_format:
        raise EpisodeError(f"expected an image of format {image_format!r}, found {message.format!r}")
    pixels = cv2.imdecode(message.data, flags) if len(message.data) else None
    if pixels is None:
        raise EpisodeError(f"{len(message.data)} bytes are no image of format {image_format!r}")
    return pixels
