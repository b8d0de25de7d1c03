"""Many look, one operates: reloads, gaps, handing over, somebody at the cell."""

from __future__ import annotations

import pytest

from vla_rft_nodes.console.lease import LeaseError, OperatorLease


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lease_of(clock: Clock) -> tuple[OperatorLease, str, str]:
    lease = OperatorLease(clock, grace_s=8.0)
    return lease, lease.admit(""), lease.admit("")


def test_one_operates_and_the_other_is_told_who() -> None:
    lease, mine, yours = lease_of(Clock())
    lease.take(mine, "  ada  lovelace ", at_cell=False)
    assert lease.held_by(mine) and not lease.held_by(yours)
    with pytest.raises(LeaseError, match="ada lovelace has control"):
        lease.take(yours, "bob", at_cell=True)
    lease.give(yours)  # not theirs to give
    assert lease.holder == "ada lovelace" and not lease.at_cell
    lease.give(mine)
    lease.take(yours, "bob", at_cell=True)
    assert lease.holder == "bob" and lease.at_cell and lease.viewers == 2


def test_a_reload_keeps_it_and_an_absence_loses_it() -> None:
    clock = Clock()
    lease, mine, yours = lease_of(clock)
    lease.take(mine, "ada", at_cell=False)
    lease.leave(mine)
    clock.now += 5.0
    assert lease.holder == "ada" and lease.absent_s == 5.0
    assert lease.admit(mine) == mine and lease.held_by(mine) and lease.absent_s == 0.0
    lease.leave(mine)
    clock.now += 8.1
    assert lease.holder == "" and not lease.held_by(mine)
    lease.take(yours, "bob", at_cell=False)
    assert lease.admit(mine) == mine and not lease.held_by(mine)


def test_two_connections_of_one_page_and_a_secret_that_is_none() -> None:
    lease, mine, _ = lease_of(Clock())
    lease.take(mine, "ada", at_cell=False)
    lease.admit(mine)
    lease.leave(mine)
    assert lease.held_by(mine) and lease.absent_s == 0.0
    assert lease.admit("short") != "short"


def test_somebody_at_the_cell_takes_over_and_everybody_has_a_name() -> None:
    lease, mine, yours = lease_of(Clock())
    lease.take(mine, "ada", at_cell=False)
    lease.take_over(yours, "bob")
    assert lease.holder == "bob" and lease.at_cell and not lease.held_by(mine)
    with pytest.raises(LeaseError, match="say who you are"):
        lease.take_over(mine, "   ")
