"""The file below an MCAP writer: every byte goes to the kernel at once, and a failure is told in the operator's words.

Holds the file's lock for as long as it is open, so that others can tell an attempt being recorded from a dead one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from vla_rft_episodes.errors import DiskFullError, EpisodeError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputFile:
    """A new file, written from front to end. What `mcap.writer.Writer` needs of a stream, and `sync`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise write_error(path, error) from None

    def write(self, data: bytes) -> int:
        """All of `data`; DiskFullError or EpisodeError when not all of it could be written."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._position += written
                rest = rest[written:]
        except OSError as error:
            raise write_error(self._path, error) from None
        return len(data)

    def tell(self) -> int:
        """Bytes written."""
        return self._position

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        """Wait until it is on the disk."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise write_error(self._path, error) from None

    def close(self) -> None:
        """Close it and give up the lock."""
        os.close(self._fd)


def write_error(path: Path, error: OSError) -> EpisodeError:
    """What to raise for an operating system's refusal to write."""
    if error.errno in _FULL:
        return DiskFullError(f"{path}: the disk is full ({error.strerror}); what was written before can be repaired")
    return EpisodeError(f"{path}: cannot be written ({error.strerror})")


def is_being_written(path: Path) -> bool:
    """Whether a process that lives has the file open as an `OutputFile`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
