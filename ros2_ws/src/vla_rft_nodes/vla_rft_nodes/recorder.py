"""One attempt being recorded: what arrives goes through a bounded queue to encoders and one writer thread.

Offering a sample never blocks: what does not fit is counted as dropped, per topic. An attempt takes nothing that was
born before its start or comes after its stop, so nothing leaks from one into the next. It knows no ROS: who offers
serialised messages, and what happens to the verdict, is the caller's business.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from vla_rft_core.clock import NS_PER_S, seconds
from vla_rft_episodes import channels, codec, messages
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.errors import DiskFullError, EpisodeError
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.verdict import Verdict
from vla_rft_episodes.writer import EpisodeWriter

IMAGE_TYPE = "sensor_msgs/msg/Image"
ENCODERS = 2
IDLE_S = 0.1
"""How often the writer looks at the clock and the disk while nothing comes."""
DISK_LOOK_S = 0.5
OPERATOR_STOP, TIME_LIMIT, DISK_FULL, SIGNAL = "operator stop", "time limit", "disk full", "signal"
FAILED = "recorder failed"


@dataclass(frozen=True, slots=True)
class Sample:
    """A serialised message on its way into an episode."""

    channel: Channel
    data: bytes
    """CDR."""
    stamp_ns: int
    """Of its header."""
    received_ns: int
    born_ns: int
    """When what it tells came about: the stamp of a measurement, the publishing of a command."""
    encode: Callable[[bytes], bytes] | None = None
    """Makes the recorded message of `data`; slow, done by the encoders."""


@dataclass(frozen=True, kw_only=True)
class RecorderLimits:
    """What may wait, and when an attempt ends by itself."""

    max_waiting: int = 4000
    """Samples between arrival and disk; more are dropped."""
    max_pictures: int = 90
    """The same for pictures, which are a hundred times larger."""
    max_duration_s: float = 300.0
    disk_reserve_bytes: int = 200_000_000
    """The attempt is finished while so much is left."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an attempt has come."""

    duration_s: float
    bytes: int
    """On disk so far."""
    messages: dict[str, int]
    """Topic -> messages written."""
    dropped: dict[str, int]
    """Topic -> messages missed."""
    disk_minutes: float
    """How long the disk lasts at this rate [min]."""


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """How an attempt ended."""

    episode: str
    path: Path | None
    """Of the finished episode; None when it could not be finished."""
    termination_reason: str
    verdict: Verdict | None
    duration_s: float
    frames: int
    """Pictures written, all cameras, colour and depth."""
    dropped: int
    """Pictures missed, the same."""
    error: str = ""
    """Why it could not be finished, in words."""
    disk_full: bool = False


