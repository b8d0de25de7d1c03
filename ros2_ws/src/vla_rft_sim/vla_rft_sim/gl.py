"""The one place that imports MuJoCo, after it has found out which off-screen OpenGL this machine can do.

MuJoCo reads MUJOCO_GL when it is imported, and importing it with a backend whose library is missing fails. So a child
process tries first. Physics needs no OpenGL: without any, MuJoCo is imported with rendering disabled.
"""

from __future__ import annotations

import os
import subprocess
import sys

from vla_rft_core.errors import DeviceError

_BACKENDS = ("egl", "osmesa")
_PROBE = "import mujoco; c = mujoco.GLContext(16, 16); c.make_current(); c.free()"
_PROBE_TIMEOUT_S = 60.0


def _works(backend: str) -> bool:
    """Whether a fresh process can make an OpenGL context with this backend."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


def choose_backend() -> str:
    """The first backend that works, of the one in MUJOCO_GL or else EGL and OSMesa; "disable" when none does."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in ("disable", "disabled", "off", "0", "false"):
        return "disable"
    return next((b for b in ((asked,) if asked else _BACKENDS) if _works(b)), "disable")


def require_rendering() -> None:
    """DeviceError that says what to install when this machine cannot render."""
    if BACKEND == "disable":
        raise DeviceError(
            "the simulated camera needs off-screen OpenGL: install the Debian packages libegl1 and libgl1-mesa-dri "
            "(EGL), or libosmesa6, and leave MUJOCO_GL unset"
        )


BACKEND = choose_backend()
os.environ["MUJOCO_GL"] = BACKEND

import mujoco  # noqa: E402  # only now: see above

__all__ = ["BACKEND", "mujoco", "require_rendering"]
