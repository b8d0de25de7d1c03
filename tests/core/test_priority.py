"""Niceness of a process, and of the session that it leads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
SAY = """
import os
from pathlib import Path
from vla_rft_core.priority import go_first
go_first({niceness})
group = Path("/proc/self/autogroup")
print(os.getpriority(os.PRIO_PROCESS, 0), group.read_text().split()[-1] if group.exists() else "none")
"""


def after(niceness: int, *, leads: bool) -> tuple[int, str]:
    """(the process's, its session's) after it asked for that."""
    command = [sys.executable, "-c", SAY.format(niceness=niceness)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads).stdout.split()
    return int(said[0]), said[1]


def test_a_process_that_leads_a_session_takes_it_along():
    own, session = after(7, leads=True)
    assert own == 7
    assert session == ("7" if AUTOGROUP.exists() else "none")


def test_a_session_that_is_somebody_elses_stays_as_it_is():
    before = AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "none"
    assert after(7, leads=False) == (7, before)


@pytest.mark.parametrize("leads", [True, False])
def test_what_may_not_be_asked_for_is_no_error(leads: bool):
    assert after(-5, leads=leads)[0] <= 19
