"""Which software made something: versions of installed packages, as episodes and trials record them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

RECORDED = ("vla-rft", "mujoco", "numpy", "opencv-python", "av", "mcap", "rosbags", "ros-rclpy")
"""What matters to how an attempt was made."""


def versions(names: Iterable[str] = RECORDED) -> dict[str, str]:
    """Name -> version of those that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a sourced /opt/ros has no wheel of rclpy, a robot no simulator
            continue
    return found
