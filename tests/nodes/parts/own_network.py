"""This thread and whatever it starts in a network namespace of its own, whose only link can be cut. Linux, as root."""

from __future__ import annotations

import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
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
        """Nothing goes from process to process any more, but over Unix sockets."""
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)

    def restore(self) -> None:
        """It does again."""
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
