"""Resets one RealSense; a process of its own, because the call may hang: `python -m ...realsense_reset SERIAL`.

It ends when the camera has left the bus (or did not within a few seconds); the caller waits for its return.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from vla_rft_core.errors import DeviceError
from vla_rft_hardware.realsense_library import load_realsense
from vla_rft_hardware.realsense_source import BusSource

_LEAVES_WITHIN_S = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Reset the camera of that serial number; the exit code, with one sentence on stderr when it is not 0."""
    serials = sys.argv[1:] if arguments is None else list(arguments)
    if len(serials) != 1:
        print("usage: python -m vla_rft_hardware.realsense_reset SERIAL", file=sys.stderr)
        return 2
    try:
        source = BusSource(load_realsense(), serials[0])
        source.find().hardware_reset()
    except (DeviceError, RuntimeError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    _wait_until_gone(source)
    return 0


def _wait_until_gone(source: BusSource) -> None:
    deadline = time.monotonic() + _LEAVES_WITHIN_S
    while time.monotonic() < deadline:
        try:
            source.find()
        except DeviceError:
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
