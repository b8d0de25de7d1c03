"""The disk of the episodes full, and a process at its memory limit, while a trial is recorded."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import leaking_node
import pytest
from arm_watch import Watch, comes_to_rest, leave_hold
from fault_rows import DISK, MEMORY, SEEN, Seen
from moments import moment_s
from running_graph import started_by
from running_trial import TrialGraph, finished, kept_on_disk

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

DISK_MB = 256
LEFT_BYTES = 1 << 20
FILE_LIMIT_BYTES = 1 << 20
LEAK = "leak"
NEVER_GB = 1e-6
"""As much as the recorder would ask for: nothing keeps it from writing until the disk is really full."""


class SmallDisk:
    """A file system in memory where one may be mounted; else the recorder's files are limited in size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "faults", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
        self._filler = folder.parent / "filler" if not self.mounted else folder / ".filler"

    def fill(self, recorder: int) -> None:
        """Nothing more can be written, by the recorder at least."""
        if not self.mounted:
            resource.prlimit(recorder, resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, resource.RLIM_INFINITY))
            return
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free - LEFT_BYTES)

    def free(self, recorder: int) -> None:
        """There is space again."""
        if self.mounted:
            self._filler.unlink(missing_ok=True)
        else:
            resource.prlimit(recorder, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path_factory.mktemp("disk") / "episodes")
    yield made
    made.close()


@pytest.fixture(scope="module")
def trials(disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialGraph]:
    """The graph of a recorded trial, with its episodes on the small disk."""
    folder = tmp_path_factory.mktemp("trials")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLA_RFT_KEEPER", str(folder / "keeper"))
        careless = {"disk_needed": NEVER_GB, "disk_reserve": NEVER_GB}
        running = TrialGraph(
            folder,
            episodes=disk.folder,
            recorder=careless,
            changed=lambda plan: started_by(
                plan, "camera_node", leaking_node.__file__, "camera_node", str(folder / LEAK)
            ),
        )
        yield running
        running.close()


def test_a_full_disk_holds_the_arm_and_loses_nothing_earlier(trials: TrialGraph, disk: SmallDisk) -> None:
    row = DISK
    recorder = trials.supervisor.pid("recorder_node")
    disk.free(recorder)
    if not finished(disk.folder):
        trials.ended(trials.begin_trial())  # so that there is something to lose
    before = finished(disk.folder)
    assert before
    trial = trials.begin_trial(seed=1)
    time.sleep(moment_s(row.fault))
    assert trials.status.mode == "ACTIVE", trials.status.reason
    watch = Watch(trials)
    disk.fill(recorder)
    watch.until(lambda: trials.status.latched, row.limit_s, "the arm is not held")
    end_s, told = watch.real_s, trials.status.reason.replace(str(disk.folder), "runs/episodes")
    assert re.search(row.word, told), told
    where = comes_to_rest(watch)
    trials.ended(trial)
    assert finished(disk.folder) >= before  # with the disk still full
    disk.free(recorder)
    found = kept_on_disk(trial, disk.folder, before)
    assert re.search(row.disk, found), found
    leave_hold(trials, where)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, disk=found, told=told)


def test_a_camera_node_without_memory_holds_the_arm(trials: TrialGraph, disk: SmallDisk) -> None:
    row = MEMORY
    disk.free(trials.supervisor.pid("recorder_node"))
    before = finished(disk.folder)
    trial = trials.begin_trial(seed=2)
    time.sleep(moment_s(row.fault))
    assert trials.status.mode == "ACTIVE", trials.status.reason
    watch = Watch(trials)
    told_to_leak = trials.folder / LEAK
    told_to_leak.touch()
    watch.until(lambda: trials.status.latched, row.limit_s, "the arm is not held")
    end_s, told = watch.real_s, trials.status.reason
    assert re.search(row.word, told), told
    where = comes_to_rest(watch)
    told_to_leak.unlink()
    trials.supervisor.send_signal("camera_node", signal.SIGKILL)  # if it has not ended by itself
    trials.until(lambda: not trials.runs("camera_node"), 10.0, "camera_node does not end")
    trials.ended(trial)
    trials.supervisor.start("camera_node")
    found = kept_on_disk(trial, disk.folder, before)
    assert re.search(row.disk, found), found
    leave_hold(trials, where)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, disk=found, told=told)
