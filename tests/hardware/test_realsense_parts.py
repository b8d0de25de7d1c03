"""The RealSense driver's parts that need no camera: recovery, the source, stamps, and the library's absence."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_hardware import realsense_library, realsense_reset
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_hardware.realsense_recovery import CameraRefusedError, RecoveryPolicy, Stage, bounded, recover
from vla_rft_hardware.realsense_source import BusSource
from vla_rft_hardware.realsense_stream import StampMapper


def fail(words: str) -> None:
    raise DeviceError(words)


def refuse() -> None:
    raise CameraRefusedError("at USB 2")


def test_a_call_that_hangs_is_left_behind() -> None:
    release = threading.Event()
    with pytest.raises(DeviceError, match=r"it hung for 0.05 s"):
        bounded(release.wait, limit_s=0.05, what="stuck")
    release.set()
    assert bounded(lambda: 7, limit_s=5.0, what="quick") == 7


def test_the_librarys_error_comes_out_of_a_bounded_call_as_ours() -> None:
    def call() -> None:
        raise RuntimeError("Couldn't resolve\nrequests")

    with pytest.raises(DeviceError, match="Couldn't resolve requests"):
        bounded(call, limit_s=5.0, what="start")


def test_recovery_goes_on_to_the_stage_that_helps() -> None:
    told: list[str] = []
    done: list[str] = []
    stages = [Stage("restart", lambda: fail("no frame")), Stage("reset", lambda: done.append("reset"))]
    recover([*stages, Stage("never", lambda: done.append("never"))], cause="silent", report=told.append)
    assert done == ["reset"]
    assert told == ["silent: restart", "silent: reset", "silent: reset helped"]


def test_recovery_gives_up_with_every_reason_and_at_once_when_refused() -> None:
    stages = [Stage("restart", lambda: fail("no frame")), Stage("reset", lambda: fail("not implemented"))]
    with pytest.raises(DeviceError, match="silent; gave up after restart: no frame, reset: not implemented"):
        recover(stages, cause="silent", report=lambda words: None)
    with pytest.raises(CameraRefusedError, match="at USB 2"):
        recover([Stage("restart", refuse), *stages], cause="silent", report=lambda words: None)


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        RecoveryPolicy(silence_s=0.0)


class FakeBus:
    """A context with devices of these serial numbers."""

    def __init__(self, *serials: str) -> None:
        self.rs = SimpleNamespace(camera_info=SimpleNamespace(serial_number="serial"))
        self._devices = [SimpleNamespace(get_info=lambda key, s=s: s, supports=lambda key: True) for s in serials]

    def query_devices(self) -> list[Any]:
        return self._devices

    def source(self, serial: str) -> BusSource:
        return BusSource(self.rs, serial, context=self)


def test_a_camera_is_found_by_its_serial_number_or_by_being_the_only_one() -> None:
    assert FakeBus("1", "2").source("2").find().get_info("serial") == "2"
    assert FakeBus("1").source("").find().get_info("serial") == "1"
    with pytest.raises(DeviceError, match=r"no RealSense 3 is connected \(connected: 1, 2\)"):
        FakeBus("1", "2").source("3").find()
    with pytest.raises(DeviceError, match=r"not exactly one RealSense is connected \(connected: none\)"):
        FakeBus().source("").find()


def test_resetting_a_camera_that_is_not_there_says_so_from_its_own_process() -> None:
    load_realsense()
    source = BusSource(load_realsense(), "000000")
    with pytest.raises(DeviceError, match="no RealSense 000000 is connected"):
        source.reset(30.0)


def test_the_reset_program_wants_one_serial_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert realsense_reset.main([]) == 2
    assert "SERIAL" in capsys.readouterr().err


def test_stamps_of_the_hosts_clock_are_kept_and_never_in_the_future() -> None:
    stamps = StampMapper()
    now_ns = time.time_ns()
    assert stamps.map(now_ns / 1e6 - 5.0, host_clock=True, received_ns=now_ns) == pytest.approx(now_ns - 5e6, abs=1000)
    assert stamps.map(now_ns / 1e6 + 40.0, host_clock=True, received_ns=now_ns) == now_ns


def test_stamps_of_the_devices_clock_follow_the_quickest_transport() -> None:
    stamps, start_ns = StampMapper(), 1_795_000_000_000_000_000
    delays_ms = [9.0, 3.0, 12.0, 5.0]
    mapped = [
        stamps.map(100.0 * i, host_clock=False, received_ns=start_ns + round((100.0 * i + delay) * 1e6))
        for i, delay in enumerate(delays_ms)
    ]
    errors_ms = [(stamp - start_ns) / 1e6 - 100.0 * i for i, stamp in enumerate(mapped)]
    assert errors_ms == pytest.approx([9.0, 3.0, 3.0, 3.0], abs=0.05)


def test_without_the_library_there_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(DeviceError, match="the RealSense library is missing; install the extra `robot`"):
        load_realsense()


def test_without_libusb_there_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libusb_package", None)
    with pytest.raises(DeviceError, match=r"install the system package libusb-1\.0-0 or libusb-package"):
        realsense_library._load_libusb()
