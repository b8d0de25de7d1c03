"""`python -m deploy.runtime.first_answer BUNDLE BACKEND THREADS`: load a bundle, answer once, say what that took.

A process of its own, started by `deploy.benchmark`: what it takes from nothing to the first answer, without torch.
"""

from __future__ import annotations

import json
import resource
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
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    print(json.dumps({"loading_s": round(loading_s, 3), "memory_mb": round(memory_mb, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
