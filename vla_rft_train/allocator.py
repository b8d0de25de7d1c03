"""Keep freed memory instead of handing it back to the kernel: on a CPU, every large tensor is fresh memory otherwise.

glibc maps an allocation above a threshold anew and unmaps it when it is freed; the kernel then clears each page again.
With small models that took up to a quarter of the time of a rollout.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""mallopt(3)."""
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """For this process, from now on; False where the C library knows no `mallopt` (not glibc), and nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
