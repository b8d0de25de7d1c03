"""Niceness of a process, and of the session that it leads; real time of a thread."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from vla_rft_core.priority import in_real_time

NONE = "none"
GROUP = """
from pathlib import Path
def group():
    file = Path("/proc/self/autogroup")
    words = file.read_text().split() if file.exists() else []
    return words[-1] if words else "none"
"""
SAY = f"""
import os
from vla_rft_core.priority import go_first
{GROUP}
before = group()
go_first({{niceness}})
print(os.getpriority(os.PRIO_PROCESS, 0), before, group())
"""


def after(niceness: int, *, leads: bool) -> tuple[int, str, str]:
    """(the process's, its session's before, its session's) after it asked for that; "none" without such groups."""
    command = [sys.executable, "-c", SAY.format(niceness=niceness)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads)
    own, before, session = ended.stdout.split()
    return int(own), before, session


def test_a_process_that_leads_a_session_takes_it_along():
    own, before, session = after(7, leads=True)
    assert own == 7
    assert session == (NONE if before == NONE else "7")


def test_a_session_that_is_somebody_elses_stays_as_it_is():
    own, before, session = after(7, leads=False)
    assert own == 7
    assert session == before


def test_one_thread_alone_runs_in_real_time():
    with ThreadPoolExecutor(1) as thread:
        allowed = thread.submit(in_real_time, 3).result()
        scheduler = thread.submit(os.sched_getscheduler, 0).result()
        priority = thread.submit(os.sched_getparam, 0).result().sched_priority
    assert (scheduler, priority) == ((os.SCHED_FIFO, 3) if allowed else (os.SCHED_OTHER, 0))
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_without_permission_a_thread_stays_as_it_is(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not in_real_time(3)


@pytest.mark.parametrize("leads", [True, False])
def test_what_may_not_be_asked_for_is_no_error(leads: bool):
    assert after(-5, leads=leads)[0] <= 19
