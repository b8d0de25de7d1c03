"""Camera frames in shared memory: one writer, many readers, in a memory-mapped file.

The file is a ring of slots. Every slot carries a sequence number that is odd while the slot is written (a seqlock), so
that a reader sees a torn copy and takes a newer frame. The writer holds a lock on the file for as long as it lives;
the kernel lets go of it however the writer ends, which is how readers see a dead writer and start-up sees a left-over.
Knows nothing of who renders, and of no socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import CameraFrame, Depth, Image
from vla_rft_hardware.protocols import CameraInfo

SUFFIX = ".frames"
POLL_S = 0.002

_MAGIC = b"VLARFTF1"
_HEADER = struct.Struct("<8s3I4x5d64s64s")
_LATEST_OFFSET = 1024
_PAGE = 4096
_SLOT_HEADER = 64  # sequence, stamp, number as uint64, then nothing up to the pixels


def frames_directory() -> Path:
    """Where frame files live: memory when there is /dev/shm, else the temporary directory."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def default_frames_path() -> Path:
    """A path for this process's frames; names start alike so that left-overs can be found."""
    return frames_directory() / f"{_prefix()}{os.getpid()}{SUFFIX}"


def remove_stale_frames(directory: Path) -> list[Path]:
    """Delete this user's frame files whose writer is dead: the paths deleted."""
    removed = []
    for path in sorted(directory.glob(f"{_prefix()}*{SUFFIX}")):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not _is_locked(fd):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(fd)
    return removed


def _prefix() -> str:
    return f"vla_rft-{os.getuid()}-"


def _is_locked(fd: int) -> bool:
    """Whether another open file holds the writer's lock; tried with a shared lock that is given back at once."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _refuse_occupied(path: Path) -> None:
    """DeviceError unless `path` is free or the left-over of a dead writer, which may be replaced."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeviceError(f"cannot use {path} for frames: {error.strerror}") from None
    try:
        if os.pread(fd, len(_MAGIC), 0) != _MAGIC:
            raise DeviceError(f"{path} exists and is no frame file; choose another path")
        if _is_locked(fd):
            raise DeviceError(f"another world publishes its frames at {path}; choose another path")
    finally:
        os.close(fd)


def _create(path: Path, header: bytes, size: int) -> int:
    """A locked file of `size` bytes with its header; it gets its name last, so none takes it for stale."""
    unnamed = path.with_name(f".{path.name}.{os.getpid()}")
    fd = None
    try:
        fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(fd, 0, size)  # a full /dev/shm must fail here, not as a bus error later
        os.pwrite(fd, header, 0)
        os.rename(unnamed, path)
    except OSError as error:
        if fd is not None:
            os.close(fd)
            unnamed.unlink()
        raise DeviceError(f"cannot make the frame file {path} ({size >> 20} MiB): {error.strerror}") from None
    return fd


