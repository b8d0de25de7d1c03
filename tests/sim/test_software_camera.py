"""The stand-in camera by itself, and the driver over it on a real `sim_world` process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import CameraFrame
from vla_rft_hardware.protocols import Camera
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_sim import client
from vla_rft_sim.intrinsics import color_camera_info
from vla_rft_sim.software_camera import SoftwareCamera, connect_camera

pytestmark = pytest.mark.realtime

CELL = "vla_rft_sim:towel_cell"


class Still:
    """Frames of one colour at 60 fps, in a `Camera`."""

    def __init__(self) -> None:
        self._info = color_camera_info("front", 320, 240)
        self._number = 0

    def info(self) -> Any:
        return self._info

    def read(self, timeout_s: float) -> CameraFrame | None:
        time.sleep(1.0 / 60.0)
        self._number += 1
        color = np.full((240, 320, 3), self._number % 256, np.uint8)
        depth = np.full((240, 320), 700, np.uint16)
        return CameraFrame("front", time.time_ns(), time.time_ns(), self._number, color, depth)

    def close(self) -> None:
        pass


def test_the_device_looks_like_a_d435i() -> None:
    rs = load_realsense()
    source = SoftwareCamera(rs, Still(), fps=60)
    device = source.find()
    assert device.get_info(rs.camera_info.name) == "Intel RealSense D435I"
    assert device.get_info(rs.camera_info.usb_type_descriptor) == "3.2"
    assert [sensor.get_info(rs.camera_info.name) for sensor in device.query_sensors()] == [
        "Stereo Module",
        "RGB Camera",
    ]
    assert device.first_depth_sensor().get_depth_scale() == pytest.approx(0.001)
    color = device.query_sensors()[1]
    assert (color.get_option(rs.option.exposure), color.get_option(rs.option.gain)) == (156.0, 64.0)
    limits = color.get_option_range(rs.option.white_balance)
    assert (limits.min, limits.max, limits.step, limits.default) == (2800.0, 6500.0, 10.0, 4600.0)
    source.close()


def test_it_cannot_be_reset_and_can_be_unplugged_and_come_back_at_usb_2() -> None:
    rs, faults = load_realsense(), set[str]()
    source = SoftwareCamera(rs, Still(), fps=60, faults=lambda: faults)
    with pytest.raises(DeviceError, match="hardware_reset is not implemented"):
        source.reset(1.0)
    faults.add("camera_unplugged")
    with pytest.raises(DeviceError, match="no RealSense SIM-036522070660 is connected"):
        source.find()
    faults.clear()
    faults.add("camera_usb2")
    assert source.find().get_info(rs.camera_info.usb_type_descriptor) == "2.1"
    source.close()


def test_importing_it_does_not_import_the_vendors_library() -> None:
    look = "import sys, vla_rft_sim.stand_ins, vla_rft_hardware.realsense; print('pyrealsense2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_the_driver_reads_the_worlds_own_pixels(start_world: Callable[..., Any]) -> None:
    world = start_world()
    direct = client.connect_camera(world.address, "front")
    camera = connect_camera(world.address, "front", cell=find_cell(CELL))
    assert isinstance(camera, Camera)
    assert camera.info().fx == pytest.approx(direct.info().fx)
    assert (camera.info().camera, camera.info().serial) == ("front", direct.info().serial)
    rendered: dict[int, CameraFrame] = {}
    delivered: dict[int, CameraFrame] = {}
    patience = time.monotonic() + 20.0
    while len(rendered.keys() & delivered.keys()) < 10:
        assert time.monotonic() < patience, "no pictures to compare"
        for reader, frames in ((direct, rendered), (camera, delivered)):
            if (frame := reader.read(1.0)) is not None:
                frames[frame.number] = frame
    for number in rendered.keys() & delivered.keys():
        frame, own = delivered[number], rendered[number]
        np.testing.assert_array_equal(frame.color, own.color)
        np.testing.assert_array_equal(frame.depth, own.depth)
        assert abs(frame.stamp_ns - own.stamp_ns) < 1000  # the library's stamps are float milliseconds
        assert frame.stamp_ns <= frame.received_ns
    camera.close()
    direct.close()


def test_a_world_that_ends_is_a_camera_that_is_unplugged(start_world: Callable[..., Any]) -> None:
    world = start_world()
    camera = connect_camera(world.address, "front", cell=find_cell(CELL))
    world.kill()
    with pytest.raises(DeviceError, match="camera 'front' was unplugged: no RealSense SIM-036522070660 is connected"):
        for _ in range(100):
            camera.read(0.2)
    camera.close()


def test_the_worlds_faults_reach_the_driver(start_world: Callable[..., Any], wait_until: Any) -> None:
    world = start_world()
    truth = client.connect_truth(world.address)
    camera = connect_camera(world.address, "front", cell=find_cell(CELL))
    truth.inject("camera_frozen")
    wait_until(lambda: camera.diagnostics()["state"] == "frozen", "a frozen picture noticed")
    truth.inject("camera_frozen", active=False)
    wait_until(lambda: camera.diagnostics()["state"] == "streaming", "the picture moves")
    truth.inject("camera_unplugged")
    with pytest.raises(DeviceError, match="camera 'front' was unplugged"):
        for _ in range(100):
            camera.read(0.2)
    camera.close()
    truth.inject("camera_usb2")
    truth.inject("camera_unplugged", active=False)
    with pytest.raises(DeviceError, match=r"is connected at USB 2\.1"):
        connect_camera(world.address, "front", cell=find_cell(CELL))
