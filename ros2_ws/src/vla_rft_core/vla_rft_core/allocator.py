"""Settings of the C library's allocator (glibc's mallopt); elsewhere nothing changes."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""mallopt(3)."""
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Keep freed memory instead of handing it back to the kernel, for this process, from now on; False without mallopt.

    glibc maps an allocation above a threshold anew and unmaps it when it is freed; the kernel then clears each page
    again: on a CPU, every large tensor is fresh memory. With small models that took up to a quarter of the time of a
    rollout.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER})


def limit_arenas(count: int) -> bool:
    """Let the threads of this process, from now on, share so many arenas; False without mallopt.

    glibc makes up to eight per core as threads come and go, and each grows to the most that was ever needed at once: a
    process that has threads of each attempt would grow for hours.
    """
    return _set({_M_ARENA_MAX: count})


def _set(options: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) for option, value in options.items())
