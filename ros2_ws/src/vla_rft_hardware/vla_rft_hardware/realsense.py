"""A D435i as a `Camera`: colour with depth aligned to it, exposure locked, brought back when it stops delivering.

All calls of the vendor's library that concern frames are made on one thread; `read` only waits for what it delivers, so
that it keeps its deadline whatever hangs. Where the device comes from (bus or simulator) is its source's business.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import NS_PER_S, Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.spec import CameraSpec
from vla_rft_core.types import CameraFrame, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_hardware.realsense_exposure import ExposureLock, ExposureSettings
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_hardware.realsense_recovery import CameraRefusedError, RecoveryPolicy, Stage, bounded, recover
from vla_rft_hardware.realsense_source import BusSource, CameraSource, wait_for_device
from vla_rft_hardware.realsense_stream import Picture, RealSenseStream

_POLL_S = 0.1
_CLOSE_S = 5.0
_RATE_WINDOW = 30
_LOOK = 8
"""Every eighth pixel of every eighth row tells two pictures apart: a sensor's noise is everywhere."""


@dataclass
class CameraCounts:
    """What happened since the camera was opened; written by the streaming thread."""

    frames: int = 0
    dropped: int = 0
    """Gaps in the device's frame numbers."""
    unread: int = 0
    """Delivered, but replaced by a newer one before anybody read them."""
    unpaired: int = 0
    """Framesets that were no new pair of colour and depth of one moment."""
    duplicates: int = 0
    """New frames with the picture of the one before."""
    repeated: int = 0
    """Length of the present run of duplicates."""
    recoveries: int = 0
    last_recovery: str = "none"
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RATE_WINDOW))

    def rate_hz(self) -> float:
        """Frames per second over the last second or two."""
        arrivals = list(self.arrivals_ns)
        if len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
            return 0.0
        return (len(arrivals) - 1) * NS_PER_S / (arrivals[-1] - arrivals[0])


