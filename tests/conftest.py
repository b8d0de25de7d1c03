"""What every test session gets: its own ROS domain, a headless GL, and a look for processes left behind."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

SESSION = uuid.uuid4().hex
RERUNS = int(os.environ.get("VLA_RFT_RERUNS", "3"))
BOOTSTRAP = Path(__file__).parents[1] / "ros2_ws" / "bootstrap.py"


def headless_gl() -> str:
    """Return MuJoCo's name of the headless GL of this machine, as found by set-up's own probe."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec is not None and spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    return bootstrap.headless_gl() or "disable"


# Set before any test module is imported: MuJoCo and Fast DDS read these once.
os.environ["VLA_RFT_TEST_SESSION"] = SESSION
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("MUJOCO_GL", headless_gl())


def left_behind() -> dict[int, str]:
    """Return pid -> command of the processes started in this session, however indirectly, that still run."""
    parents, commands, ours = {}, {}, {os.getpid()}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            commands[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            marked = f"VLA_RFT_TEST_SESSION={SESSION}".encode() in (entry / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state == "Z" or "multiprocessing.resource_tracker" in commands[pid]:  # the tracker ends with its owner
            continue
        parents[pid] = int(parent)
        if marked:
            ours.add(pid)
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return {pid: commands[pid] for pid in ours - {os.getpid()}}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests marked `realtime`, and those beside a world process, fail RERUNS times before they count as failed."""
    for item in items:
        if item.get_closest_marker("realtime") or "start_world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS, reruns_delay=1))


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fail at the end of the session when a process started in it is still there, and end it."""
    yield
    patience = time.monotonic() + 5.0
    while (left := left_behind()) and time.monotonic() < patience:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes left behind by the tests: {left}"
