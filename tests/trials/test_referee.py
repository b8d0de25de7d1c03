"""When a simulated trial is over, and how it failed: from looks as the towel would give them."""

from __future__ import annotations

from typing import Any

import pytest

from vla_rft_trials.protocol import Protocol
from vla_rft_trials.records import Outcome, Termination
from vla_rft_trials.referee import Look, Referee


def judge(protocol: Protocol, *looks: dict[str, Any]):
    """The ending after looks every half second, each a change of the one before."""
    state = {"success": False, "grasped": False, "wanted_width": 0.08, "idle": False, "hold": ""}
    referee = Referee(protocol)
    for i in range(400):
        state |= looks[min(i, len(looks) - 1)]
        ending = referee.look(Look(seconds=0.5 * i, **state))
        if ending is not None:
            return ending
    raise AssertionError("the trial never ended")


def test_success_counts_from_when_it_began(protocol: Protocol) -> None:
    ending = judge(protocol, {}, {"grasped": True}, {"grasped": False, "success": True})
    assert (ending.outcome, ending.termination, ending.seconds) == (Outcome.SUCCESS, Termination.SUCCESS_HELD, 1.0)
    assert ending.labelled_by == "simulator"


def test_success_that_does_not_last_is_none(protocol: Protocol) -> None:
    ending = judge(protocol, {"success": True}, {"success": False, "idle": True})
    assert ending.outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    ("looks", "mode"),
    [
        (({"idle": True},), "no grasp"),
        (({"grasped": True, "wanted_width": 0.0}, {"grasped": False}, {"wanted_width": 0.08, "idle": True}), "drop"),
        (
            ({"grasped": True, "wanted_width": 0.0}, {"wanted_width": 0.08}, {"grasped": False, "idle": True}),
            "poor grasp",
        ),
        (({"grasped": True, "wanted_width": 0.0},), "time-out"),
        (({},), "no grasp"),
    ],
)
def test_how_it_failed(protocol: Protocol, looks: tuple[dict[str, Any], ...], mode: str) -> None:
    ending = judge(protocol, *looks)
    assert (ending.outcome, ending.failure_mode) == (Outcome.FAILURE, mode)
    limit = ending.termination is Termination.TIME_LIMIT
    assert (ending.seconds == 30.0) == limit


def test_a_hold_is_for_the_protocol_s_rule(protocol: Protocol) -> None:
    ending = judge(protocol, {}, {"hold": "lead limit"})
    assert (ending.outcome, ending.termination, ending.note) == (Outcome.VOID, Termination.SAFETY_HOLD, "lead limit")
