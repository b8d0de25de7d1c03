"""The simulated D435i below the vendor's library: a software device of pyrealsense2, fed with a world's frames.

The driver above it is the one that runs on hardware. What such a device cannot do fails as it does: it has no hardware
reset. The library is passed in or loaded late, never at import.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from vla_rft_core.cell import CellFolder
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import CameraFrame
from vla_rft_hardware.description import load_d435i
from vla_rft_hardware.protocols import Camera, CameraInfo
from vla_rft_hardware.realsense import RealSenseCamera
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_sim import client

Faults = Callable[[], Collection[str]]
"""Names of the faults that are active; this stand-in obeys `camera_unplugged` and `camera_usb2`.

A silent or frozen camera is made by the world that renders."""

_COLOR_OPTIONS = {
    "exposure": (1.0, 10000.0, 1.0, 156.0),
    "gain": (0.0, 128.0, 1.0, 64.0),
    "white_balance": (2800.0, 6500.0, 10.0, 4600.0),
    "enable_auto_exposure": (0.0, 1.0, 1.0, 1.0),
    "enable_auto_white_balance": (0.0, 1.0, 1.0, 1.0),
    "auto_exposure_priority": (0.0, 1.0, 1.0, 0.0),
}
"""Of a D435i's colour sensor: lowest, highest, step, default."""
_NS_PER_MS = 1e6
_READ_S = 0.1
_FAULT_POLL_S = 0.2
_CLOSE_S = 2.0


class SoftwareCamera:
    """Satisfies `CameraSource`: a device that streams what `frames` reads, at `fps`.

    `baseline_m` moves the depth sensor to the left of colour; 0 leaves depth on colour, pixel for pixel.
    """

    def __init__(
        self, rs: Any, frames: Camera, *, fps: int, faults: Faults = frozenset, baseline_m: float = 0.0
    ) -> None:
        self._rs = rs
        self._frames = frames
        self._info = frames.info()
        self._fps = fps
        self._read_faults = faults
        self._baseline_m = baseline_m
        self._faults: Collection[str] = faults()
        self._gone = ""
        self._lock = threading.Lock()
        self._device = _SoftwareDevice(rs, self._info, fps=fps, usb=self._usb, baseline_m=baseline_m)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="software camera", daemon=True)
        self._thread.start()

    def find(self) -> Any:
        """The device; DeviceError while it is unplugged or its world is gone."""
        self._look_at_faults()
        if self._gone or "camera_unplugged" in self._faults:
            why = self._gone or "connected: none"
            raise DeviceError(f"no RealSense {self._info.serial} is connected ({why})")
        with self._lock:
            if self._device.usb != self._usb:
                self._device = _SoftwareDevice(
                    self._rs, self._info, fps=self._fps, usb=self._usb, baseline_m=self._baseline_m
                )
            return self._device.device

    def pipeline(self) -> Any:
        """A pipeline on this device; a software device is bound directly, not through a context."""
        pipeline = self._rs.pipeline()
        pipeline.set_device(self.find())
        return pipeline

    def reset(self, limit_s: float) -> None:
        """A software device has none: DeviceError with the library's words."""
        try:
            self.find().hardware_reset()
        except RuntimeError as error:
            raise DeviceError(str(error)) from None

    def close(self) -> None:
        """End the feed and let go of the world's frames."""
        self._ended.set()
        self._thread.join(_CLOSE_S)
        self._frames.close()

    @property
    def _usb(self) -> str:
        return "2.1" if "camera_usb2" in self._faults else "3.2"

    def _look_at_faults(self) -> None:
        try:
            self._faults = self._read_faults()
        except DeviceError as error:
            self._gone = str(error)

    def _feed(self) -> None:
        looked = time.monotonic()
        try:
            while not self._ended.is_set():
                frame = self._frames.read(_READ_S)
                if time.monotonic() - looked > _FAULT_POLL_S:
                    looked = time.monotonic()
                    self._look_at_faults()
                if frame is not None and "camera_unplugged" not in self._faults:
                    with self._lock:
                        self._device.inject(frame)
        except DeviceError as error:
            self._gone = str(error)


