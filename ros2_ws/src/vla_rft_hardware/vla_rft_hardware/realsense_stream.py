"""One started pipeline of a RealSense: what is asked of the device, and what a frameset of it means in our types.

Knows nothing of threads and recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rft_core.spec import CameraSpec
from vla_rft_core.types import Depth, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_hardware.realsense_exposure import set_option
from vla_rft_hardware.realsense_recovery import CameraRefusedError
from vla_rft_hardware.realsense_source import CameraSource

MILLIMETRE = 0.001
_NS_PER_MS = 1_000_000
_CLOCK_DRIFT = 1e-4
"""How much faster than the host's the device's clock may run."""


@dataclass(frozen=True)
class DeviceFacts:
    """What the device says of itself; "unknown" where it says nothing."""

    product: str
    serial: str
    firmware: str
    usb: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A frameset in our types."""

    number: int
    """The device's own counter; it starts anew with every start."""
    stamp_ns: int
    """Capture time (realtime)."""
    received_ns: int
    domain: str
    """Which clock the device stamped with."""
    metadata: bool
    """Whether the device's own metadata came along; without them the stamp is the arrival's."""
    color: Image
    depth: Depth


def read_facts(rs: Any, device: Any) -> DeviceFacts:
    """Name, serial number, firmware and USB type."""

    def of(key: Any) -> str:
        return str(device.get_info(key)) if device.supports(key) else "unknown"

    info = rs.camera_info
    return DeviceFacts(of(info.name), of(info.serial_number), of(info.firmware_version), of(info.usb_type_descriptor))


def require_usable(rs: Any, device: Any, spec: CameraSpec) -> DeviceFacts:
    """Refuse USB 2 and a profile that the device lacks, naming the alternatives."""
    facts = read_facts(rs, device)
    if facts.usb[:1] in ("1", "2"):
        raise CameraRefusedError(
            f"camera {spec.name!r} ({facts.serial}) is connected at USB {facts.usb}, too slow for colour and depth; "
            "use a USB 3 port and cable"
        )
    for stream, pixel_format in ((rs.stream.color, rs.format.rgb8), (rs.stream.depth, rs.format.z16)):
        sizes: dict[tuple[int, int], set[int]] = {}
        for sensor in device.query_sensors():
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() == stream and profile.format() == pixel_format:
                    video = profile.as_video_stream_profile()
                    sizes.setdefault((video.width(), video.height()), set()).add(video.fps())
        rates = sizes.get((spec.width, spec.height), set())
        if spec.fps in rates:
            continue
        there = (
            f"{spec.width}x{spec.height} at {', '.join(map(str, sorted(rates)))} fps"
            if rates
            else ", ".join(f"{width}x{height}" for width, height in sorted(sizes)) or "no such stream"
        )
        raise CameraRefusedError(
            f"camera {spec.name!r} ({facts.serial}) has no {stream.name} stream of {spec.width}x{spec.height} "
            f"at {spec.fps} fps; it has {there}"
        )
    return facts


class StampMapper:
    """Capture times in the host's realtime [ns]. A device's own clock is mapped by the quickest transport seen."""

    def __init__(self) -> None:
        self._offset_ns: float | None = None
        self._last_ns = 0

    def map(self, timestamp_ms: float, *, host_clock: bool, received_ns: int) -> int:
        """The capture time; never later than the arrival."""
        stamp_ns = round(timestamp_ms * _NS_PER_MS)
        if not host_clock:
            offset_ns = float(received_ns - stamp_ns)
            if self._offset_ns is not None:
                patience = _CLOCK_DRIFT * max(0, stamp_ns - self._last_ns)
                offset_ns = min(offset_ns, self._offset_ns + patience)
            self._offset_ns, self._last_ns = offset_ns, stamp_ns
            stamp_ns += round(offset_ns)
        return min(stamp_ns, received_ns)


