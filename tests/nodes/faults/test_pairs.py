"""Two faults in one recorded trial, drawn with the time between them from a seed (FAULT_PAIRS_SEED)."""

from __future__ import annotations

import re
import signal
import time

import pytest
from arm_watch import LATCHED, MAINTENANCE, REST_WITHIN_S, Watch, assert_moves_again, distance
from fault_pairs import Pair, pairs
from fault_rows import PAIRS, SEEN, Seen
from moments import moment_s
from running_trial import TrialGraph, finished, kept_on_disk

from vla_rft_core.geometry import Pose
from vla_rft_sim.protocol import FAULTS

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
STILL_M = 0.005


def inject(graph: TrialGraph, fault: str) -> None:
    if fault in FAULTS:
        graph.world.inject(fault)
    else:
        node, how = fault.split()
        graph.supervisor.send_signal(node, SIGNALS[how])


def mend(graph: TrialGraph) -> None:
    """Everything is there again, and nothing is broken any more but what READY has to clear."""
    graph.thaw()
    for fault in FAULTS:
        if fault != "minor_fault":
            graph.world.inject(fault, active=False)
    for name in graph.processes:
        if not graph.runs(name):
            graph.supervisor.start(name)


def stays(graph: TrialGraph, watch: Watch, where: Pose, duration_s: float) -> None:
    """For so long the arm is where it was."""
    watch.look_for(duration_s)
    assert distance(where, watch.newest.T_base_tcp) < STILL_M


@pytest.mark.parametrize("pair", [pytest.param(pair, id=pair.name) for pair in pairs()])
def test_the_arm_rests_and_stays(trials: TrialGraph, pair: Pair) -> None:
    (row,) = [row for row in PAIRS if row.fault == pair.name]
    before = finished(trials.episodes)
    trial = trials.begin_trial()
    time.sleep(moment_s(pair.name) / 2)
    assert trials.status.mode == "ACTIVE", trials.status.reason
    watch = Watch(trials)
    inject(trials, pair.first)
    watch.look_for(pair.gap_s)
    inject(trials, pair.second)
    watch.look_for(pair.limit_s + REST_WITHIN_S - watch.world_s)
    rest_s = watch.last_moving_s
    watch.look_for(1.0)
    assert watch.last_moving_s == rest_s, "it moves later than it may"
    where = watch.newest.T_base_tcp

    mend(trials)
    modes = (MAINTENANCE,) if "robot_node killed" in (pair.first, pair.second) else (LATCHED, MAINTENANCE)
    trials.until(lambda: trials.status.mode in modes, 30.0, "the arm is not held")
    told = trials.status.reason or trials.status.mode
    stays(trials, watch, where, 1.0)
    if "evaluator_node killed" not in (pair.first, pair.second):
        trials.ended(trial)
    elif trials.recording():
        trials.recorder.end_open()
    trials.until(lambda: not trials.recording(), 20.0, "the attempt is not finished")
    disk = kept_on_disk(trial, trials.episodes, before)
    assert re.search(row.disk, disk), disk
    stays(trials, watch, where, 0.5)
    trials.cell.connect(30.0)
    trials.cell.recover("terminal", timeout_s=30.0)
    stays(trials, watch, where, 0.5)
    assert_moves_again(trials)
    SEEN[row.fault] = Seen(end_s=rest_s, rest_s=rest_s, disk=disk, told=told)
