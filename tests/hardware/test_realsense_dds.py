"""The RealSense driver on a camera that is discovered, plugged out and in: the vendor's network transport (opt-in)."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_core.spec import CameraSpec
from vla_rft_hardware.realsense import RealSenseCamera
from vla_rft_hardware.realsense_exposure import ExposureSettings
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_hardware.realsense_recovery import RecoveryPolicy
from vla_rft_hardware.realsense_source import BusSource, wait_for_device

pytestmark = pytest.mark.slow
SERVER = Path(__file__).with_name("realsense_dds_server.py")
SPEC = CameraSpec(name="front", width=320, height=240, fps=15, policy_size=224)


class Bus:
    """The server process, and the client's context that discovers its camera."""

    def __init__(self) -> None:
        domain = random.randint(1, 100)
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(domain)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"
        rs = self.rs = load_realsense()
        self.context = rs.context({"dds": {"enabled": True, "domain": domain, "udp": {"whitelist": ["127.0.0.1"]}}})
        self.source = BusSource(rs, "", context=self.context)
        wait_for_device(self.source, time.monotonic() + 20.0)

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self._line() == word

    def _line(self) -> str:
        assert self.process.stdout is not None
        return next(line.strip() for line in self.process.stdout if line.strip())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


@pytest.fixture
def camera(bus: Bus) -> Iterator[RealSenseCamera]:
    settings, policy = ExposureSettings(settle_frames=5, exposure=200.0), RecoveryPolicy(gone_s=8.0)
    camera = RealSenseCamera(bus.rs, bus.source, SPEC, exposure=settings, policy=policy)
    yield camera
    camera.close()


def until(camera: Any, state: str) -> None:
    """Read until the driver is in a state."""
    patience = time.monotonic() + 30.0
    while camera.diagnostics()["state"] != state:
        assert time.monotonic() < patience, dict(camera.diagnostics())
        camera.read(0.1)


def test_it_is_discovered_streams_and_takes_options(bus: Bus, camera: RealSenseCamera) -> None:
    frame = camera.read(5.0)
    assert frame is not None and frame.color.shape == (240, 320, 3) and frame.depth is not None
    assert frame.depth.max() == 700
    assert abs(frame.received_ns - frame.stamp_ns) < 1_000_000_000  # the device's clock mapped to the host's
    said = camera.diagnostics()
    assert (said["serial"], said["clock"]) == ("DDS0001", "hardware_clock")
    assert said["locked"] == "exposure 200, gain 64, white balance 4600"
    sensor = bus.source.find().first_color_sensor()
    assert sensor.get_option(bus.rs.option.enable_auto_exposure) == 0.0


def test_it_goes_on_after_a_replug_and_is_given_up_when_it_stays_away(bus: Bus, camera: RealSenseCamera) -> None:
    before = camera.read(5.0)
    assert before is not None
    bus.tell("disconnect")
    until(camera, "recovering")
    bus.tell("connect")
    until(camera, "streaming")
    after = camera.read(5.0)
    assert after is not None and after.number > before.number
    assert "restart helped" in camera.diagnostics()["last_recovery"]
    bus.tell("disconnect")
    with pytest.raises(DeviceError, match="camera 'front' was unplugged: no RealSense DDS0001 is connected"):
        for _ in range(300):
            camera.read(0.1)
