"""The fault matrix: each fault injected in mid-motion into the real processes ends as documented, and nothing resumes.

The rows are the table of `docs/faults.md`; the run prints it with its own times, and writes it where `FAULTS_MD` names
a file. The arm is read from the simulated world, not from our own messages.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest
from arm_watch import (
    LATCHED,
    LEAD_LIMIT_M,
    MAINTENANCE,
    READY,
    REST_WITHIN_S,
    Watch,
    assert_moves_again,
    assert_no_motion,
    distance,
    rearm_patiently,
)
from fault_tables import DOCUMENT, head_of, line_of, publish, rows_of, table_of

from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.geometry import Pose

MAX_COMMANDS_HZ = 110.0

# As in test_graph.py: a computer that is busy elsewhere latches a hold of its own; such a test is run again.
on_the_graph = [pytest.mark.ros, pytest.mark.realtime]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault of the matrix: where it must end, within what time, and the way out."""

    fault: str
    end: str
    """The documented end state, in words."""
    word: str
    """What the operator is told contains this (a regular expression)."""
    limit_s: float
    """From the injection to the end state; a limit for a busy computer."""
    after_rearm: str = MAINTENANCE
    """The mode that `Rearm` leads to: MAINTENANCE where the arm left its motion mode."""
    refused: str = ""
    """Part of the sentence that refuses READY while the fault is still there; empty where READY ends the fault."""
    withdrawn: bool = True
    """It goes away by itself or by a person's hand; the others only by `SetMode(READY)`, which clears them."""
    rearm_refused: bool = False
    """`Rearm` is refused as long as the fault is there."""
    rest_s: float = REST_WITHIN_S
    """How long after the end state the arm may still move; negative: it rests so long before."""
    stall_s: float = 0.0
    """For so long robot_node can send nothing; what it would have sent is not made up for."""
    way_out: str


OUT = "`Rearm` (→ MAINTENANCE), `SetMode(READY)`"
BOX_ROWS = [
    Row(
        fault="estop",
        end="HOLD_LATCHED",
        word="ESTOP_NOT_RELEASED",
        limit_s=0.5,
        refused="emergency stop is pressed",
        way_out=f"release it; {OUT}, refused while it is pressed",
    ),
    Row(
        fault="minor_fault",
        end="HOLD_LATCHED",
        word="MINOR_FAULT",
        limit_s=0.5,
        withdrawn=False,
        way_out=f"{OUT}, which clears the fault",
    ),
    Row(
        fault="critical_fault",
        end="HOLD_LATCHED",
        word="CRITICAL_FAULT",
        limit_s=0.5,
        withdrawn=False,
        way_out=f"{OUT}, which clears the fault; if it stays, power-cycle the control box",
    ),
    Row(
        fault="reduced_state",
        end="HOLD_LATCHED",
        word="IN_REDUCED_STATE",
        limit_s=0.5,
        refused="reduced state",
        way_out=f"restore the safety input; {OUT}, refused before",
    ),
    Row(
        fault="manual_mode",
        end="HOLD_LATCHED",
        word="IN_MANUAL_MODE",
        limit_s=0.5,
        refused="manual mode",
        way_out=f"switch to Auto (Remote); {OUT}, refused before",
    ),
    Row(
        fault="joint_limit",
        end="HOLD_LATCHED",
        word="IN_RECOVERY_STATE",
        limit_s=0.5,
        refused="outside its allowed range",
        way_out=f"automatic recovery in Elements and a reboot of the control box; {OUT}, refused before",
    ),
    Row(
        fault="ft_not_zeroed",
        end="HOLD_LATCHED",
        word="301004",
        limit_s=0.5,
        refused="301004",
        way_out=f"{OUT}, which zeroes the force sensor; refused while zeroing does not help",
    ),
    Row(
        fault="connection_lost",
        end="HOLD_LATCHED",
        word="connection to the arm is lost",
        limit_s=1.0,
        rearm_refused=True,
        way_out=f"restore the connection; {OUT}; `Rearm` is refused before",
    ),
    Row(
        fault="gripper_not_enabled",
        end="HOLD_LATCHED at the next width command",
        word="gripper",
        limit_s=8.0,
        after_rearm=READY,
        way_out="`Rearm` (→ READY), `SetMode(READY)`, which enables and initialises the gripper",
    ),
    Row(
        fault="gil_stall",
        end="HOLD_LATCHED after 3 s; the watchdog stops the arm meanwhile",
        word="robot state is|motion mode|watchdog",
        limit_s=4.5,
        rest_s=-1.5,
        stall_s=3.0,
        way_out=OUT,
    ),
]
CAMERA_ROWS = [
    Row(
        fault="camera_unplugged",
        end="HOLD_LATCHED",
        word="silent",
        limit_s=1.5,
        after_rearm=READY,
        rearm_refused=True,
        way_out="plug it in (after some 4 s camera_node has ended: start it again); `Rearm` (→ READY), refused before",
    ),
    Row(
        fault="camera_frozen",
        end="HOLD_LATCHED",
        word="frozen",
        limit_s=1.5,
        after_rearm=READY,
        rearm_refused=True,
        way_out="once the picture changes again: `Rearm` (→ READY), refused before",
    ),
]
USB2_ROW = Row(
    fault="camera_usb2",
    end="camera_node, started, ends with exit 1; HOLD_LATCHED from its silence on",
    word="USB 2",
    limit_s=10.0,
    after_rearm=READY,
    rearm_refused=True,
    way_out="a USB 3 port and cable, start camera_node; `Rearm` (→ READY), refused before",
)
MISSED_ROW = Row(
    fault="grasp_missed",
    end="READY, the source ends by itself, no success",
    word="",
    limit_s=25.0,
    after_rearm=READY,
    way_out="lay the towel out and start again; nothing is latched",
)
ROWS = [*BOX_ROWS, *CAMERA_ROWS, USB2_ROW, MISSED_ROW]


