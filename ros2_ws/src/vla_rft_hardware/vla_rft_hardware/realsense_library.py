"""The vendor's library pyrealsense2, imported when a camera is wanted and not before.

Its wheel needs the system's libusb; where there is none, the one of the package `libusb-package` is loaded first.
"""

from __future__ import annotations

import ctypes
from typing import Any

from vla_rft_core.errors import DeviceError


def load_realsense() -> Any:
    """The module `pyrealsense2`; DeviceError in one sentence when it cannot be used here."""
    try:
        import pyrealsense2
    except ModuleNotFoundError:
        raise DeviceError("the RealSense library is missing; install the extra `robot` (pyrealsense2)") from None
    except ImportError as error:
        if "libusb" not in str(error):
            raise DeviceError(f"the RealSense library cannot be loaded: {error}") from None
        _load_libusb()
        try:
            import pyrealsense2
        except ImportError as error:
            raise DeviceError(f"the RealSense library cannot be loaded: {error}") from None
    return pyrealsense2


def _load_libusb() -> None:
    """Give the process libusb's symbols, which pyrealsense2 then finds."""
    try:
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    except (ImportError, OSError):
        raise DeviceError(
            "the RealSense library needs libusb-1.0.so.0; install the system package libusb-1.0-0 or libusb-package"
        ) from None
