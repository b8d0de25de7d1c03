"""`python -m deploy.runtime.first_answer BUNDLE BACKEND THREADS`: load a bundle, answer once, say what that took.

A process of its own, started by `deploy.benchmark`: what it takes from nothing to the first answer, without torch.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from deploy import runtime


def main() -> int:
    """Print one JSON line: seconds from here to the first answer, and the peak of the memory [MB]."""
    began = time.perf_counter()
    folder, backend, threads = sys.argv[1:]
    runtime.load(Path(folder), backend=backend, threads=int(threads), allow_unverified=True)  # replays golden ones
    loading_s = time.perf_counter() - began
    print(json.dumps({"loading_s": round(loading_s, 3), "memory_mb": round(peak_mb(), 1)}))
    return 0


def peak_mb() -> float:
    """The most memory that this process has had [MB]; `getrusage` would tell its parent's, if that was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024.0


if __name__ == "__main__":
    sys.exit(main())
