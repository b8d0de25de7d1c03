"""A protocol is read strictly, draws the same placements and order from the same seed, and says what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vla_rft_trials.placements import Coverage, draw_placements
from vla_rft_trials.protocol import FAILURE_MODES, PlacementRule, Protocol, Region, Rule
from vla_rft_trials.schedule import draw_schedule
from vla_rft_trials.study import lock

REGION = Region(x=(0.4, 0.6), y=(-0.1, 0.1), yaw_deg=(75.0, 105.0))


def test_defaults_are_the_robot_s(protocol_file: Callable[..., Path], tmp_path: Path) -> None:
    protocol = Protocol.load(protocol_file(tmp_path))
    assert replace(protocol, time_limit_s=Protocol.time_limit_s).time_limit_s == 180.0
    assert protocol.blinded and protocol.alpha == 0.05 and protocol.stopping.rule == "fixed"
    assert protocol.failure_modes == FAILURE_MODES
    assert protocol.exclusions.safety_hold is Rule.FAILURE and protocol.exclusions.interrupted is Rule.REPEAT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "x"}, "unknown field 'titel'; did you mean 'title'?"),
        ({"policies": []}, "policies need different names, got none"),
        ({"policies": [{"name": "a", "factory": "x:y"}] * 2}, "policies need different names"),
        ({"policies": [{"name": "a"}]}, "either a bundle or a factory"),
        ({"policies": [{"name": "a", "bundle": "b", "factory": "x:y"}]}, "either a bundle or a factory"),
        ({"policies": [{"name": "a", "bundle": "b", "options": {"x": 1}}]}, "a bundle has none"),
        ({"trials_per_policy": 5}, "multiple of the 4 placements, got 5"),
        ({"time_limit_s": 0.0}, "time_limit_s > 0"),
        ({"alpha": 1.0}, "alpha < 1"),
        ({"placements": {"count": 4, "seed": 7}}, "placements need a region"),
        ({"exclusions": {"safety_hold": "ignore"}}, "expected one of 'failure', 'repeat', 'void', found 'ignore'"),
        ({"failure_modes": ["drop"]}, "must have 'protective stop'"),
        ({"stopping": {"rule": "whenever"}}, "expected one of 'fixed', 'sequential', found 'whenever'"),
        ({"stopping": {"rule": "sequential"}, "policies": [{"name": "a", "factory": "x:y"}]}, "compares two policies"),
        ({"human_times_s": [-1.0]}, "human_times_s must be positive"),
        ({"scene": {"min_similarity": 1.5}}, "min_similarity is 0..1"),
    ],
)
def test_a_mistake_is_named(
    protocol_file: Callable[..., Path], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        Protocol.load(protocol_file(tmp_path, **changes))
    assert message in str(caught.value) and "protocol.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_failure_mode_names_the_known_ones(protocol: Protocol) -> None:
    assert protocol.failure_mode("drop") == "drop"
    with pytest.raises(ValueError, match="did you mean 'no grasp'"):
        protocol.failure_mode("no grsp")


def test_equal_seeds_give_equal_placements_inside_the_region() -> None:
    rule = PlacementRule(count=20, seed=3, region=REGION)
    placements = draw_placements(rule)
    assert placements == draw_placements(rule) != draw_placements(replace(rule, seed=4))
    assert len({p.id for p in placements}) == 20
    assert all(0.4 <= p.x <= 0.6 and -0.1 <= p.y <= 0.1 and 1.3 < p.yaw < 1.84 for p in placements)


def test_in_simulation_the_placement_is_the_seed_s() -> None:
    from vla_rft_sim.towel import draw

    rule = PlacementRule(count=3, seed=5, draw="vla_rft_sim.towel:draw")
    assert [p.seed for p in draw_placements(rule)] == [5, 6, 7]
    assert draw_placements(rule)[1].x == draw(6).x
    narrow = replace(rule, region=Region(x=(0.5, 0.6), y=(-1.0, 1.0), yaw_deg=(0.0, 180.0)))
    assert all(draw(p.seed).x >= 0.5 for p in draw_placements(narrow))


def test_seen_and_unseen_cells_of_the_demonstrations(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps({"low": [0.4, -0.1], "shape": [4, 4], "cell": 0.05, "counts": {"0,0": 3, "1,1": 1}}))
    coverage = Coverage.load(path)
    rule = PlacementRule(count=6, seed=0, region=REGION, coverage="coverage.json", unseen=2)
    placements = draw_placements(rule, coverage=coverage)
    assert Counter(p.cell for p in placements) == {"seen": 4, "unseen": 2}
    for p in placements:
        assert coverage.of(p.x, p.y) == p.cell
    assert coverage.seconds == ()
    with pytest.raises(ValueError, match="cannot be read as a coverage file"):
        Coverage.load(tmp_path / "none.json")


def test_placements_that_cannot_be_found_are_told() -> None:
    everything = Coverage(low=(0.0, -1.0), shape=(100, 100), cell=0.05, counts={})
    rule = PlacementRule(count=2, seed=0, region=REGION, coverage="x", unseen=1)
    with pytest.raises(ValueError, match="1 seen could not be found"):
        draw_placements(rule, coverage=everything)


def test_every_policy_has_its_turn_in_every_block() -> None:
    slots = draw_schedule(["P01", "P02", "P03"], ["A", "B"], repeats=2, seed=1)
    assert [slot.number for slot in slots] == list(range(12))
    assert Counter((slot.placement, slot.code) for slot in slots) == {
        (p, c): 2 for p in ("P01", "P02", "P03") for c in "AB"
    }
    for block in range(6):
        ours = [slot for slot in slots if slot.block == block]
        assert {slot.code for slot in ours} == {"A", "B"} and len({slot.placement for slot in ours}) == 1
    assert slots == draw_schedule(["P01", "P02", "P03"], ["A", "B"], repeats=2, seed=1)


def test_orders_within_blocks_are_random() -> None:
    slots = draw_schedule([f"P{i}" for i in range(200)], ["A", "B"], repeats=1, seed=0)
    first = Counter(slot.code for slot in slots if slot.number % 2 == 0)
    assert 70 < first["A"] < 130
    assert [s.placement for s in slots[::2]] != [f"P{i}" for i in range(200)]


def test_a_coverage_file_is_locked_with_the_study_and_brings_the_operator_s_times(
    protocol_file: Callable[..., Path], tmp_path: Path
) -> None:
    content = {"low": [0.4, -0.1], "shape": [4, 4], "cell": 0.05, "counts": {"0,0": 3, "1,1": 1}, "seconds": [5.0, 7.0]}
    (tmp_path / "coverage.json").write_text(json.dumps(content))
    rule = {"count": 4, "seed": 0, "coverage": "coverage.json", "unseen": 2}
    rule["region"] = {"x": [0.4, 0.6], "y": [-0.1, 0.1], "yaw_deg": [75.0, 105.0]}
    study = lock(protocol_file(tmp_path, placements=rule), tmp_path / "study")
    assert study.plan.human_times_s == (5.0, 7.0)
    assert Counter(p.cell for p in study.plan.placements) == {"seen": 2, "unseen": 2}
    assert (study.folder / "locked" / "coverage.json").read_text() == (tmp_path / "coverage.json").read_text()
