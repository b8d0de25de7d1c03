"""Splicing: what each mode sends where two chunks meet, and what a policy is told that it cannot change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_rft_core.action import accumulate
from vla_rft_core.cell import find_cell
from vla_rft_core.geometry import Pose
from vla_rft_core.splice import SpliceConfig, SpliceMode, Splicer, target_at
from vla_rft_core.types import ActionChunk, SetPoint, Source

MS = 1_000_000
SPEC = find_cell("vla_rft_sim:towel_cell").spec


def at(x: float, *, yaw: float = 0.0, width: float = 0.05) -> SetPoint:
    turned = Pose(np.array([x, 0.0, 0.3]), np.array([0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]))
    return SetPoint(turned, width)


def line(xs: list[float], *, stamp_ms: float = 0.0, sequence: int = 1) -> ActionChunk:
    return ActionChunk.from_set_points(
        [at(x) for x in xs],
        stamp_ns=round(stamp_ms * MS),
        period_ns=100 * MS,
        sequence=sequence,
        source=Source.POLICY,
        policy_id="p",
    )


def spliced(
    mode: SpliceMode, first: ActionChunk, second: ActionChunk, *, now_ms: float, **config: float
) -> list[float]:
    splicer = Splicer(SpliceConfig(mode=mode, **config))  # type: ignore[arg-type]
    assert splicer.splice(first, now_ns=0) is first or mode is SpliceMode.ENSEMBLE
    return [float(x) for x in splicer.splice(second, now_ns=round(now_ms * MS)).positions[:, 0]]


def test_hard_and_rtc_send_what_the_policy_made() -> None:
    first, second = line([0.1] * 8), line([0.5] * 8, stamp_ms=400, sequence=2)
    for mode in (SpliceMode.HARD, SpliceMode.RTC):
        assert spliced(mode, first, second, now_ms=450) == [0.5] * 8


def test_a_blend_goes_over_in_equal_steps_after_what_is_late() -> None:
    first, second = line([0.0] * 8), line([1.0] * 8, stamp_ms=400, sequence=2)
    # Targets are due at 500, 600, ... ms; at 550 the first is late. The old chunk ends at 800 ms.
    found = spliced(SpliceMode.BLEND, first, second, now_ms=550, blend_steps=2)
    assert found == pytest.approx([1.0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1])
    assert spliced(SpliceMode.BLEND, first, second, now_ms=550, blend_steps=0) == [1.0] * 8


def test_an_ensemble_weighs_old_chunks_more() -> None:
    first, second = line([0.0] * 8), line([1.0] * 8, stamp_ms=400, sequence=2)
    old, new = 1.0, math.exp(-0.5)
    found = spliced(SpliceMode.ENSEMBLE, first, second, now_ms=450, decay=0.5)
    assert found == pytest.approx([new / (old + new)] * 4 + [1.0] * 4)


def test_an_ensemble_of_one_chunk_is_that_chunk_and_it_forgets() -> None:
    splicer = Splicer(SpliceConfig(mode=SpliceMode.ENSEMBLE, kept=2))
    for stamp, x in ((0, 0.0), (100, 1.0), (200, 2.0)):
        sent = splicer.splice(line([x] * 8, stamp_ms=stamp), now_ns=stamp * MS)
    assert float(sent.positions[0, 0]) > 1.0  # the first chunk is forgotten
    splicer.restart()
    again = splicer.splice(line([5.0] * 8, stamp_ms=300), now_ns=300 * MS)
    assert again.positions[:, 0].tolist() == [5.0] * 8


def test_orientations_go_over_on_the_great_circle() -> None:
    first = ActionChunk.from_set_points(
        [at(0.0, yaw=0.0)] * 8, stamp_ns=0, period_ns=100 * MS, sequence=1, source=Source.POLICY
    )
    second = ActionChunk.from_set_points(
        [at(0.0, yaw=1.0)] * 8, stamp_ns=0, period_ns=100 * MS, sequence=2, source=Source.POLICY
    )
    splicer = Splicer(SpliceConfig(mode=SpliceMode.BLEND, blend_steps=1))
    splicer.splice(first, now_ns=0)
    half = splicer.splice(second, now_ns=0).quaternions[0]
    assert 2.0 * math.atan2(half[2], half[3]) == pytest.approx(0.5)


def test_targets_are_found_between_two_and_not_outside() -> None:
    chunk = line([0.1, 0.2, 0.4])
    assert target_at(chunk, 150 * MS).T_base_tcp.position[0] == pytest.approx(0.15)  # type: ignore[union-attr]
    assert target_at(chunk, 300 * MS).T_base_tcp.position[0] == pytest.approx(0.4)  # type: ignore[union-attr]
    assert target_at(chunk, 99 * MS) is None and target_at(chunk, 301 * MS) is None


@pytest.mark.parametrize(("latency_ms", "count"), [(0, 0), (1, 1), (100, 1), (250, 3), (5000, 4)])
def test_what_is_committed_leads_where_the_old_chunk_leads(latency_ms: int, count: int) -> None:
    """Also when the new observation lies between two targets of the old chunk."""
    splicer = Splicer(SpliceConfig(mode=SpliceMode.RTC))
    splicer.splice(line([0.4 + 0.01 * i for i in range(8)]), now_ns=0)
    stamp_ns = 350 * MS
    reference = target_at(line([0.4 + 0.01 * i for i in range(8)]), stamp_ns)
    assert reference is not None
    actions = splicer.committed(stamp_ns, reference, latency_ns=latency_ms * MS, spec=SPEC)
    assert actions.shape == (count, 7)
    reached = [float(p.T_base_tcp.position[0]) for p in accumulate(reference, actions, SPEC)] if count else []
    assert reached == pytest.approx([0.435 + 0.01 * i for i in range(count)], abs=1e-7)


def test_nothing_is_committed_before_the_first_chunk_or_in_another_mode() -> None:
    for mode in SpliceMode:
        splicer = Splicer(SpliceConfig(mode=mode))
        if mode is not SpliceMode.RTC:
            splicer.splice(line([0.4] * 8), now_ns=0)
        assert splicer.committed(0, at(0.4), latency_ns=200 * MS, spec=SPEC).shape == (0, 7)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"kept at least 1, got 4, 0\.1, 0"):
        SpliceConfig(kept=0)
