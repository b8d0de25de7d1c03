"""A real `sim_world` process with the kinematic world, for tests of the process, its frames and its client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class WorldProcess:
    """A started process; `kill` is SIGKILL."""

    process: subprocess.Popen[str]
    address: str
    frames: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def start_world(tmp_path: Path) -> Iterator[Callable[..., WorldProcess]]:
    """`start_world("--seed", "3", name="a")` starts a world and waits until it accepts connections."""
    started: list[WorldProcess] = []

    def start(*options: str, name: str = "world") -> WorldProcess:
        address, frames = str(tmp_path / f"{name}.sock"), tmp_path / f"{name}.frames"
        arguments = ["--world", "kinematic", "--socket", address, "--frames", str(frames), *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "vla_rft_sim.world_process", *arguments], stdout=subprocess.PIPE, text=True
        )
        world = WorldProcess(process, address, frames)
        started.append(world)
        assert process.stdout is not None
        assert process.stdout.readline() == f"sim_world ready {address}\n"
        return world

    yield start
    for world in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(world.process.pid, signal.SIGKILL)
        world.process.wait(10)
        assert world.process.stdout is not None
        world.process.stdout.close()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Poll until `condition` holds; fails naming `what`. The time-out only ends a broken run."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """`wait_until` for tests, which cannot import a conftest."""
    return wait_until
