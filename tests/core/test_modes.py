"""The mode machine: every transition, allowed or refused, from one table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core.errors import ModeError
from vla_rft_core.modes import REARM_ORIGINS, Mode, ModeMachine
from vla_rft_core.types import Source

Step = tuple[str, object]

STATES: dict[str, tuple[Step, ...]] = {
    "MAINTENANCE": (),
    "READY": (("ready", None),),
    "LATCHED": (("ready", None), ("latch", "first")),
} | {source.upper(): (("ready", None), ("activate", source)) for source in Source}


def in_state(name: str) -> ModeMachine:
    machine = ModeMachine()
    for step in STATES[name]:
        do(machine, step)
    return machine


def do(machine: ModeMachine, step: Step) -> object:
    method: Callable[..., object] = getattr(machine, step[0])
    return method() if step[1] is None else method(step[1])


def named(machine: ModeMachine) -> str:
    if machine.mode is Mode.ACTIVE:
        return str(machine.source).upper()
    return "LATCHED" if machine.mode is Mode.HOLD_LATCHED else str(machine.mode)


TABLE = """
             ready   maintain     release      latch        rearm  policy  teleop  replay  home
MAINTENANCE  READY   MAINTENANCE  MAINTENANCE  MAINTENANCE  -      -       -       -       -
READY        READY   MAINTENANCE  READY        LATCHED      -      POLICY  TELEOP  REPLAY  HOME
POLICY       -       MAINTENANCE  READY        LATCHED      -      POLICY  TELEOP  -       -
TELEOP       -       MAINTENANCE  READY        LATCHED      -      -       TELEOP  -       -
REPLAY       -       MAINTENANCE  READY        LATCHED      -      -       TELEOP  REPLAY  -
HOME         -       MAINTENANCE  READY        LATCHED      -      -       -       -       HOME
LATCHED      -       -            LATCHED      LATCHED      READY  -       -       -       -
"""
"""Row: the mode before; column: the event; cell: the mode after, or - where it is refused and nothing changes."""

HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CASES = [(row[0], event, after) for row in ROWS for event, after in zip(HEADER, row[1:], strict=True)]


def as_step(event: str) -> Step:
    return {"latch": ("latch", "second"), "rearm": ("rearm", "terminal")}.get(
        event, ("activate", Source(event)) if event in list(Source) else (event, None)
    )


def test_the_table_is_complete() -> None:
    assert {case[0] for case in CASES} == set(STATES) and len(CASES) == 7 * 9


@pytest.mark.parametrize(("before", "event", "after"), CASES)
def test_transition(before: str, event: str, after: str) -> None:
    machine = in_state(before)
    if after == "-":
        with pytest.raises(ModeError) as caught:
            do(machine, as_step(event))
        assert len(str(caught.value)) > 20
    else:
        do(machine, as_step(event))
    assert named(machine) == (before if after == "-" else after)


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(ModeError, match="policy cannot become active from MAINTENANCE; set the mode READY first"):
        in_state("MAINTENANCE").activate(Source.POLICY)
    with pytest.raises(ModeError, match=r"READY cannot be entered from HOLD_LATCHED \(first\); re-arm first"):
        in_state("LATCHED").ready()
    with pytest.raises(ModeError, match=r"READY cannot be entered from ACTIVE\(policy\); release the lease first"):
        in_state("POLICY").ready()
    with pytest.raises(ModeError, match="policy cannot become active: teleop holds the lease"):
        in_state("TELEOP").activate(Source.POLICY)
    with pytest.raises(ModeError, match="nothing to re-arm: the mode is READY"):
        in_state("READY").rearm("terminal")


@pytest.mark.parametrize("holder", ["POLICY", "REPLAY"])
def test_teleoperation_takes_over_and_it_counts_as_intervention(holder: str) -> None:
    machine = in_state(holder)
    machine.activate(Source.TELEOP)
    machine.activate(Source.TELEOP)
    assert (machine.source, machine.interventions) == (Source.TELEOP, 1)


def test_the_first_reason_of_a_latch_is_kept_until_rearmed() -> None:
    machine = in_state("POLICY")
    assert machine.latch("contact") is True
    assert machine.latch("clock") is False
    assert (machine.reason, machine.source) == ("contact", None)
    machine.rearm("pedal")
    assert (machine.mode, machine.reason) == (Mode.READY, "")


def test_in_maintenance_nothing_latches() -> None:
    machine = ModeMachine()
    assert machine.latch("contact") is False
    assert (machine.mode, machine.reason) == (Mode.MAINTENANCE, "")


@pytest.mark.parametrize("origin", REARM_ORIGINS)
def test_rearming_next_to_the_robot(origin: str) -> None:
    machine = in_state("LATCHED")
    machine.rearm(origin)
    assert machine.mode is Mode.READY


@pytest.mark.parametrize("origin", ["remote", "web", "", "Terminal", "terminal "])
def test_rearming_from_elsewhere_is_refused(origin: str) -> None:
    machine = in_state("LATCHED")
    with pytest.raises(ModeError, match="is refused; allowed: terminal, pedal, loopback"):
        machine.rearm(origin)
    assert (machine.mode, machine.reason) == (Mode.HOLD_LATCHED, "first")


@given(st.lists(st.sampled_from([*HEADER, "rearm remotely"]), max_size=30))
def test_no_sequence_of_events_breaks_the_invariants(events: list[str]) -> None:
    machine = ModeMachine()
    for event in events:
        before = machine.mode
        try:
            do(machine, ("rearm", "remote") if event == "rearm remotely" else as_step(event))
        except ModeError:
            assert machine.mode is before
        assert (machine.source is not None) == (machine.mode is Mode.ACTIVE)
        assert bool(machine.reason) == (machine.mode is Mode.HOLD_LATCHED)
        if before is Mode.HOLD_LATCHED and machine.mode is not before:
            assert event == "rearm" and machine.mode is Mode.READY
        if machine.mode is Mode.ACTIVE and before is not Mode.ACTIVE:
            assert before is Mode.READY
