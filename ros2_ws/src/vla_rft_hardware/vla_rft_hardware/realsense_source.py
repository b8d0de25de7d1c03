"""Where a RealSense is found: the bus of this computer. The simulator has a source of its own with the same methods.

Knows nothing of streams and frames.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Protocol

from vla_rft_core.errors import DeviceError

POLL_S = 0.25


class CameraSource(Protocol):
    """One camera that may come and go."""

    def find(self) -> Any:
        """The device (`rs.device`) as it is connected now; DeviceError in one sentence when it is not."""

    def pipeline(self) -> Any:
        """A new `rs.pipeline` that will stream from this device."""

    def reset(self, limit_s: float) -> None:
        """Reset the device and wait until it is back; DeviceError with the reason when it cannot be."""

    def close(self) -> None:
        """Let go of it."""


class BusSource:
    """A camera on the bus, named by its serial number; "" is the only one connected."""

    def __init__(self, rs: Any, serial: str, *, context: Any = None) -> None:
        self._rs = rs
        self._serial = serial
        self._context = context if context is not None else rs.context()

    def find(self) -> Any:
        """The device; DeviceError naming the serial numbers there are."""
        key = self._rs.camera_info.serial_number
        devices = {device.get_info(key): device for device in self._context.query_devices() if device.supports(key)}
        if not self._serial and len(devices) == 1:
            (self._serial,) = devices
        if self._serial in devices:
            return devices[self._serial]
        connected = ", ".join(sorted(devices)) or "none"
        wanted = f"no RealSense {self._serial} is" if self._serial else "not exactly one RealSense is"
        raise DeviceError(f"{wanted} connected (connected: {connected}); check cable, power and serial number")

    def pipeline(self) -> Any:
        """A pipeline bound to the device itself.

        Bound by serial number, its start would wait 15 s for a camera that just left, and hold the interpreter's lock.
        """
        pipeline = self._rs.pipeline(self._context)
        pipeline.set_device(self.find())
        return pipeline

    def reset(self, limit_s: float) -> None:
        """Reset from another process, because the call may hang; then wait for the device."""
        deadline = time.monotonic() + limit_s
        command = [sys.executable, "-m", "vla_rft_hardware.realsense_reset", self._serial]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise DeviceError(f"the reset hung for {limit_s:g} s") from None
        if done.returncode != 0:
            raise DeviceError(done.stderr.strip() or f"the reset ended with code {done.returncode}")
        wait_for_device(self, deadline)

    def close(self) -> None:
        """Nothing is held between streams."""


def wait_for_device(source: CameraSource, deadline: float) -> Any:
    """The device as soon as it is connected; the last DeviceError when it is not by `deadline` (monotonic, s)."""
    while True:
        try:
            return source.find()
        except DeviceError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)
