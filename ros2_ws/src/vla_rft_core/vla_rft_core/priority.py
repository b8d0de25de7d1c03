"""Going before others: a process's niceness, and that of its session. Does nothing where the user may not say so."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def go_first(niceness: int) -> None:
    """Give this process that niceness, and its session if the process leads one.

    Linux shares a busy computer between sessions as equals (sched_autogroup), whatever the niceness of what runs in
    them: beside a training in another terminal, a niceness of its own alone would be worth nothing.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(niceness))
