"""The operator's page while a trial runs: its node dies or freezes, or its operator closes it. The trial goes on."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from arm_watch import Watch
from console_page import LOST_WORDS, Page
from fault_rows import CONSOLE, SEEN, GraphRow, Seen
from moments import moment_s
from running_trial import TrialGraph, finished, kept_on_disk

from vla_rft_nodes.console import server

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

NODE = "console_node"
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


@pytest.fixture
def page(trials: TrialGraph) -> Iterator[Page]:
    """Ada's, who has control."""
    trials.thaw()
    if not trials.runs(NODE):
        trials.supervisor.start(NODE)
    opened = Page(trials.port)
    opened.say("take", name="ada")
    trials.until(lambda: opened.state.get("holder") == "ada", 30.0, "ada does not get control")
    yield opened
    opened.close()
    trials.thaw()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in CONSOLE])
def test_the_trial_goes_on(trials: TrialGraph, page: Page, row: GraphRow) -> None:
    before = finished(trials.episodes)
    trial = trials.begin_trial()
    time.sleep(moment_s(row.fault) / 2)
    assert trials.status.mode == "ACTIVE", trials.status.reason
    if row.fault.startswith(NODE):
        watch = Watch(trials)
        trials.supervisor.send_signal(NODE, SIGNALS[row.fault.split()[1]])
        watch.until(lambda: page.lost, row.limit_s, "the page does not notice")
        told = f"the page: {LOST_WORDS}"
        assert LOST_WORDS in (server.STATIC / "banner.js").read_text()
    else:
        other = Page(trials.port)
        trials.until(lambda: other.state.get("holder") == "ada", 10.0, "the other page does not know ada")
        assert not page.lost
        watch = Watch(trials)
        page.close()
        watch.until(lambda: other.state["holder"] == "", row.limit_s, "ada still has control")
        told = "another page: nobody has control"
        other.close()
    end_s = watch.real_s
    watch.look_for(1.0)
    assert watch.last_moving_s > min(end_s, 1.0), "it does not go on"
    assert not trials.status.latched, trials.status.reason
    if not trial.result.done():
        trials.say("failure")
    trials.ended(trial)
    assert re.search(row.word, told), told
    disk = kept_on_disk(trial, trials.episodes, before)
    assert re.search(row.disk, disk), disk
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=None, disk=disk, told=told)
    if row.fault.endswith("killed"):
        trials.supervisor.start(NODE)