def _slot_bytes(width: int, height: int) -> int:
    pixels = width * height * 5  # three bytes of colour, two of depth
    return -(-(_SLOT_HEADER + pixels) // _PAGE) * _PAGE


class _Slot:
    """Views of one slot of the mapping."""

    def __init__(self, memory: mmap.mmap, *, offset: int, width: int, height: int) -> None:
        self.counters: NDArray[np.uint64] = np.frombuffer(memory, np.uint64, 3, offset)
        count = width * height
        start = offset + _SLOT_HEADER
        self.color: Image = np.frombuffer(memory, np.uint8, 3 * count, start).reshape(height, width, 3)
        self.depth: Depth = np.frombuffer(memory, np.uint16, count, start + 3 * count).reshape(height, width)


class _Ring:
    """The mapped file as arrays; shared by writer and reader."""

    def __init__(self, fd: int, *, info: CameraInfo, slots: int, writable: bool) -> None:
        size = _slot_bytes(info.width, info.height)
        memory = mmap.mmap(fd, _PAGE + slots * size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        self.latest: NDArray[np.uint64] = np.frombuffer(memory, np.uint64, 1, _LATEST_OFFSET)
        self._slots = [
            _Slot(memory, offset=_PAGE + i * size, width=info.width, height=info.height) for i in range(slots)
        ]

    def slot(self, number: int) -> _Slot:
        """The slot of frame `number`."""
        return self._slots[number % len(self._slots)]


class FrameWriter:
    """Publishes the frames of one camera; removes its file when closed.

    Example: `FrameWriter(path, info).write(color, depth, stamp_ns=...)`
    """

    def __init__(self, path: Path, info: CameraInfo, *, slots: int = 4) -> None:
        self.path = path
        self.count = 0
        _refuse_occupied(path)
        self._fd = _create(path, _pack_header(info, slots), _PAGE + slots * _slot_bytes(info.width, info.height))
        self._ring: _Ring | None = _Ring(self._fd, info=info, slots=slots, writable=True)

    def write(self, color: Image, depth: Depth, *, stamp_ns: int) -> None:
        """Publish one frame: colour uint8 RGB [H, W, 3], depth uint16 [H, W]; numbers count from 1."""
        if self._ring is None:
            raise DeviceError(f"the frame file {self.path} is closed")
        number = self.count + 1
        slot = self._ring.slot(number)
        slot.counters[0] = 2 * number - 1
        slot.counters[1:] = stamp_ns, number
        slot.color[...] = color
        slot.depth[...] = depth
        slot.counters[0] = 2 * number
        self._ring.latest[0] = number
        self.count = number

    def close(self) -> None:
        """Remove the file and let go of its lock; readers then see a dead writer."""
        if self._ring is None:
            return
        self._ring = None
        self.path.unlink(missing_ok=True)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # the mapping may keep the open file alive
        os.close(self._fd)


class FrameReader:
    """Reads the frames of one camera; its own copy, so any number of readers may look at their own pace."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceError(f"no frames at {path}: {error.strerror}") from None
        try:
            self.info, slots = _unpack_header(self._fd, path)
            self._ring: _Ring | None = _Ring(self._fd, info=self.info, slots=slots, writable=False)
        except DeviceError:
            os.close(self._fd)
            raise
        self._last = int(self._ring.latest[0])

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The newest frame that came after the last one read (or after opening); None when none comes in time.

        DeviceError when the writer is dead.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._ring is None:
                raise DeviceError(f"the frames of {self._path} were closed")
            number = int(self._ring.latest[0])
            if number > self._last and (frame := self._copy(number)) is not None:
                self._last = number
                return frame
            if not _is_locked(self._fd):
                raise DeviceError(f"camera {self.info.camera!r} is gone: the process that wrote {self._path} ended")
            remaining = deadline - time.monotonic()
            if remaining <= 0.0:
                return None
            if number == self._last:
                time.sleep(min(POLL_S, remaining))

    def close(self) -> None:
        """Let go of the file."""
        if self._ring is not None:
            self._ring = None
            os.close(self._fd)

    def _copy(self, number: int) -> CameraFrame | None:
        """Frame `number`, or None when the writer was in its slot meanwhile."""
        assert self._ring is not None
        slot = self._ring.slot(number)
        if int(slot.counters[0]) != 2 * number:
            return None
        stamp_ns, color, depth = int(slot.counters[1]), slot.color.copy(), slot.depth.copy()
        if int(slot.counters[0]) != 2 * number:
            return None
        return CameraFrame(
            camera=self.info.camera,
            stamp_ns=stamp_ns,
            received_ns=self._clock.realtime_ns(),
            number=number,
            color=color,
            depth=depth,
        )


def _pack_header(info: CameraInfo, slots: int) -> bytes:
    sizes = (info.width, info.height, slots)
    calibration = (info.fx, info.fy, info.cx, info.cy, info.depth_scale)
    return _HEADER.pack(_MAGIC, *sizes, *calibration, info.camera.encode(), info.serial.encode())


def _unpack_header(fd: int, path: Path) -> tuple[CameraInfo, int]:
    """Calibration and number of slots; DeviceError when the file is foreign or shorter than it says."""
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise DeviceError(f"{path} is no frame file of this version")
    _, width, height, slots, fx, fy, cx, cy, depth_scale, camera, serial = _HEADER.unpack(header)
    expected = _PAGE + slots * _slot_bytes(width, height)
    if slots < 1 or os.fstat(fd).st_size < expected:
        raise DeviceError(f"{path} is truncated: {os.fstat(fd).st_size} of {expected} bytes")
    info = CameraInfo(
        camera=camera.rstrip(b"\0").decode(),
        serial=serial.rstrip(b"\0").decode(),
        width=width,
        height=height,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        depth_scale=depth_scale,
    )
    return info, slots
