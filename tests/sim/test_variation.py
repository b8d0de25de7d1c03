"""The hand's variation: drawn per episode, smooth in time, and mild enough to succeed."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import SetPoint
from vla_rft_sim import towel
from vla_rft_sim.cell import towel_cell
from vla_rft_sim.demonstrate import demonstrate
from vla_rft_sim.expert import ExpertConfig, ScriptedExpert, plan_fold
from vla_rft_sim.randomize import Randomizer
from vla_rft_sim.randomize import draw as draw_randomization
from vla_rft_sim.variation import VariationConfig, drift, vary

HOME = SetPoint(Pose((0.40, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0)), 0.08)
CORNERS = towel.judge(towel.flat(towel.draw(0), (11, 8), 0.004), 0).corners


def positions(plan: list[SetPoint]) -> Array:
    return np.array([point.T_base_tcp.position for point in plan])


def test_the_same_seed_varies_alike() -> None:
    assert vary(3) == vary(3) != vary(4)
    plan = plan_fold(HOME, CORNERS, ExpertConfig())
    assert np.array_equal(positions(drift(3)(plan)), positions(drift(3)(plan)))


def test_without_strength_it_is_the_plain_expert() -> None:
    none = VariationConfig(strength=0.0)
    assert vary(3, none) == ExpertConfig()
    plan = plan_fold(HOME, CORNERS, ExpertConfig())
    assert np.array_equal(positions(drift(3, none)(plan)), positions(plan))


def test_episodes_differ_in_every_way_named() -> None:
    drawn = [vary(seed) for seed in range(40)]
    for name in ("approach_offset", "inset", "along", "yaw", "lift", "overshoot", "release_along", "sway", "speed"):
        assert len({getattr(config, name) for config in drawn}) > 20, name
    assert {config.close for config in drawn} == {6, 7, 8}


def test_drift_is_smooth_small_and_comes_back() -> None:
    still = [SetPoint(Pose((0.5, 0.0, 0.2), (0.0, 1.0, 0.0, 0.0)), 0.08)] * 300
    for seed in range(10):
        offsets = positions(drift(seed)(still)) - positions(still)
        assert 0.001 < np.abs(offsets).max() < 0.02
        assert np.abs(np.diff(offsets, axis=0)).max() < 0.004  # per control period
        later = offsets[10:]
        followers = [np.corrcoef(later[:-1, axis], later[1:, axis])[0, 1] for axis in range(3)]
        assert min(followers) > 0.9  # independent noise per period would give 0
        assert (np.abs(later.mean(axis=0)) < 0.002).all()
        assert (np.abs(np.diff(np.sign(later), axis=0)).sum(axis=0) >= 2).all()


def test_a_hand_is_careful_near_the_table_and_starts_where_it_is() -> None:
    def wandering(height: float) -> Array:
        still = [SetPoint(Pose((0.5, 0.0, height), (0.0, 1.0, 0.0, 0.0)), 0.08)] * 200
        return positions(drift(1)(still)) - positions(still)

    high, low = wandering(0.2), wandering(0.008)
    assert low.std() < 0.5 * high.std()
    assert low[:, 2].min() >= -1e-12  # never into the table
    assert np.abs(high[0]).max() < 0.001


def test_varied_plans_keep_the_experts_limits_and_widths() -> None:
    for seed in range(30):
        config = vary(seed)
        plan = plan_fold(HOME, CORNERS, config)
        drifted = drift(seed)(plan)
        assert [point.width for point in drifted] == [point.width for point in plan]
        steps = np.linalg.norm(np.diff(positions(drifted), axis=0), axis=1)
        assert steps.max() < 0.04
        assert positions(drifted)[:, 2].min() > 0.003


def test_negative_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match="drift must not be negative, got -1"):
        VariationConfig(drift=-1.0)


@pytest.mark.slow
def test_plain_folds_clear_every_threshold_by_a_margin() -> None:
    cell = towel_cell()
    truths = [demonstrate(cell, seed).truth for seed in range(50)]
    assert all(truth.success for truth in truths)
    low, high = towel.AREA_RATIO_RANGE
    margins = {
        "edge gap": (towel.MAX_EDGE_GAP_M - max(t.edge_gap for t in truths)) / towel.MAX_EDGE_GAP_M,
        "mirrored gap": (towel.MAX_MIRRORED_GAP_M - max(t.mirrored_gap for t in truths)) / towel.MAX_MIRRORED_GAP_M,
        "height": (towel.MAX_HEIGHT_M - max(t.max_height for t in truths)) / towel.MAX_HEIGHT_M,
        "area": min(*(t.area_ratio - low for t in truths), *(high - t.area_ratio for t in truths)) / (high - low),
    }
    assert min(margins.values()) > 0.3, margins


@pytest.mark.slow
def test_nine_of_ten_varied_folds_in_randomised_worlds_succeed() -> None:
    cell = towel_cell()
    randomizer = Randomizer(cell.world)  # type: ignore[arg-type]
    successes = 0
    for seed in range(500, 550):
        randomizer.apply(draw_randomization(seed))
        expert = ScriptedExpert(cell.clock, vary(seed), drift=drift(seed))
        successes += demonstrate(cell, seed, expert=expert).truth.success
    assert successes >= 45
