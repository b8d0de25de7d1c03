"""The table of what was measured, at the end of a run; and the graph of a recorded trial."""

from __future__ import annotations

from collections.abc import Iterator

import fault_rows
import pytest
from fault_tables import publish
from running_trial import TrialGraph


@pytest.fixture(scope="session", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Printed, and put into the file that FAULTS_MD names."""
    yield
    if set(fault_rows.SEEN) - {fault_rows.TYPO.fault}:  # a part of that row is tried in every run of the tests
        publish(fault_rows.markdown(), fault_rows.TABLE, request.config)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialGraph]:
    """One running graph for a module's tests, with a keeper's folder of its own."""
    folder = tmp_path_factory.mktemp("trials")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLA_RFT_KEEPER", str(folder / "keeper"))
        running = TrialGraph(folder)
        yield running
        running.close()
