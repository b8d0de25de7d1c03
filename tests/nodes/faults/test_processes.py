"""Every node of a recorded trial killed and frozen, at a moment drawn from a seed (FAULT_SEED)."""

from __future__ import annotations

import re
import signal
import time

import pytest
from arm_watch import LEAD_LIMIT_M, REST_WITHIN_S, Watch, assert_moves_again, assert_no_motion, distance, rearm_patiently
from fault_rows import NODES, SEEN, GraphRow, Seen
from moments import moment_s
from running_trial import Trial, TrialGraph, finished, kept_on_disk

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
HOLDING = [row for row in NODES if not row.fault.startswith(("recorder_node", "console_node"))]
UNWATCHED = [row for row in NODES if row not in HOLDING]


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


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in HOLDING])
def test_the_arm_is_held_and_stays(trials: TrialGraph, row: GraphRow) -> None:
    stops = trials.world.status().stop_count
    is_robot = row.fault.startswith("robot_node")
    trial, before, watch = begin(trials, row)

    def held() -> bool:
        return watch.newest.stop_count > stops if is_robot else trials.status.latched

    watch.until(held, row.limit_s, "the arm is not held")
    end_s, end_world_s, detected = watch.real_s, watch.world_s, watch.newest
    watch.look_for(REST_WITHIN_S + 0.1)
    assert watch.last_moving_s <= end_world_s + REST_WITHIN_S
    where = watch.newest.T_base_tcp
    assert distance(detected.T_base_tcp, where) <= LEAD_LIMIT_M
    told = trials.said("watchdog_node", "robot_node is silent") if is_robot else trials.status.reason
    assert re.search(row.word, told), told
    if is_robot:
        trials.ended(trial)  # nobody but the evaluator can say so
    mend(trials, row)
    left = "HOLD_LATCHED" if row.fault != "robot_node killed" else "MAINTENANCE"
    trials.until(lambda: trials.status.mode == left, 20.0, f"the mode is not {left}")
    if row.fault == "evaluator_node killed":
        trials.recorder.end_open()
        trials.until(lambda: finished(trials.episodes) > before, 20.0, "the attempt is not finished")
    elif not is_robot:
        trials.ended(trial)
    SEEN[row.fault] = seen = Seen(
        end_s=end_s, rest_s=watch.last_moving_s, disk=kept_on_disk(trial, trials.episodes, before), told=told
    )
    assert re.search(row.disk, seen.disk), seen.disk
    assert_no_motion(trials, where, mode=left)
    if left == "HOLD_LATCHED":
        rearm_patiently(trials)
        assert_no_motion(trials, where, mode=trials.status.mode, duration_s=0.3)
    assert_moves_again(trials)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in UNWATCHED[:2]])
def test_a_trial_that_is_not_recorded_any_more_ends(trials: TrialGraph, row: GraphRow) -> None:
    trial, before, watch = begin(trials, row)
    watch.until(lambda: trials.status.mode == "READY", row.limit_s, "the lease is not taken back")
    end_s, end_world_s = watch.real_s, watch.world_s
    watch.look_for(REST_WITHIN_S + 0.1)
    assert watch.last_moving_s <= end_world_s + REST_WITHIN_S
    where = watch.newest.T_base_tcp
    trials.until(trial.result.done, 20.0, "the evaluator does not end the trial")
    told = trials.last_record(trial).note
    assert re.search(row.word, told), told
    mend(trials, row)
    trials.until(lambda: not trials.recording(), 20.0, "the attempt is not finished")
    SEEN[row.fault] = seen = Seen(
        end_s=end_s, rest_s=watch.last_moving_s, disk=kept_on_disk(trial, trials.episodes, before), told=told
    )
    assert re.search(row.disk, seen.disk), seen.disk
    assert trials.status.mode == "READY"
    assert_moves_again(trials)
    assert where is not None
