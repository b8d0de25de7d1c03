"""The policy's loop without processes: when it looks, what it sends and tells the policy, and when it is silent."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import stand_in
from deploy.bundle import open_bundle
from deploy.runtime.policies import Decision, HoldPolicy, NoChunkError
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import StaleInputError
from vla_rft_core.splice import SpliceMode
from vla_rft_core.types import Observation, SetPoint
from vla_rft_nodes import convert
from vla_rft_nodes.policy_loop import Acting, LoopConfig, PolicyLoop

MS = 1_000_000
SPEC = find_cell("vla_rft_sim:towel_cell").spec
HOME = SetPoint(SPEC.home.T_base_tcp, SPEC.home.width)


class FakeCell:
    """Has a picture whenever one is asked for, taken so long ago."""

    spec = SPEC

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.age_ns, self.stale, self.picture = 20 * MS, "", True
        self.waited_ns, self.kept_up = 0, 0

    def pictures_since(self, stamp_ns: int, timeout_s: float) -> int:
        self.asked.append(stamp_ns)
        return time.time_ns() - self.waited_ns if self.picture else 0

    def keep_up(self) -> None:
        self.kept_up += 1

    def observe(self) -> Observation:
        if self.stale:
            raise StaleInputError(self.stale)
        stamp_ns = time.time_ns() - self.age_ns
        return Observation(stamp_ns, {}, {}, np.zeros(10, np.float32), stamp_ns, HOME, "")


class Listening(HoldPolicy):
    """Holds, and remembers what it was told."""

    def __init__(self, bundle: Any) -> None:
        self.told: list[Any] = []
        self.seeds: list[int] = []
        self.silent = ""
        super().__init__(bundle)

    def begin(self, seed: int) -> None:
        self.seeds.append(seed)
        super().begin(seed)

    def decide(self, observation: Observation, *, committed: Any = None) -> Decision:
        self.told.append((observation.prompt, len(committed)))
        if self.silent:
            raise NoChunkError(self.silent)
        return super().decide(observation, committed=committed)


@pytest.fixture
def policy(tmp_path: Path) -> Listening:
    stand_in.make_hold(tmp_path / "hold", SPEC)
    return Listening(open_bundle(tmp_path / "hold"))


def acting(policy: Listening, seed: int = 3) -> Acting:
    return Acting(policy=policy, label="B", prompt="fold it", seed=seed)


def loop(cell: FakeCell, **config: Any) -> PolicyLoop:
    return PolicyLoop(cell, LoopConfig(**config))  # type: ignore[arg-type]


def test_a_chunk_is_timed_by_its_picture_and_signed(policy: Listening) -> None:
    cell = FakeCell()
    before_ns = time.time_ns()
    report, chunk = loop(cell).step(acting(policy), timeout_s=0.0)
    assert report is not None and chunk is not None and not report.problem
    assert (chunk.policy_id, chunk.source, chunk.sequence) == ("B", "policy", 1)
    stamp_ns = convert.to_ns(chunk.header.stamp)
    assert before_ns - 20 * MS <= stamp_ns <= time.time_ns() - 20 * MS
    assert stamp_ns == convert.to_ns(report.header.stamp)
    assert policy.told == [("fold it", 0)] and policy.seeds[-1] == 3
    assert convert.to_ns(report.published) >= convert.to_ns(report.began) > 0 and report.assemble > 0.0


def test_it_looks_again_after_so_many_control_periods(policy: Listening) -> None:
    cell = FakeCell()
    one, running = acting(policy), loop(cell, n_action_steps=4)
    report, _ = running.step(one, timeout_s=0.0)
    running.step(one, timeout_s=0.0)
    assert report is not None
    later_ns = cell.asked[1] - convert.to_ns(report.header.stamp)
    assert later_ns == 375 * MS  # 4 periods of 100 ms, less a quarter of one
    cell.picture = False
    assert running.step(one, timeout_s=0.0) == (None, None)


def test_chunks_are_joined_as_the_bundle_says_unless_told_otherwise(policy: Listening) -> None:
    assert LoopConfig().splice_of(policy.bundle).mode is policy.bundle.splice
    assert LoopConfig(splice=SpliceMode.HARD).splice_of(policy.bundle).mode is SpliceMode.HARD
    one, running = acting(policy), loop(FakeCell(), splice=SpliceMode.BLEND)
    running.step(one, timeout_s=0.0)
    running.step(one, timeout_s=0.0)
    assert policy.told[-1] == ("fold it", 0)  # blended: nothing is shown


@pytest.mark.parametrize(("latency_s", "count"), [(0.05, 1), (0.15, 2), (0.31, 4)])
def test_the_policy_is_told_what_will_have_been_done_by_then(policy: Listening, latency_s: float, count: int) -> None:
    """As measured on the robot's verdicts: the longest of the last ones."""
    cell = FakeCell()
    one, running = acting(policy), loop(cell, splice=SpliceMode.RTC)
    running.step(one, timeout_s=0.0)
    for measured in (0.01, latency_s, 0.02):
        running.measured(measured)
    report, _ = running.step(one, timeout_s=0.0)
    assert report is not None and report.committed == count and policy.told[-1] == ("fold it", count)
    running.rest()  # the lease is gone: nothing plays any more, and the next attempt begins anew
    running.step(one, timeout_s=0.0)
    assert policy.told[-1] == ("fold it", 0) and policy.seeds[-2:] == [3, 3]


def test_nobody_waited_for_a_picture_that_lay_there_before_the_attempt(policy: Listening) -> None:
    cell = FakeCell()
    cell.waited_ns = 60 * MS
    one, running = acting(policy), loop(cell)
    running.rest()
    assert cell.kept_up == 1  # what came meanwhile is not left for the first decision
    waits = []
    for _ in range(2):
        report, _ = running.step(one, timeout_s=0.0)
        assert report is not None
        waits.append(convert.to_ns(report.began) - convert.to_ns(report.image_received))
        time.sleep(0.06)  # the attempt is older than the next picture now
    assert waits[0] < 50 * MS <= 60 * MS <= waits[1]


def test_an_answer_that_is_not_finite_is_no_chunk(policy: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    good = policy.decide

    def nowhere(observation: Observation, *, committed: Any = None) -> Decision:
        chunk = good(observation, committed=committed).chunk
        return Decision(replace(chunk, positions=np.full_like(chunk.positions, np.nan)))

    monkeypatch.setattr(policy, "decide", nowhere)
    report, chunk = loop(FakeCell()).step(acting(policy), timeout_s=0.0)
    assert report is not None and chunk is None and report.problem == "the policy's answer is not finite"


@pytest.mark.parametrize("why", ["stale", "silent", "late"])
def test_without_an_answer_nothing_is_sent_and_it_is_said(policy: Listening, why: str) -> None:
    cell = FakeCell()
    if why == "stale":
        cell.stale = "image of 'front' is 0.700 s old"
    elif why == "silent":
        policy.silent = "the state is not finite"
    else:
        cell.age_ns = 900 * MS
    report, chunk = loop(cell).step(acting(policy), timeout_s=0.0)
    said = {"stale": "0.700 s old", "silent": "not finite", "late": "late: nothing of it is left"}[why]
    assert chunk is None and report is not None and said in report.problem
    assert convert.to_ns(report.published) == 0 and report.sequence == 0


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="n_action_steps must be at least 1"):
        LoopConfig(n_action_steps=0)