class Attempt:
    """Records from when it is made until `stop`, its time limit, or the end of the disk; then finishes by itself.

    `create` begins the file (samples wait meanwhile); `judge` gives the verdict on what was written (not asked after a
    signal); `on_failure` is told at once when recording breaks off, `on_end` when all is done. All four are called from
    the writer thread.
    """

    def __init__(
        self,
        info: EpisodeInfo,
        create: Callable[[], EpisodeWriter],
        *,
        latched: Sequence[Sample] = (),
        limits: RecorderLimits,
        judge: Callable[[Path], Verdict] | None = None,
        on_failure: Callable[[str], None] = lambda reason: None,
        on_end: Callable[[AttemptResult], None] = lambda result: None,
    ) -> None:
        self.episode, self.started_ns = info.id, info.started_ns
        self._create, self._limits, self._judge = create, limits, judge
        self._on_failure, self._on_end = on_failure, on_end
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Sample, Future[bytes] | None] | None] = SimpleQueue()
        self._waiting = self._pictures = 0
        self._messages: Counter[str] = Counter()
        self._frames = 0
        self._missed: Counter[Channel] = Counter()
        self._ended_ns, self._reason = 0, ""
        self._bytes = self._free = 0
        self._disk_looked = 0.0
        self._verdict: Verdict | None = None
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encoder")
        self._thread = threading.Thread(target=self._run, args=(tuple(latched),), name="episode writer")
        self._thread.start()

    @property
    def recording(self) -> bool:
        """Samples are still taken."""
        return not self._reason

    @property
    def duration_s(self) -> float:
        """From start to stop, or to now [s]."""
        return seconds((self._ended_ns or time.time_ns()) - self.started_ns)

    def offer(self, sample: Sample) -> None:
        """Record a sample, or count it as dropped; returns at once."""
        with self._lock:
            if self._reason or sample.born_ns < self.started_ns:
                return
            is_picture = sample.encode is not None
            if self._waiting >= self._limits.max_waiting or (
                is_picture and self._pictures >= self._limits.max_pictures
            ):
                self._missed[sample.channel] += 1
                return
            self._waiting += 1
            self._pictures += is_picture
            encoded = self._encoders.submit(sample.encode, sample.data) if sample.encode else None
            self._queue.put((sample, encoded))

    def lost(self, channel: Channel, count: int) -> None:
        """The transport says that so many messages never arrived."""
        with self._lock:
            if not self._reason:
                self._missed[channel] += count

    def stop(self, reason: str) -> None:
        """Take nothing more from now on and finish; returns at once. The first reason counts."""
        with self._lock:
            if self._reason:
                return
            self._reason, self._ended_ns = reason, time.time_ns()
            self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait until the episode is finished; whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def progress(self) -> Progress:
        """Counts and rates up to now."""
        duration_s = self.duration_s
        with self._lock:
            size, free = self._bytes, self._free
            written, missed = dict(self._messages), {c.topic: n for c, n in self._missed.items()}
        rate = max(size, 1) / max(duration_s, 1.0)
        return Progress(
            duration_s=duration_s, bytes=size, messages=written, dropped=missed, disk_minutes=free / rate / 60.0
        )

    # --- the writer thread --------------------------------------------------------------------------------------

    def _run(self, latched: tuple[Sample, ...]) -> None:
        path, error, disk_full = None, "", False
        try:
            path = self._record(self._create(), latched)
            disk_full = self._reason == DISK_FULL
        except (EpisodeError, ValueError) as problem:
            error, disk_full = str(problem), isinstance(problem, DiskFullError)
            self.stop(DISK_FULL if disk_full else FAILED)
            self._on_failure(error)
        self._encoders.shutdown(cancel_futures=True)
        self._on_end(self._result(path, error=error, disk_full=disk_full))

    def _record(self, writer: EpisodeWriter, latched: tuple[Sample, ...]) -> Path:
        try:
            for sample in latched:
                self._write(writer, replace(sample, received_ns=self.started_ns), sample.data)
            for sample, encoded in self._arrivals(writer):
                self._write(writer, sample, encoded.result() if encoded else sample.data)
            return self._finish(writer)
        except (EpisodeError, ValueError):
            writer.abandon()
            raise

    def _arrivals(self, writer: EpisodeWriter) -> Iterator[tuple[Sample, Future[bytes] | None]]:
        """What was offered, in order, until the stop; keeps flush, time limit and disk in view."""
        while True:
            self._look_around(writer)
            try:
                item = self._queue.get(timeout=IDLE_S)
            except Empty:
                continue
            if item is None:
                return
            with self._lock:
                self._waiting -= 1
                self._pictures -= item[1] is not None
            yield item

    def _look_around(self, writer: EpisodeWriter) -> None:
        writer.flush_if_due()
        if self.duration_s > self._limits.max_duration_s:
            self.stop(TIME_LIMIT)
        if time.monotonic() - self._disk_looked < DISK_LOOK_S:
            return
        self._disk_looked, free = time.monotonic(), shutil.disk_usage(writer.path).free
        with self._lock:
            self._bytes, self._free = writer.bytes_written, free
        if free < self._limits.disk_reserve_bytes and self.recording:
            self.stop(DISK_FULL)
            self._on_failure(f"disk full: {free / 1e6:.0f} MB left in {writer.path.parent}")

    def _write(self, writer: EpisodeWriter, sample: Sample, data: bytes) -> None:
        writer.write(sample.channel, data, stamp_ns=sample.stamp_ns, received_ns=sample.received_ns)
        with self._lock:
            self._messages[sample.channel.topic] += 1
            self._frames += channels.is_image(sample.channel)

    def _finish(self, writer: EpisodeWriter) -> Path:
        for channel, count in self._missed.items():
            writer.dropped(channel, count)
        verdict = self._judge if self._reason != SIGNAL else None
        path = writer.finish(ended_ns=self._ended_ns, termination_reason=self._reason, verdict=verdict)
        self._verdict = writer.info.verdict
        return path

    def _result(self, path: Path | None, *, error: str, disk_full: bool) -> AttemptResult:
        return AttemptResult(
            episode=self.episode,
            path=path,
            termination_reason=self._reason,
            verdict=self._verdict,
            duration_s=self.duration_s,
            frames=self._frames,
            dropped=sum(n for channel, n in self._missed.items() if channels.is_image(channel)),
            error=error,
            disk_full=disk_full,
        )


def color_encoder(camera: str) -> Callable[[bytes], bytes]:
    """Makes the recorded JPEG message of a serialised rgb8 image of that camera."""
    return partial(_encode_color, camera)


def depth_encoder(camera: str) -> Callable[[bytes], bytes]:
    """Makes the recorded PNG message of a serialised 16UC1 image of that camera."""
    return partial(_encode_depth, camera)


def _encode_color(camera: str, data: bytes) -> bytes:
    image = _image(data, "rgb8")
    color = image.data.reshape(image.height, image.width, 3)
    return codec.compress_color(color, camera=camera, stamp_ns=_stamp_ns(image))


def _encode_depth(camera: str, data: bytes) -> bytes:
    image = _image(data, "16UC1")
    depth = image.data.view(np.uint16).reshape(image.height, image.width)
    return codec.compress_depth(depth, camera=camera, stamp_ns=_stamp_ns(image))


def _image(data: bytes, encoding: str) -> Any:
    image = messages.deserialize(IMAGE_TYPE, data)
    if image.encoding != encoding:
        raise ValueError(f"a picture is encoded as {image.encoding!r}, expected {encoding!r}")
    return image


def _stamp_ns(image: Any) -> int:
    return int(image.header.stamp.sec) * NS_PER_S + int(image.header.stamp.nanosec)
