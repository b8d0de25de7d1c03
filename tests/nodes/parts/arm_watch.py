"""The arm after a fault, read from the simulated world: when it moved last, that it stays, and that it moves again."""

from __future__ import annotations

import time

import pytest
from running_graph import Graph

from vla_rft_core.clock import seconds
from vla_rft_core.errors import ModeError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import Source
from vla_rft_sim.protocol import WorldStatus
from vla_rft_sim.world_protocol import STEP_NS

LEAD_LIMIT_M = 0.05
REST_WITHIN_S = 0.4
AT_REST_M_S = 0.005
LATCHED, READY, MAINTENANCE = "HOLD_LATCHED", "READY", "MAINTENANCE"


def distance(a: Pose, b: Pose) -> float:
    return a.distance_to(b)[0]


class Watch:
    """The arm since the injection, in the world's own steps, and this computer's time beside it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.began = graph.world.status()
        self._began_s = time.monotonic()
        self.last_moving_s = 0.0
        self.newest: WorldStatus = self.began

    def look(self) -> WorldStatus:
        status = self.newest = self._graph.world.status()
        if status.speed > AT_REST_M_S:
            self.last_moving_s = self.world_s
        return status

    @property
    def world_s(self) -> float:
        """Seconds of the world since the injection."""
        return (self.newest.steps - self.began.steps) * seconds(STEP_NS)

    @property
    def real_s(self) -> float:
        return time.monotonic() - self._began_s

    def until(self, condition, timeout_s: float, otherwise: str) -> None:
        """Look at the arm until the condition holds."""
        while not condition():
            assert self.real_s < timeout_s, f"{otherwise} within {timeout_s:g} s: {self._graph.cell.status}"
            self.look()
            time.sleep(0.005)
        self.look()

    def look_for(self, duration_s: float) -> None:
        """Look at the arm for so long, counted in the world's steps."""
        end = self.world_s + duration_s
        while self.world_s < end:
            self.look()
            time.sleep(0.005)


def assert_no_motion(graph: Graph, where: Pose, *, mode: str, duration_s: float = 0.5) -> None:
    """For so long the arm stays and so does the mode; a good chunk is rejected, and nobody may become active."""
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        assert distance(where, graph.world.status().T_base_tcp) < 0.005
        assert graph.status.mode == mode, graph.status
        time.sleep(0.02)
    outcome = graph.cell.submit(graph.message())
    assert not outcome.accepted
    assert mode in outcome.reason
    if mode != READY:
        with pytest.raises(ModeError, match="re-arm" if mode == LATCHED else "READY first"):
            graph.cell.set_mode("ACTIVE", "teleop")
    assert distance(where, graph.world.status().T_base_tcp) < 0.005


def rearm_patiently(graph: Graph, timeout_s: float = 10.0) -> None:
    """`Rearm` once the watchdog sees that all is well again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return graph.cell.rearm("terminal")
        except ModeError:
            assert time.monotonic() < deadline, f"not re-armed within {timeout_s:g} s: {graph.status}"
        time.sleep(0.1)


def assert_moves_again(graph: Graph) -> None:
    """Ready, active, a chunk: the arm goes where it is told, here towards home."""
    graph.cell.ready()
    before = graph.world.status()
    graph.cell.set_mode("ACTIVE", "replay")
    dx = 0.01 if before.T_base_tcp.position[0] < graph.spec.home.position[0] else -0.01
    assert graph.cell.submit(graph.message(3, dx=dx, source=Source.REPLAY)).accepted
    graph.until(
        lambda: distance(before.T_base_tcp, graph.world.status().T_base_tcp) > 0.02, 3.0, "the arm does not move again"
    )


def comes_to_rest(watch: Watch) -> Pose:
    """Where the arm rests: soon after what was just seen, and no further from there than the lead limit."""
    since_s, seen = watch.world_s, watch.newest
    watch.look_for(REST_WITHIN_S + 0.1)
    assert watch.last_moving_s <= since_s + REST_WITHIN_S
    where = watch.newest.T_base_tcp
    assert distance(seen.T_base_tcp, where) <= LEAD_LIMIT_M
    return where


def leave_hold(graph: Graph, where: Pose, *, mode: str = LATCHED) -> None:
    """The fault is gone: nothing moves, nor after `Rearm`; then it does, for a source in READY."""
    assert_no_motion(graph, where, mode=mode)
    if mode == LATCHED:
        rearm_patiently(graph)
        assert_no_motion(graph, where, mode=graph.status.mode, duration_s=0.3)
    assert_moves_again(graph)