class _SoftwareDevice:
    """One `rs.software_device` with the sensors, streams and options of a D435i that the driver uses."""

    def __init__(self, rs: Any, info: CameraInfo, *, fps: int, usb: str, baseline_m: float) -> None:
        self.usb = usb
        self._rs = rs
        self._width = info.width
        self.device = rs.software_device()
        key = rs.camera_info
        for name, text in (
            (key.name, load_d435i()["name"]),
            (key.serial_number, info.serial),
            (key.firmware_version, "simulated"),
            (key.usb_type_descriptor, usb),
        ):
            self.device.register_info(name, text)
        self._stereo = self.device.add_sensor("Stereo Module")
        self._rgb = self.device.add_sensor("RGB Camera")
        self._add_options(info)
        self._depth = self._stereo.add_video_stream(self._video_stream(rs.stream.depth, 0, info, fps), True)
        self._color = self._rgb.add_video_stream(self._video_stream(rs.stream.color, 1, info, fps), True)
        extrinsics = rs.extrinsics()
        extrinsics.rotation = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        extrinsics.translation = [baseline_m, 0.0, 0.0]
        self._depth.register_extrinsics_to(self._color, extrinsics)
        self.device.create_matcher(rs.matchers.default)

    def inject(self, frame: CameraFrame) -> None:
        """Hand one frame to the library: depth and colour of the same moment and number."""
        for sensor, profile, pixels, size in (
            (self._stereo, self._depth, frame.depth, 2),
            (self._rgb, self._color, frame.color, 3),
        ):
            sensor.set_metadata(self._rs.frame_metadata_value.frame_counter, frame.number)
            video = self._rs.software_video_frame()
            video.pixels = pixels
            video.stride, video.bpp = self._width * size, size
            video.timestamp, video.domain = frame.stamp_ns / _NS_PER_MS, self._rs.timestamp_domain.global_time
            video.frame_number = frame.number
            video.profile = profile.as_video_stream_profile()
            sensor.on_video_frame(video)

    def _add_options(self, info: CameraInfo) -> None:
        option = self._rs.option
        self._stereo.add_read_only_option(option.depth_units, info.depth_scale)
        for sensor in (self._stereo, self._rgb):
            sensor.add_option(option.global_time_enabled, self._range(0.0, 1.0, 1.0, 1.0), True)
        for name, limits in _COLOR_OPTIONS.items():
            self._rgb.add_option(getattr(option, name), self._range(*limits), True)

    def _range(self, low: float, high: float, step: float, default: float) -> Any:
        limits = self._rs.option_range()  # its constructor takes the last two in another order than it names them
        limits.min, limits.max, limits.step, limits.default = low, high, step, default
        return limits

    def _video_stream(self, stream: Any, uid: int, info: CameraInfo, fps: int) -> Any:
        rs = self._rs
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = info.width, info.height
        intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = info.fx, info.fy, info.cx, info.cy
        intrinsics.model, intrinsics.coeffs = rs.distortion.inverse_brown_conrady, [0.0] * 5
        video = rs.video_stream()
        video.type, video.index, video.uid = stream, 0, uid
        video.width, video.height, video.fps = info.width, info.height, fps
        is_depth = stream == rs.stream.depth
        video.bpp, video.fmt = (2, rs.format.z16) if is_depth else (3, rs.format.rgb8)
        video.intrinsics = intrinsics
        return video


class _WorldFrames:
    """A world's frames, and the faults that are injected in it."""

    def __init__(self, address: str, name: str) -> None:
        self._frames = client.connect_camera(address, name)
        self._world = client.SimWorldClient(address, "camera")
        self.info = self._frames.info
        self.read = self._frames.read

    def faults(self) -> Collection[str]:
        """Their names; DeviceError when the world is gone."""
        return frozenset(self._world.request("camera_faults"))

    def close(self) -> None:
        """Let go of both."""
        self._frames.close()
        self._world.close()


def connect_camera(address: str, name: str, *, cell: CellFolder) -> RealSenseCamera:
    """The camera `name` of the world at `address`, read by the driver of the real one."""
    rs = load_realsense()
    spec = cell.spec.camera(name)
    world = _WorldFrames(address, name)
    return RealSenseCamera(rs, SoftwareCamera(rs, world, fps=spec.fps, faults=world.faults), spec)
