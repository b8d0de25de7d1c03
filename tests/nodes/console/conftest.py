"""For the console's tests: a snapshot of a quiet cell, and the browser that walks through the page."""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from vla_rft_nodes.console.snapshot import ArmView, DoctorView, RecordingView, Snapshot, TrialsView
from vla_rft_nodes.console.words import arm_words

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def quiet_snapshot() -> Snapshot:
    """A ready arm, nothing recorded, no study; and one number that JSON cannot say."""
    return Snapshot(
        cell="a cell",
        simulated=True,
        arm=ArmView(mode="READY", source="", words=arm_words(mode="READY", source="", reason="", age_s=0.0)),
        nodes=(),
        vitals=(),
        doctor=DoctorView(running=False, words="not asked yet", age_s=None, checks=()),
        recording=RecordingView(
            available=False,
            active=False,
            operator="",
            task="",
            prompt="",
            moment="",
            cue="",
            lines=(),
            kept=0,
            goal=0,
            discarded=0,
            undecided=0,
            per_hour=None,
            attempt_s=None,
            attempt_dropped=0,
            disk="",
            last=None,
            coverage=None,
        ),
        trials=TrialsView(
            available=False,
            running=False,
            study="",
            phase="",
            trial=0,
            settled=0,
            planned=0,
            code="",
            placement="",
            seconds=0.0,
            limit_s=math.nan,
            similarity=None,
            similarity_needed=0.0,
            text="",
            failure_modes=(),
            ended=(),
            outcome="",
            studies=(),
        ),
        suggested={"task": "fold_towel", "prompt": "fold", "count": 50},
        holder="",
        holder_at_cell=False,
        holder_absent_s=0.0,
        viewers=0,
    )


@pytest.fixture
def snapshot() -> Snapshot:
    """See `quiet_snapshot`."""
    return quiet_snapshot()


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright; skipped where either is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
