"""The last resort against left-over processes, itself a process: `python guard.py RUN_ID`, standard library only.

Every process of one bringup run inherits an environment variable named after the run, so its descendants are found in
/proc however they detached themselves. The guard waits until its standard input ends, which happens when bringup closes
it or dies of whatever cause, and then kills all that is left of the run.
"""

import contextlib
import os
import signal
import sys
import time

PREFIX = "VLA_RFT_BRINGUP_"


def marked(run_id: str) -> list[int]:
    """Processes alive with the mark of this run (zombies have no environment any more)."""
    mark = f"{PREFIX}{run_id}=".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                if any(variable.startswith(mark) for variable in file.read().split(b"\0")):
                    found.append(int(entry))
    return found


def kill_marked(run_id: str) -> None:
    """SIGKILL until two looks in a row find nothing: a process may fork while it is being looked for."""
    quiet = 0
    while quiet < 2:
        pids = marked(run_id)
        quiet = 0 if pids else quiet + 1
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Outlive bringup, which stops with a closed terminal or a signal to its process group; the guard must not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])


if __name__ == "__main__":
    main()
