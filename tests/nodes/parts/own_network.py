"""This thread and whatever it starts in a network namespace of its own, whose only link can be cut. Linux, as root."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)


class OwnNetwork:
    """A context; PermissionError where one may not be made."""

    def __enter__(self) -> OwnNetwork:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if _libc.unshare(CLONE_NEWNET):
            os.close(self._home)
            raise PermissionError(ctypes.get_errno(), "no network namespace may be made")
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        _libc.setns(self._home, CLONE_NEWNET)
        os.close(self._home)

    def cut(self) -> None:
        """From now on nothing goes from process to process, but over Unix sockets."""
        self._set_flags(0)

    def restore(self) -> None:
        """It does again."""
        self._set_flags(IFF_UP)

    def _set_flags(self, flags: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))
