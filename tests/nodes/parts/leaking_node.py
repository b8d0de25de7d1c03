"""`python leaking_node.py NODE FILE ...`: a node that leaks up to a memory limit as soon as FILE is there."""

from __future__ import annotations

import importlib
import resource
import sys
import threading
import time
from pathlib import Path

SPARE_BYTES = 16 << 20
LARGEST, SMALLEST = 4 << 20, 1 << 10


def leak(told: Path) -> None:
    """Take whatever is left, for as long as the process lives."""
    while not told.exists():
        time.sleep(0.02)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + SPARE_BYTES, resource.RLIM_INFINITY))
    taken, piece = [], LARGEST
    while True:
        try:
            taken.append(bytearray(piece))
        except MemoryError:
            piece = max(SMALLEST, piece // 2)
            time.sleep(0.001)


def main() -> None:
    node, told = sys.argv[1], Path(sys.argv[2])
    del sys.argv[1:3]
    threading.Thread(target=leak, args=(told,), daemon=True).start()
    importlib.import_module(f"vla_rft_nodes.{node}").main()


if __name__ == "__main__":
    main()
