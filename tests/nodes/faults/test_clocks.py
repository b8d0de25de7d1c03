"""A process whose host clock is set by five seconds in mid-motion; the real clock stays as it is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import jumping_clock
import pytest
from arm_watch import Watch, assert_moves_again, comes_to_rest, distance, leave_hold
from fault_rows import CLOCKS, SEEN, SOURCE_CLOCKS, GraphRow, Seen
from jumping_clock import write_jump
from moments import moment_s
from running_graph import PROCESSES, Graph, started_by

from vla_rft_interfaces.msg import ChunkVerdict
from vla_rft_nodes import qos, topics
from vla_rft_nodes.bringup import load

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

NODES = ("robot_node", "watchdog_node", "teleop_node")


class ClockGraph(Graph):
    """The expert as teleoperation device; the clocks of three nodes can be set."""

    def __init__(self, folder: Path) -> None:
        self._clocks = {name: folder / f"{name}.clock" for name in NODES}
        for path in self._clocks.values():
            write_jump(path, 0.0)
        plan = load("teleop", {"device": "expert"})
        for name, path in self._clocks.items():
            plan = started_by(plan, name, jumping_clock.__file__, name, str(path))
        super().__init__(folder / "log", plan=plan, processes=PROCESSES)
        self.refused: list[str] = []
        self.node.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, self._on_verdict, qos.EVENT)

    def set_clock(self, node: str, jump_s: float) -> None:
        write_jump(self._clocks[node], jump_s)

    def _on_verdict(self, verdict: ChunkVerdict) -> None:
        if not verdict.accepted:
            self.refused.append(verdict.reason)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClockGraph]:
    running = ClockGraph(tmp_path_factory.mktemp("clocks"))
    yield running
    running.close()


def jump(graph: ClockGraph, row: GraphRow) -> tuple[Watch, str]:
    """The expert folds; then the clock of one node is set: (the watch since, the node)."""
    found = re.fullmatch(r"clock of (\w+) ([+-]\d) s", row.fault)
    assert found is not None
    for name in NODES:
        graph.set_clock(name, 0.0)
    time.sleep(0.2)
    graph.start_folding()
    time.sleep(moment_s(row.fault) / 4)
    assert graph.status.mode == "ACTIVE", graph.status.reason
    graph.refused.clear()
    watch = Watch(graph)
    graph.set_clock(found[1], float(found[2]))
    return watch, found[1]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in CLOCKS])
def test_a_jump_is_held_at_once(clocks: ClockGraph, row: GraphRow) -> None:
    watch, node = jump(clocks, row)
    watch.until(lambda: clocks.status.latched, row.limit_s, "the arm is not held")
    end_s, told = watch.real_s, clocks.status.reason
    assert re.search(row.word, told), told
    where = comes_to_rest(watch)
    clocks.set_clock(node, 0.0)
    time.sleep(0.5)
    leave_hold(clocks, where)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, told=told)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in SOURCE_CLOCKS])
def test_what_a_source_with_a_wrong_clock_sends_is_refused(clocks: ClockGraph, row: GraphRow) -> None:
    watch, node = jump(clocks, row)
    watch.until(lambda: bool(clocks.refused), row.limit_s, "nothing is refused")
    end_s, told = watch.real_s, clocks.refused[0]
    assert re.search(row.word, told), told
    watch.look_for(1.0)
    where = watch.newest.T_base_tcp
    assert watch.last_moving_s <= end_s + row.limit_s
    watch.look_for(1.0)
    assert distance(where, watch.newest.T_base_tcp) < 0.005
    assert all(re.search(row.word, reason) for reason in clocks.refused)
    clocks.cell.set_mode("READY")
    clocks.set_clock(node, 0.0)
    assert_moves_again(clocks)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, told=told)
