"""The RealSense driver over the vendor's library, on a software device fed in this process.

A fake of the frames' source can be slow, silent, dark or repeat itself; the library and the driver are the real ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_core.spec import CameraSpec
from vla_rft_core.types import CameraFrame, Depth, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_hardware.realsense import RealSenseCamera
from vla_rft_hardware.realsense_exposure import ExposureSettings
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_hardware.realsense_recovery import RecoveryPolicy
from vla_rft_sim.intrinsics import color_camera_info
from vla_rft_sim.software_camera import SoftwareCamera

pytestmark = pytest.mark.realtime

SIZE, FPS = (320, 240), 60
SPEC = CameraSpec(name="front", width=SIZE[0], height=SIZE[1], fps=FPS, policy_size=224)
QUICK = ExposureSettings(settle_frames=3, restart_frames=1)
POLICY = RecoveryPolicy(silence_s=0.3, first_frame_s=0.4, restarts=2, call_s=2.0, gone_s=0.6, reset_s=2.0)


class Scene:
    """A `Camera` at 60 fps that remembers what it gave and can be disturbed from a test."""

    def __init__(self) -> None:
        self.silent = self.frozen = False
        self.skip = 0
        self.paint: Callable[[Image], Image] = lambda image: image
        self.given: dict[int, CameraFrame] = {}
        self._random = np.random.default_rng(0)
        self._number = 0
        self._picture = self._new_picture()

    def info(self) -> CameraInfo:
        return color_camera_info("front", *SIZE)

    def read(self, timeout_s: float) -> CameraFrame | None:
        time.sleep(1.0 / FPS)
        if self.silent:
            return None
        if not self.frozen:
            self._picture = self._new_picture()
        self._number += 1 + self.skip
        self.skip = 0
        stamp_ns = time.time_ns()
        frame = CameraFrame("front", stamp_ns, stamp_ns, self._number, *self._picture)
        self.given[self._number] = frame
        return frame

    def close(self) -> None:
        pass

    def _new_picture(self) -> tuple[Image, Depth]:
        color = self._random.integers(90, 110, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        depth = self._random.integers(400, 1200, (SIZE[1], SIZE[0]), dtype=np.uint16)
        return self.paint(color), depth


class Bench:
    """A scene, its software device and the driver on it."""

    def __init__(self) -> None:
        self.rs = load_realsense()
        self.scene = Scene()
        self.faults: set[str] = set()
        self.source: SoftwareCamera | None = None
        self.camera: RealSenseCamera | None = None

    def read_faults(self) -> Collection[str]:
        return frozenset(self.faults)

    def plug_in(self, *, baseline_m: float = 0.0) -> SoftwareCamera:
        self.source = SoftwareCamera(self.rs, self.scene, fps=FPS, faults=self.read_faults, baseline_m=baseline_m)
        return self.source

    def open(
        self, *, spec: CameraSpec = SPEC, settings: ExposureSettings = QUICK, policy: RecoveryPolicy = POLICY
    ) -> RealSenseCamera:
        source = self.source or self.plug_in()
        self.camera = RealSenseCamera(self.rs, source, spec, exposure=settings, policy=policy)
        return self.camera

    def close(self) -> None:
        if self.camera is not None:
            self.camera.close()
        elif self.source is not None:
            self.source.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def next_frame(camera: RealSenseCamera) -> CameraFrame:
    """The next frame; only a broken driver takes seconds."""
    frame = camera.read(5.0)
    assert frame is not None
    return frame


def read_until_given_up(camera: RealSenseCamera) -> str:
    """Read until the driver gives the camera up: its sentence."""
    with pytest.raises(DeviceError) as error:
        for _ in range(1000):
            camera.read(0.05)
    return str(error.value)


def until(condition: Callable[[], bool], camera: RealSenseCamera) -> None:
    """Read until a condition holds."""
    patience = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < patience, dict(camera.diagnostics())
        camera.read(0.05)


def test_frames_are_the_devices_pixels_numbers_and_stamps(bench: Bench) -> None:
    camera = bench.open()
    last = 0
    for _ in range(30):
        frame = next_frame(camera)
        given = bench.scene.given[frame.number]
        np.testing.assert_array_equal(frame.color, given.color)
        np.testing.assert_array_equal(frame.depth, given.depth)
        assert (frame.color.dtype, frame.depth.dtype) == (np.uint8, np.uint16)
        assert abs(frame.stamp_ns - given.stamp_ns) < 1000
        assert frame.stamp_ns <= frame.received_ns <= time.time_ns()
        assert frame.number > last
        last = frame.number


def test_a_frame_is_the_readers_own(bench: Bench) -> None:
    camera = bench.open()
    first = next_frame(camera)
    kept = first.color.copy()
    for _ in range(40):  # more than the library's pool of frames
        next_frame(camera)
    np.testing.assert_array_equal(first.color, kept)


def test_information_and_diagnostics(bench: Bench) -> None:
    camera = bench.open()
    next_frame(camera)
    expected = bench.scene.info()
    info = camera.info()
    assert (info.camera, info.serial, info.width, info.height) == ("front", expected.serial, *SIZE)
    assert (info.fx, info.fy, info.cx, info.cy) == pytest.approx((expected.fx, expected.fy, expected.cx, expected.cy))
    said = camera.diagnostics()
    assert said["state"] == "streaming" and said["usb"] == "3.2" and said["serial"] == expected.serial
    assert said["firmware"] == "simulated" and said["clock"] == "global_time" and said["metadata"] == "yes"
    assert said["profile"] == "320x240 at 60 fps" and said["recoveries"] == "0"


def test_gaps_in_the_numbers_are_counted_as_drops(bench: Bench) -> None:
    camera = bench.open()
    next_frame(camera)
    before = camera.counts.dropped
    bench.scene.skip = 7
    until(lambda: camera.counts.dropped >= before + 7, camera)


def test_a_frozen_picture_is_noticed_and_forgotten_when_it_moves(bench: Bench) -> None:
    camera = bench.open()
    bench.scene.frozen = True
    until(lambda: camera.diagnostics()["state"] == "frozen", camera)
    assert camera.counts.duplicates >= FPS
    bench.scene.frozen = False
    until(lambda: camera.counts.repeated == 0, camera)
    assert camera.diagnostics()["state"] == "streaming"


def test_depth_is_aligned_when_the_sensors_are_apart(bench: Bench) -> None:
    near_mm, baseline_m = 600, 0.05
    bench.plug_in(baseline_m=baseline_m)
    bench.scene._new_picture = lambda: (  # type: ignore[method-assign]
        bench.scene._random.integers(90, 110, (SIZE[1], SIZE[0], 3), dtype=np.uint8),
        edge(near_mm),
    )
    camera = bench.open()
    frame = next_frame(camera)
    assert frame.depth is not None
    row = frame.depth[SIZE[1] // 2]
    shift = bench.scene.info().fx * baseline_m / (near_mm / 1000.0)  # the near half moves right by so many pixels
    edges = np.flatnonzero(np.diff((row == near_mm).astype(int)) == -1)
    assert len(edges) == 1
    assert edges[0] - (SIZE[0] // 2 - 1) == pytest.approx(shift, abs=1.5)


def edge(near_mm: int) -> Depth:
    """The left half near, the right half far."""
    depth = np.full((SIZE[1], SIZE[0]), 2000, np.uint16)
    depth[:, : SIZE[0] // 2] = near_mm
    return depth


def test_a_silent_camera_is_restarted_while_readers_keep_their_deadline(bench: Bench) -> None:
    camera = bench.open()
    last = next_frame(camera)
    bench.scene.silent = True
    waits = []
    while camera.counts.recoveries == 0:
        start = time.monotonic()
        camera.read(0.05)
        waits.append(time.monotonic() - start)
    assert camera.diagnostics()["state"] == "recovering"
    assert camera.read(0.05) is None
    assert max(waits) < 2.0  # far below the library's own time-outs of 5 and 15 s
    bench.scene.silent = False
    until(lambda: camera.diagnostics()["state"] == "streaming", camera)
    frame = next_frame(camera)
    assert frame.number > last.number
    assert "restart helped" in camera.diagnostics()["last_recovery"]


def test_a_camera_that_stays_silent_is_given_up_with_the_reason_of_every_stage(bench: Bench) -> None:
    camera = bench.open()
    bench.scene.silent = True
    sentence = read_until_given_up(camera)
    assert sentence.startswith("camera 'front' sent no frame for 0.")
    assert sentence.count("restart: no frame within 0.4 s") == POLICY.restarts
    assert sentence.endswith("hardware reset: hardware_reset is not implemented for this device!")
    assert camera.diagnostics()["state"] == "failed"
    with pytest.raises(DeviceError, match="gave up"):
        camera.read(0.01)


def test_an_unplugged_camera_is_an_error_within_its_time(bench: Bench) -> None:
    camera = bench.open()
    bench.faults.add("camera_unplugged")
    sentence = read_until_given_up(camera)
    assert sentence == ("camera 'front' was unplugged: no RealSense SIM-036522070660 is connected (connected: none)")


def test_a_camera_plugged_in_again_in_time_goes_on(bench: Bench) -> None:
    camera = bench.open(policy=RecoveryPolicy(silence_s=0.3, first_frame_s=1.0, gone_s=10.0))
    last = next_frame(camera)
    bench.faults.add("camera_unplugged")
    until(lambda: camera.counts.recoveries == 1, camera)
    bench.faults.clear()
    until(lambda: camera.diagnostics()["state"] == "streaming", camera)
    assert next_frame(camera).number > last.number


def test_usb_2_is_refused_at_the_start_and_after_coming_back(bench: Bench) -> None:
    bench.faults.add("camera_usb2")
    bench.plug_in()
    refusal = r"camera 'front' \(SIM-036522070660\) is connected at USB 2.1, too slow .* use a USB 3 port and cable"
    with pytest.raises(DeviceError, match=refusal):
        bench.open()


def test_a_camera_that_comes_back_at_usb_2_is_given_up(bench: Bench) -> None:
    camera = bench.open()
    bench.faults.update({"camera_unplugged", "camera_usb2"})
    until(lambda: camera.counts.recoveries == 1, camera)
    bench.faults.discard("camera_unplugged")
    assert "is connected at USB 2.1" in read_until_given_up(camera)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"fps": 30}, "no color stream of 320x240 at 30 fps; it has 320x240 at 60 fps"),
        ({"width": 848, "height": 480}, "no color stream of 848x480 at 60 fps; it has 320x240"),
    ],
)
def test_a_profile_the_camera_lacks_is_refused_with_the_alternatives(
    bench: Bench, spec: dict[str, int], words: str
) -> None:
    wanted = CameraSpec(**{"name": "front", "width": 320, "height": 240, "fps": 60, "policy_size": 224, **spec})
    with pytest.raises(DeviceError, match=words):
        bench.open(spec=wanted)


def color_sensor(bench: Bench) -> Any:
    assert bench.source is not None
    return bench.source.find().query_sensors()[1]


def test_exposure_is_locked_after_settling(bench: Bench) -> None:
    option = bench.rs.option
    bench.plug_in()
    automatic: list[float] = []

    def paint(image: Image) -> Image:
        automatic.append(color_sensor(bench).get_option(option.enable_auto_exposure))
        return image

    bench.scene.paint = paint
    camera = bench.open(settings=ExposureSettings(settle_frames=12))
    sensor = color_sensor(bench)
    assert sensor.get_option(option.enable_auto_exposure) == 0.0
    assert sensor.get_option(option.enable_auto_white_balance) == 0.0
    assert sum(automatic) >= 11  # it was on while the frames were counted
    assert camera.diagnostics()["locked"] == "exposure 156, gain 64, white balance 4600"
    assert min(bench.scene.given) + 12 <= next_frame(camera).number


def test_given_values_are_set_and_read_back_and_kept_over_a_restart(bench: Bench) -> None:
    option = bench.rs.option
    camera = bench.open(settings=ExposureSettings(settle_frames=2, exposure=200.0, gain=30.0, white_balance=5000.0))
    assert camera.diagnostics()["locked"] == "exposure 200, gain 30, white balance 5000"
    color_sensor(bench).set_option(option.enable_auto_exposure, 1.0)  # as a device that lost its power
    color_sensor(bench).set_option(option.exposure, 156.0)
    bench.scene.silent = True
    until(lambda: camera.counts.recoveries == 1, camera)
    bench.scene.silent = False
    until(lambda: camera.diagnostics()["state"] == "streaming", camera)
    sensor = color_sensor(bench)
    assert (sensor.get_option(option.enable_auto_exposure), sensor.get_option(option.exposure)) == (0.0, 200.0)


@pytest.mark.parametrize(
    ("right", "locked"),
    [(80.0, 80.0), (400.0, 166.0)],  # 60 fps leave time for 166 units
)
def test_the_manual_exposure_is_moved_until_it_is_as_bright_as_the_automatic(
    bench: Bench, right: float, locked: float
) -> None:
    """By itself the camera shows brightness 100; at manual exposure it does so at the value `right`."""
    option = bench.rs.option
    bench.plug_in()

    def paint(image: Image) -> Image:
        sensor = color_sensor(bench)
        if sensor.get_option(option.enable_auto_exposure):
            return image
        return np.minimum(image * (sensor.get_option(option.exposure) / right), 255.0).astype(np.uint8)

    bench.scene.paint = paint
    bench.open()
    assert color_sensor(bench).get_option(option.exposure) == pytest.approx(locked, rel=0.06)


def test_opening_a_camera_that_never_delivers_fails_with_one_sentence(bench: Bench) -> None:
    bench.scene.silent = True
    with pytest.raises(DeviceError, match=r"camera 'front' did not start \(no frame within 0.4 s\); gave up after"):
        bench.open()


def test_a_closed_camera_says_so_and_leaves_no_thread(bench: Bench) -> None:
    camera = bench.open()
    camera.close()
    with pytest.raises(DeviceError, match="was closed"):
        for _ in range(3):
            camera.read(0.1)
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"realsense front", "software camera"}
