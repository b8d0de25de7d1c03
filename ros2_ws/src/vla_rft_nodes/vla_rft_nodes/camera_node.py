"""camera_node: frames of one camera -> colour, camera_info, aligned depth. Knows only the Camera protocol.

What the cell's calibration knows of this very camera is applied here, once for all: its latency comes off the stamps,
so that they say when a picture was taken, and estimated intrinsics replace the factory's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sensor_msgs.msg import CameraInfo, Image

from vla_rft_core.calibration import CameraMount
from vla_rft_core.cell import find_cell, from_factory
from vla_rft_core.clock import SystemClock, nanoseconds, seconds
from vla_rft_core.errors import DeviceError
from vla_rft_hardware.protocols import Camera, Diagnosed
from vla_rft_hardware.protocols import CameraInfo as CoreCameraInfo
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.picture_watch import PictureWatch
from vla_rft_nodes.ros import ShellNode, run


@dataclass(frozen=True, kw_only=True)
class CameraNodeConfig:
    """Parameters of camera_node."""

    device: str
    """Factory "module:function" of the camera; called with `address`, `camera` and `cell`."""
    address: str = ""
    """What the factory connects to: socket of the simulated world, serial number of the camera."""
    camera: str
    """Name of the camera in the spec."""
    cell: str
    """Cell folder: a path, or "package:folder"."""
    depth: bool = True
    """Publish depth too."""


class CameraNode(ShellNode):
    """Publishes every frame once, stamped with its capture time."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        config = self._config = read_parameters(self, CameraNodeConfig)
        cell = find_cell(config.cell)
        expected = cell.spec.camera(config.camera)
        self._camera: Camera = from_factory(config.device, config.address, config.camera, cell=cell)
        self._info = self._camera.info()
        if (self._info.width, self._info.height) != (expected.width, expected.height):
            streamed, wanted = f"{self._info.width}x{self._info.height}", f"{expected.width}x{expected.height}"
            raise DeviceError(f"camera {config.camera!r} streams {streamed}, its spec says {wanted}")
        mount = calibrated(self._info, cell.calibration.camera(config.camera))
        self._calibrated = mount is not None
        self._latency_ns = nanoseconds(mount.latency.seconds) if mount and mount.latency else 0
        if mount is not None and mount.intrinsics is not None:
            k = mount.intrinsics
            self._info = replace(self._info, fx=k.fx, fy=k.fy, cx=k.cx, cy=k.cy)
        self._host_clock = SystemClock()
        self._watch = PictureWatch(expected.fps)
        self._frames = self._dropped = 0
        self._last_number: int | None = None
        self._last_stamp_ns = 0
        self._colors = self.create_publisher(Image, topics.color_image(config.camera), qos.IMAGE_RECORDED)
        self._infos = self.create_publisher(CameraInfo, topics.color_info(config.camera), qos.IMAGE_RECORDED)
        self._depths = self.create_publisher(Image, topics.aligned_depth(config.camera), qos.IMAGE_RECORDED)
        self.start_worker(self._stream, "frames")

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """Frame count, drops and age of the newest frame; what is wrong with the pictures."""
        age_s = seconds(self._host_clock.realtime_ns() - self._last_stamp_ns) if self._frames else float("inf")
        values = {
            "frames": self._frames,
            "dropped": self._dropped,
            "age_s": f"{age_s:.3f}",
            "brightness": f"{self._watch.brightness:.0f}",
            "serial": self._info.serial,
            "calibrated": self._calibrated,
            "latency_s": f"{seconds(self._latency_ns):.4f}",
        }
        if isinstance(self._camera, Diagnosed):
            values |= self._camera.diagnostics()
        silent = f"no frame for {age_s:.1f} s" if age_s > 0.5 else ""
        return silent or self._watch.problem(seconds(self._host_clock.monotonic_ns())), values

    def close(self) -> None:
        """Stop streaming."""
        self._camera.close()

    def _stream(self) -> None:
        while not self.stopping:
            frame = self._camera.read(0.2)
            if frame is None:
                continue
            if self._last_number is not None:
                self._dropped += max(0, frame.number - self._last_number - 1)
            frame = replace(frame, stamp_ns=frame.stamp_ns - self._latency_ns)
            self._last_number, self._last_stamp_ns = frame.number, frame.stamp_ns
            self._colors.publish(convert.to_color_image(frame))
            self._infos.publish(convert.to_camera_info(self._info, stamp_ns=frame.stamp_ns))
            if frame.depth is not None and self._config.depth:
                self._depths.publish(convert.to_depth_image(frame, frame.depth))
            self._watch.see(frame.color, seconds(self._host_clock.monotonic_ns()))
            self._frames += 1


def calibrated(info: CoreCameraInfo, mount: CameraMount) -> CameraMount | None:
    """What was measured of the camera, if it is the one that was; None for another one, or one that never was."""
    mine = mount.serial == info.serial and bool(mount.serial)
    fits = mount.intrinsics is None or (mount.intrinsics.width, mount.intrinsics.height) == (info.width, info.height)
    return mount if mine and fits else None


def main() -> None:
    """Entry point of the executable."""
    run(CameraNode, urgent=True)


if __name__ == "__main__":
    main()
