"""Going before others: a thread in real time, a process by niceness. Does nothing where the user may not say so."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SERVO, STOPS_THE_ARM, DECIDES = 10, 8, 5
"""In real time, of 1 to 99: the servo thread, the rest of the nodes that stop the arm, and a policy that decides."""
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


def in_real_time(priority: int) -> bool:
    """Let the calling thread run as soon as it has something to do (SCHED_FIFO); whether that was permitted.

    For a thread that computes little and often: nothing else of its core runs until it waits for something.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True
