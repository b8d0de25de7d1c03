"""The real graph for tests: the cell with the expert as teleoperation device, and a client beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_graph import Graph


@pytest.fixture(scope="module", autouse=True)
def no_shared_memory_of_the_dead() -> None:
    """Killed nodes leave Fast DDS segments behind, in this session or before it: later ones can lose answers."""
    subprocess.run([str(Path(sys.executable).with_name("fastdds")), "shm", "clean"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """One running graph for a module's tests."""
    running = Graph(tmp_path_factory.mktemp("log"))
    yield running
    running.close()
