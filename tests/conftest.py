"""What every test session gets: its own ROS domain, a headless GL, and a look for processes left behind.

Tests marked `realtime` run the graph against the clock. One that fails is run again, and when it still fails on a
computer that held up a waiting process for longer than the graph's watchdogs allow, it is reported as skipped, with
the time measured: whether the graph keeps real time cannot be told there.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

SESSION = uuid.uuid4().hex
RERUNS = int(os.environ.get("VLA_RFT_RERUNS", "3"))
STALL_S = 0.15
"""A waiting process that is woken this late: with the graph's own periods on top, watchdogs (0.2 s) go off."""
BOOTSTRAP = Path(__file__).parents[1] / "ros2_ws" / "bootstrap.py"


END_WITH_THEIR_OWNER = ("multiprocessing.resource_tracker", "host_stalls.py")
STALLS: pytest.StashKey[HostStalls] = pytest.StashKey()


def headless_gl() -> str:
    """Return MuJoCo's name of the headless GL of this machine, as found by set-up's own probe."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec is not None and spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    return bootstrap.headless_gl() or "disable"


def free_domain() -> int:
    """A ROS domain that no other test session on this computer has: locked until this process ends."""
    for number in random.SystemRandom().sample(range(1, 101), 100):
        path = Path(tempfile.gettempdir(), f"vla-rft-test-domain-{os.getuid()}-{number}")
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        os.close(lock)
    raise RuntimeError("a hundred test sessions run on this computer already")


# Set before any test module is imported: MuJoCo and Fast DDS read these once.
os.environ["VLA_RFT_TEST_SESSION"] = SESSION
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
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
        if state == "Z" or any(name in commands[pid] for name in END_WITH_THEIR_OWNER):
            continue
        parents[pid] = int(parent)
        if marked:
            ours.add(pid)
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return {pid: commands[pid] for pid in ours - {os.getpid()}}


class HostStalls:
    """How late this computer wakes who waits, noted by a process of its own (`host_stalls.py`)."""

    def __init__(self) -> None:
        self._notes = Path(tempfile.mkdtemp(prefix="host-stalls-")) / "notes"
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("host_stalls.py")), str(self._notes)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def longest_since(self, began: float) -> float:
        """The worst lateness [s] since `began` (`time.monotonic`)."""
        notes = [line.split() for line in self._notes.read_text().splitlines()]
        return max((float(late) for at, late in notes if float(at) >= began), default=0.0)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._notes.unlink(missing_ok=True)
        self._notes.parent.rmdir()


def is_realtime(item: pytest.Item) -> bool:
    """Marked so, or running beside a world process."""
    return bool(item.get_closest_marker("realtime")) or "start_world" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let real-time tests fail RERUNS times before they count as failed, and torchruns, whose gloo may die at exit."""
    for item in items:
        if is_realtime(item) or "run_together" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS, reruns_delay=1))


def pytest_configure(config: pytest.Config) -> None:
    """Watch the host for the length of the session."""
    if not config.option.collectonly:
        stalls = config.stash[STALLS] = HostStalls()
        config.add_cleanup(stalls.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A real-time test's last failure counts as skipped where the host stalled meanwhile."""
    report = yield
    last = getattr(item, "execution_count", RERUNS + 1) > RERUNS
    if report.failed and last and is_realtime(item) and call.when != "teardown":
        late = item.config.stash[STALLS].longest_since(time.monotonic() - call.duration)
        if late >= STALL_S:
            reason = f"this computer woke a waiting process {1e3 * late:.0f} ms late; then failed: {call.excinfo.value}"
            report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1], f"Skipped: {reason}")
    return report


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
