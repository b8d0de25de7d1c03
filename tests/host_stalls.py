"""Does this computer keep real time? Sleeps 10 ms at a time, and notes in a file when and how late it woke.

    python tests/host_stalls.py NOTES

Started by conftest as a process of its own; ends when its standard input is closed. A line is `monotonic_s late_s`.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

NAP_S = 0.01
NOTED_S = 0.05
"""Shorter oversleeping is not written down."""


def watch(notes: Path) -> None:
    """Until the other end of standard input is closed."""
    with notes.open("a", buffering=1) as file:
        while True:
            due = time.monotonic() + NAP_S
            if select.select([sys.stdin], [], [], NAP_S)[0] and not os.read(sys.stdin.fileno(), 1):
                return
            now = time.monotonic()
            if now - due >= NOTED_S:
                file.write(f"{now:.3f} {now - due:.3f}\n")


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