@dataclass(frozen=True)
class Measured:
    """What one run of a row showed."""

    end_s: float
    """From the injection to the end state."""
    rest_s: float
    """From the injection to the last movement of the arm."""
    told: str


MEASURED: dict[str, Measured] = {}


def markdown() -> str:
    """The table of all rows with the times of this run."""
    measured = f"measured here on {date.today()}"
    text = head_of("fault", "end state", "limit", measured, "what the operator is told", "way out")
    for row in ROWS:
        seen = MEASURED.get(row.fault)
        times = f"{seen.end_s:.2f} s, at rest after {seen.rest_s:.2f} s" if seen else "not measured"
        text += line_of(row.fault, row.end, f"{row.limit_s:g} s", times, seen.told if seen else "", row.way_out)
    return text


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """At the end of the module, print what was measured; put it into the file that FAULTS_MD names."""
    yield
    if MEASURED:
        publish(markdown(), "devices", request.config)


def leave_latch(graph, row: Row, where: Pose) -> None:
    """The fault is gone: nothing moves before `Rearm`, nor after it before READY and a source."""
    assert_no_motion(graph, where, mode=LATCHED)
    if row.refused:
        graph.world.inject(row.fault)
    rearm_patiently(graph)
    assert graph.status.mode == row.after_rearm, graph.status
    if row.refused:
        with pytest.raises(DeviceError, match=row.refused):
            graph.cell.set_mode("READY")
        graph.world.inject(row.fault, active=False)
    assert_no_motion(graph, where, mode=row.after_rearm, duration_s=0.3)
    assert_moves_again(graph)


