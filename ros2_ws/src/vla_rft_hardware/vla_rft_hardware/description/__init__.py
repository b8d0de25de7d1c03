"""The numbers of the lab's devices as their vendors publish them: Rizon 4s with GN01, and one D435i.

Plain data, read from the package; it says nothing about any real cell (each arm and camera has its own calibration).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return content


def load_rizon4s() -> dict[str, Any]:
    """Kinematics, limits, masses, the GN01 gripper and forward-kinematics test vectors (shared: do not modify)."""
    return _load("rizon4s.yaml")


def load_d435i() -> dict[str, Any]:
    """Factory intrinsics per resolution, depth scale and frame rates of one D435i (shared: do not modify)."""
    return _load("d435i.yaml")
