"""Every node of a recorded trial killed and frozen, at a moment drawn from a seed (FAULT_SEED)."""

from __future__ import annotations

import re
import signal
import time

import pytest
from arm_watch import LATCHED, MAINTENANCE, READY, Watch, assert_moves_again, comes_to_rest, leave_hold
from fault_rows import NODES, SEEN, GraphRow, Seen
from moments import moment_s
from running_trial import Trial, TrialGraph, finished, kept_on_disk, said_in

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
RECORDER = [row for row in NODES if row.fault.startswith("recorder_node")]
HOLDING = [row for row in NODES if row not in RECORDER]


def begin(graph: TrialGraph, row: GraphRow) -> tuple[Trial, set[str], Watch]:
    """A trial, broken at its moment: (the trial, the episodes that were whole before, the watch since)."""
    node, how = row.fault.split()
    before = finished(graph.episodes)
    trial = graph.begin_trial()
    time.sleep(moment_s(row.fault))
    assert graph.status.mode == "ACTIVE", graph.status.reason
    watch = Watch(graph)
    graph.supervisor.send_signal(node, SIGNALS[how])
    return trial, before, watch


def mend(graph: TrialGraph, row: GraphRow) -> None:
    """The node is there again."""
    node, how = row.fault.split()
    if how == "killed":
        graph.supervisor.start(node)
    else:
        graph.supervisor.send_signal(node, signal.SIGCONT)


def found(graph: TrialGraph, row: GraphRow, trial: Trial, before: set[str], told: str) -> str:
    """What is on disk, in words; it, and what was told, have to be as documented."""
    assert re.search(row.word, told), told
    disk = kept_on_disk(trial, graph.episodes, before)
    assert re.search(row.disk, disk), disk
    return disk


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in HOLDING])
def test_the_arm_is_held_and_stays(trials: TrialGraph, row: GraphRow) -> None:
    stops = trials.world.status().stop_count
    is_robot = row.fault.startswith("robot_node")
    trial, before, watch = begin(trials, row)

    def held() -> bool:
        return watch.newest.stop_count > stops if is_robot else trials.status.latched

    watch.until(held, row.limit_s, "the arm is not held")
    end_s = watch.real_s
    where = comes_to_rest(watch)
    rest_s = watch.last_moving_s
    told = said_in(trials.log_dir, "watchdog_node", "robot_node is silent") if is_robot else trials.status.reason
    if is_robot:
        trials.ended(trial)  # the evaluator finds out by itself
    mend(trials, row)
    left = MAINTENANCE if row.fault == "robot_node killed" else LATCHED
    trials.until(lambda: trials.status.mode == left, 20.0, f"the mode is not {left}")
    if row.fault == "evaluator_node killed":
        trials.recorder.end_open()  # as its next trial does
        trials.until(lambda: finished(trials.episodes) > before, 20.0, "the attempt is not finished")
    else:
        trials.ended(trial)
    disk = found(trials, row, trial, before, told)
    leave_hold(trials, where, mode=left)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=rest_s, disk=disk, told=told)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in RECORDER])
def test_a_trial_that_is_not_recorded_any_more_ends(trials: TrialGraph, row: GraphRow) -> None:
    trial, before, watch = begin(trials, row)
    watch.until(lambda: trials.status.mode == READY, row.limit_s, "the lease is not taken back")
    end_s = watch.real_s
    comes_to_rest(watch)
    rest_s = watch.last_moving_s
    trials.ended(trial)
    mend(trials, row)
    trials.until(lambda: not trials.recording(), 20.0, "the attempt is not finished")
    told = trials.last_record(trial).note
    disk = found(trials, row, trial, before, told)
    assert trials.status.mode == READY
    assert_moves_again(trials)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=rest_s, disk=disk, told=told)