class RealSenseStream:
    """Colour and depth of one device, started once and stopped once."""

    def __init__(self, rs: Any, source: CameraSource, spec: CameraSpec) -> None:
        self._rs = rs
        self._spec = spec
        self._device = source.find()
        self.facts = require_usable(rs, self._device, spec)
        self._config = rs.config()
        self._config.enable_stream(rs.stream.color, spec.width, spec.height, rs.format.rgb8, spec.fps)
        self._config.enable_stream(rs.stream.depth, spec.width, spec.height, rs.format.z16, spec.fps)
        self._pipeline = source.pipeline()
        # A queue of our own, because the pipeline's wait may try to reconnect, which ignores its time-out for 15 s.
        self._queue = rs.frame_queue(2)
        self._align: Any = None
        self._stamps = StampMapper()
        self._last_number: int | None = None
        self._started = self._abandoned = False

    def start(self) -> None:
        """Start streaming; may hang. RuntimeError of the library."""
        for sensor in self._device.query_sensors():
            if sensor.supports(self._rs.option.global_time_enabled):
                set_option(sensor, self._rs.option.global_time_enabled, 1.0)
        profile = self._pipeline.start(self._config, self._queue)
        self._started = True
        if self._abandoned:  # it hung, and others have gone on
            self._pipeline.stop()
            return
        color = profile.get_stream(self._rs.stream.color).as_video_stream_profile()
        depth = profile.get_stream(self._rs.stream.depth).as_video_stream_profile()
        if not _same_geometry(depth, color):
            self._align = self._rs.align(self._rs.stream.color)
        self.color_sensor = _sensor_with(self._device, self._rs.stream.color)
        self._depth_scale = float(self._device.first_depth_sensor().get_depth_scale())
        self.info = self._read_info(color)

    def stop(self) -> None:
        """Stop streaming; may hang."""
        self._abandoned = True
        if self._started:
            self._pipeline.stop()

    def wait(self, timeout_s: float) -> Any | None:
        """The next frameset, or None when none comes in time."""
        came, frame = self._queue.try_wait_for_frame(max(1, round(timeout_s * 1000.0)))
        return frame if came else None

    def picture(self, frame: Any, *, received_ns: int) -> Picture | None:
        """A frameset in our types, depth aligned to colour; None when it is no new pair of one moment.

        The library's matching now and then sends a colour frame again, with the next depth.
        """
        frames = frame.as_frameset()
        color, depth = (frames.get_color_frame(), frames.get_depth_frame()) if frames else (None, None)
        if not color or not depth or color.get_frame_number() == self._last_number:
            return None
        if abs(color.get_timestamp() - depth.get_timestamp()) > 1000.0 / self._spec.fps:
            return None
        self._last_number = color.get_frame_number()
        if self._align is not None:
            frames = self._align.process(frames)
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        domain = color.get_frame_timestamp_domain()
        hardware = domain == self._rs.timestamp_domain.hardware_clock
        return Picture(
            number=int(color.get_frame_number()),
            stamp_ns=self._stamps.map(color.get_timestamp(), host_clock=not hardware, received_ns=received_ns),
            received_ns=received_ns,
            domain=domain.name,
            metadata=bool(color.supports_frame_metadata(self._rs.frame_metadata_value.frame_counter)),
            color=np.array(color.get_data()),
            depth=self._millimetres(np.array(depth.get_data())),
        )

    def _millimetres(self, depth: Depth) -> Depth:
        if abs(self._depth_scale - MILLIMETRE) < 1e-9:
            return depth
        scaled = np.rint(depth * np.float32(self._depth_scale / MILLIMETRE))
        return np.where(scaled > 65535.0, 0.0, scaled).astype(np.uint16)

    def _read_info(self, color: Any) -> CameraInfo:
        intrinsics = color.get_intrinsics()
        if any(intrinsics.coeffs):
            raise CameraRefusedError(
                f"camera {self._spec.name!r} ({self.facts.serial}) reports lens distortion {list(intrinsics.coeffs)}; "
                "a D435i reports none, and nothing here would correct it"
            )
        return CameraInfo(
            camera=self._spec.name,
            serial=self.facts.serial,
            width=intrinsics.width,
            height=intrinsics.height,
            fx=intrinsics.fx,
            fy=intrinsics.fy,
            cx=intrinsics.ppx,
            cy=intrinsics.ppy,
            depth_scale=MILLIMETRE,
        )


def _sensor_with(device: Any, stream: Any) -> Any:
    """The sensor that has this kind of stream; `require_usable` has seen it."""
    for sensor in device.query_sensors():
        if any(profile.stream_type() == stream for profile in sensor.get_stream_profiles()):
            return sensor
    raise AssertionError(f"no sensor with {stream}")


def _same_geometry(depth: Any, color: Any) -> bool:
    """Depth lies on colour already: aligning would only smear its edges."""
    extrinsics = depth.get_extrinsics_to(color)
    if any(extrinsics.translation) or list(extrinsics.rotation) != [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]:
        return False
    a, b = depth.get_intrinsics(), color.get_intrinsics()
    return (a.width, a.height, a.fx, a.fy, a.ppx, a.ppy) == (b.width, b.height, b.fx, b.fy, b.ppx, b.ppy)
