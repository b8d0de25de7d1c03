"""Pictures that come, but three per second or white: the trial goes on, its people are told, and no next one starts."""

from __future__ import annotations

import re
import time

import pytest
from arm_watch import Watch, distance
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fault_rows import CAMERAS, SEEN, GraphRow, Seen
from moments import moment_s
from running_trial import TrialGraph, finished, kept_on_disk

from vla_rft_interfaces.action import RunTrials
from vla_rft_nodes import qos, topics

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]


class Troubles:
    """What camera_node says is wrong."""

    def __init__(self, graph: TrialGraph) -> None:
        self.words = ""
        graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._hear, qos.EVENT)

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "camera_node":
                self.words = "" if status.level == DiagnosticStatus.OK else status.message


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in CAMERAS])
def test_the_trial_goes_on_and_no_next_one_starts(trials: TrialGraph, row: GraphRow) -> None:
    troubles, before = Troubles(trials), finished(trials.episodes)
    trial = trials.begin_trial()
    time.sleep(moment_s(row.fault) / 2)
    assert trials.status.mode == "ACTIVE", trials.status.reason
    watch = Watch(trials)
    trials.world.inject(row.fault)
    watch.until(lambda: bool(re.search(row.word, troubles.words)), row.limit_s, "nobody is told")
    end_s, told = watch.real_s, troubles.words
    watch.look_for(1.0)
    assert trials.status.mode == "ACTIVE", trials.status.reason
    trials.say("failure")
    trials.ended(trial)
    disk = kept_on_disk(trial, trials.episodes, before)
    assert re.search(row.disk, disk), disk

    refused = trials.ended(trials.ask_for_trial(seed=1))
    assert refused.error_code == RunTrials.Result.NOT_STARTED
    assert "preflight" in refused.error_msg and re.search(row.word, refused.error_msg), refused.error_msg
    where = trials.world.status().T_base_tcp
    trials.world.inject(row.fault, active=False)
    watch.look_for(1.0)
    assert distance(where, watch.newest.T_base_tcp) < 0.005
    trials.until(lambda: not troubles.words, 10.0, "camera_node still complains")
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=None, disk=disk, told=f"camera_node: {told}")