# --- the matrix ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in (*BOX_ROWS, *CAMERA_ROWS)])
class TestLatches:
    pytestmark = on_the_graph

    def test_a_fault_in_mid_motion_ends_in_a_latched_hold(self, graph, row):
        graph.start_folding()
        watch = Watch(graph)
        graph.world.inject(row.fault)
        watch.until(lambda: graph.status.latched, row.limit_s, "no hold was latched")
        end_s, end_world_s, detected, reason = watch.real_s, watch.world_s, watch.newest, graph.status.reason
        assert re.search(row.word, reason), reason
        watch.look_for(REST_WITHIN_S + 0.1)
        assert watch.last_moving_s <= end_world_s + row.rest_s
        where = watch.newest.T_base_tcp
        assert watch.newest.commands - watch.began.commands <= MAX_COMMANDS_HZ * (end_s - row.stall_s) + 10
        assert distance(detected.T_base_tcp, where) <= LEAD_LIMIT_M
        MEASURED[row.fault] = Measured(end_s, watch.last_moving_s, reason)
        if row.rearm_refused:
            with pytest.raises(ModeError, match="refused while"):
                graph.cell.rearm("terminal")
        if row.withdrawn:
            graph.world.inject(row.fault, active=False)
        leave_latch(graph, row, where)


class TestOthers:
    pytestmark = on_the_graph

    def test_a_camera_at_usb_2_is_refused_when_it_is_opened(self, graph):
        row = USB2_ROW
        graph.start_folding()
        graph.world.inject(row.fault)
        graph.supervisor.send_signal("camera_node", signal.SIGINT)
        graph.until(lambda: graph.status.latched, 3.0, "no hold was latched")
        graph.until(lambda: graph.supervisor.returncode("camera_node") is not None, 5.0, "camera_node does not end")
        graph.supervisor.poll()
        graph.supervisor.start("camera_node")
        watch = Watch(graph)
        graph.until(
            lambda: graph.supervisor.returncode("camera_node") is not None, row.limit_s, "camera_node does not refuse"
        )
        end_s = watch.real_s
        watch.look()
        (ended,) = [end for end in graph.supervisor.poll() if end.spec.name == "camera_node"]
        assert ended.returncode == 1
        assert len(ended.tail) == 1, ended.tail
        assert row.word in ended.tail[0]
        MEASURED[row.fault] = Measured(end_s, watch.last_moving_s, ended.tail[0])
        with pytest.raises(ModeError, match="wrong"):
            graph.cell.rearm("terminal")
        graph.world.inject(row.fault, active=False)
        graph.supervisor.start("camera_node")
        leave_latch(graph, row, watch.newest.T_base_tcp)

    def test_a_missed_grasp_ends_without_success_and_without_a_latch(self, graph):
        row = MISSED_ROW
        graph.start_folding(seed=PLANNED_SEED)
        watch = Watch(graph)
        graph.world.reset(MOVED_SEED)  # the expert has planned, and looks no more
        most_grasped = 0

        def ended() -> bool:
            nonlocal most_grasped
            most_grasped = max(most_grasped, graph.truth.grasped_vertices)
            return graph.status.mode != "ACTIVE"

        watch.until(ended, row.limit_s, "the source does not end")
        end_s = watch.real_s
        assert graph.status.mode == READY, graph.status.reason
        assert most_grasped == 0
        watch.look_for(REST_WITHIN_S + 0.1)
        MEASURED[row.fault] = Measured(end_s, watch.last_moving_s, "nothing; the trial is no success")
        assert not graph.world.truth().success
        assert_no_motion(graph, watch.newest.T_base_tcp, mode=READY)
        assert_moves_again(graph)


PLANNED_SEED, MOVED_SEED = 8, 25
"""Far enough apart that fingers over the edge of the first towel close beside the second one."""


# --- the document -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in ROWS])
def test_the_document_has_every_row_with_its_end_state_and_limit(row):
    cells = rows_of(table_of(DOCUMENT.read_text(), "devices"))[row.fault]
    assert cells[1] == row.end
    assert cells[2] == f"{row.limit_s:g} s"
    measured = re.match(r"([\d.]+) s, at rest after ([\d.]+) s", cells[3])
    assert measured, cells[3]
    assert float(measured[1]) <= row.limit_s
    assert re.search(row.word, cells[4])
    assert cells[5] == row.way_out


def test_the_document_has_no_row_that_is_not_tested():
    assert list(rows_of(table_of(DOCUMENT.read_text(), "devices"))) == [row.fault for row in ROWS]
    assert len(ROWS) >= 14