class RealSenseCamera:
    """Satisfies `Camera`. Opening takes until exposure is locked: some two seconds."""

    def __init__(
        self,
        rs: Any,
        source: CameraSource,
        spec: CameraSpec,
        *,
        exposure: ExposureSettings | None = None,
        policy: RecoveryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.counts = CameraCounts()
        self._rs = rs
        self._source = source
        self._spec = spec
        self._settings = exposure or ExposureSettings()
        self._policy = policy or RecoveryPolicy()
        self._clock = clock or SystemClock()
        self._lock = ExposureLock(rs, self._settings, fps=spec.fps)
        self._stream: RealSenseStream | None = None
        self._state = "opening"
        self._seen: Image | None = None
        self._device_number: int | None = None
        self._number_shift = self._last_number = 0
        self._latest: Picture | None = None
        self._arrived = threading.Condition()
        self._frame: CameraFrame | None = None
        self._failure = ""
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"realsense {spec.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self.close()
            raise DeviceError(self._failure)

    def info(self) -> CameraInfo:
        """Intrinsics of the colour stream as the device reports them."""
        return self._info

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The newest frame not read yet, or None when none comes in time; DeviceError once the camera was given up."""
        with self._arrived:
            self._arrived.wait_for(
                lambda: self._frame is not None or self._failure or self._closing.is_set(), timeout_s
            )
            frame, self._frame = self._frame, None
            if frame is None and self._failure:
                raise DeviceError(self._failure)
            if frame is None and self._closing.is_set():
                raise DeviceError(f"camera {self._spec.name!r} was closed")
            return frame

    def _has_news(self) -> bool:
        return self._frame is not None or bool(self._failure) or self._closing.is_set()

    def diagnostics(self) -> Mapping[str, str]:
        """What an operator wants to know, in words: device, stream, counts, exposure and the last recovery."""
        counts, latest, facts = self.counts, self._latest, self._facts
        transport = f"{(latest.received_ns - latest.stamp_ns) / 1e6:.1f}" if latest else "unknown"
        return {
            "state": "frozen" if self._state == "streaming" and counts.repeated >= self._spec.fps else self._state,
            "product": facts.product,
            "serial": facts.serial,
            "firmware": facts.firmware,
            "usb": facts.usb,
            "profile": f"{self._spec.width}x{self._spec.height} at {self._spec.fps} fps",
            "rate_hz": f"{counts.rate_hz():.1f}",
            "frames": str(counts.frames),
            "dropped": str(counts.dropped),
            "unread": str(counts.unread),
            "unpaired": str(counts.unpaired),
            "duplicates": str(counts.duplicates),
            "repeated": str(counts.repeated),
            "recoveries": str(counts.recoveries),
            "last_recovery": counts.last_recovery,
            "locked": str(self._lock.locked or "no"),
            "clock": latest.domain if latest else "unknown",
            "metadata": ("yes" if latest.metadata else "no") if latest else "unknown",
            "transport_ms": transport,
        }

    def close(self) -> None:
        """Stop streaming."""
        self._closing.set()
        with self._arrived:
            self._arrived.notify_all()
        self._thread.join(_CLOSE_S)
        self._source.close()

    def _run(self) -> None:
        try:
            self._begin()
            self._ready.set()
            self._deliver_until_closed()
        except (DeviceError, RuntimeError) as error:
            self._fail(error)
        finally:
            if not self._failure and not self._closing.is_set():
                self._fail(DeviceError(f"camera {self._spec.name!r}: its thread ended by an error of the driver"))
            self._ready.set()
            with contextlib.suppress(DeviceError):
                self._stop_stream()

    def _begin(self) -> None:
        """The first start: no second try where a person must do something, the usual stages where it may help."""
        try:
            bounded(self._source.find, limit_s=self._policy.call_s, what="finding the camera")
        except DeviceError as error:
            raise CameraRefusedError(f"camera {self._spec.name!r}: {error}") from None
        try:
            self._start_stream()
        except CameraRefusedError:
            raise
        except DeviceError as error:
            self._recover(f"camera {self._spec.name!r} did not start ({error})")
        self._state = "streaming"

    def _deliver_until_closed(self) -> None:
        heard = time.monotonic()
        while not self._closing.is_set():
            frame = self._stream.wait(_POLL_S) if self._stream else None
            now = time.monotonic()
            if frame is not None:
                heard = now
                self._deliver(frame)
            elif now - heard > self._policy.silence_s:
                self._recover(f"camera {self._spec.name!r} sent no frame for {now - heard:.1f} s")
                heard = time.monotonic()

    def _deliver(self, frame: Any) -> None:
        assert self._stream is not None
        picture = self._stream.picture(frame, received_ns=self._clock.realtime_ns())
        if picture is None:
            self.counts.unpaired += 1
            return
        number = self._count(picture)
        delivered = CameraFrame(
            camera=self._spec.name,
            stamp_ns=picture.stamp_ns,
            received_ns=picture.received_ns,
            number=number,
            color=picture.color,
            depth=picture.depth,
        )
        with self._arrived:
            self.counts.unread += self._frame is not None
            self._frame = delivered
            self._arrived.notify_all()

    def _count(self, picture: Picture) -> int:
        """Count the picture; its number in a sequence that goes on over restarts."""
        counts = self.counts
        if self._device_number is None:  # the first of a stream
            self._number_shift = self._last_number + 1 - picture.number if counts.frames else 0
        else:
            counts.dropped += max(0, picture.number - self._device_number - 1)
        self._device_number = picture.number
        self._last_number = picture.number + self._number_shift
        look = picture.color[::_LOOK, ::_LOOK]
        same = self._seen is not None and np.array_equal(look, self._seen)
        counts.repeated = counts.repeated + 1 if same else 0
        counts.duplicates += same
        counts.frames += 1
        counts.arrivals_ns.append(picture.received_ns)
        self._seen, self._latest = look, picture
        return self._last_number

    def _recover(self, cause: str) -> None:
        self._state = "recovering"
        self.counts.recoveries += 1
        restart = Stage("restart", self._restart)
        reset = Stage("hardware reset", self._reset)
        recover([*[restart] * self._policy.restarts, reset], cause=cause, report=self._report)
        self._state = "streaming"

    def _report(self, words: str) -> None:
        self.counts.last_recovery = words

    def _restart(self) -> None:
        self._stop_stream()
        try:
            deadline = time.monotonic() + self._policy.gone_s
            limit_s = self._policy.gone_s + self._policy.call_s
            bounded(lambda: wait_for_device(self._source, deadline), limit_s=limit_s, what="waiting for the camera")
        except DeviceError as error:
            raise CameraRefusedError(f"camera {self._spec.name!r} was unplugged: {error}") from None
        self._start_stream()

    def _reset(self) -> None:
        with contextlib.suppress(DeviceError):  # hanging here is what the reset is for
            self._stop_stream()
        self._source.reset(self._policy.reset_s)
        self._start_stream()

    def _start_stream(self) -> None:
        """Find, start and settle; the camera delivers when this returns."""
        limit_s = self._policy.call_s
        stream = bounded(self._new_stream, limit_s=limit_s, what="opening the camera")
        self._stream, self._device_number = stream, None
        bounded(stream.start, limit_s=limit_s, what="starting the camera")
        self._info, self._facts = stream.info, stream.facts
        self._lock.settle(stream.color_sensor, self._next_image)

    def _new_stream(self) -> RealSenseStream:
        return RealSenseStream(self._rs, self._source, self._spec)

    def _stop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            bounded(stream.stop, limit_s=self._policy.call_s, what="stopping the camera")

    def _next_image(self, count: int) -> Image:
        """The colour of the last of `count` frames that are dropped."""
        assert self._stream is not None
        deadline = time.monotonic() + self._policy.first_frame_s
        while True:
            frame = self._stream.wait(_POLL_S)
            if self._closing.is_set():
                raise DeviceError(f"camera {self._spec.name!r} was closed")
            if frame is None and time.monotonic() > deadline:
                raise DeviceError(f"no frame within {self._policy.first_frame_s:g} s")
            if frame is None:
                continue
            deadline = time.monotonic() + self._policy.first_frame_s
            count -= 1
            if count <= 0 and (picture := self._stream.picture(frame, received_ns=self._clock.realtime_ns())):
                return picture.color

    def _fail(self, error: Exception) -> None:
        """Tell the readers; the camera delivers nothing any more."""
        with self._arrived:
            self._state = "failed"
            self._failure = " ".join(str(error).split()) or type(error).__name__
            self._arrived.notify_all()


def connect_camera(serial: str, name: str, *, cell: CellFolder) -> RealSenseCamera:
    """The camera `name` of the cell's spec: the RealSense of that serial number ("" = the only one connected)."""
    rs = load_realsense()
    return RealSenseCamera(rs, BusSource(rs, serial), cell.spec.camera(name))
