"""The real graph for tests: the cell with the expert as teleoperation device, and a client beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_graph import Graph, clean_shared_memory


@pytest.fixture(scope="module", autouse=True)
def no_shared_memory_of_the_dead() -> None:
    """Of this session or one before it."""
    clean_shared_memory()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """One running graph for a module's tests."""
    running = Graph(tmp_path_factory.mktemp("log"))
    yield running
    running.close()
