"""Placements and the success metric, on towels made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core.geometry import Array
from vla_rft_sim import towel

SHAPES = [(11, 8), (15, 11)]


def folded(shape: tuple[int, int], *, seed: int = 0, overlap: float = 0.0) -> Array:
    """A towel folded in half: the second half lies 8 mm above the first, `overlap` too far."""
    placement = towel.draw(seed)
    vertices = towel.flat(placement, shape, 0.004)
    half = shape[0] // 2
    along = np.array([math.cos(placement.yaw), math.sin(placement.yaw), 0.0])
    vertices[-half:] = vertices[:half][::-1] + np.array([0.0, 0.0, 0.008]) - overlap * along
    return vertices


@given(st.integers(0, 10_000))
def test_placements_stay_in_their_ranges(seed: int) -> None:
    placement = towel.draw(seed)
    assert abs(placement.x - 0.5) <= 0.05 and abs(placement.y) <= 0.05
    assert abs(math.degrees(placement.yaw) - 90.0) <= 15.0
    assert placement == towel.draw(seed)


def test_placements_differ_between_seeds() -> None:
    assert len({(p.x, p.y, p.yaw) for p in map(towel.draw, range(50))}) == 50


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flat_towel_is_no_success(shape: tuple[int, int]) -> None:
    truth = towel.judge(towel.flat(towel.draw(3), shape, 0.004), 0)
    assert truth.edge_gap == pytest.approx(towel.LENGTH_M)
    assert truth.area_ratio == pytest.approx(1.0, abs=0.03)
    assert not truth.success


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folded_towel_is_a_success_only_when_let_go(shape: tuple[int, int]) -> None:
    truth = towel.judge(folded(shape), 0)
    assert truth.success
    assert truth.edge_gap == pytest.approx(0.008) and truth.mirrored_gap == pytest.approx(0.0, abs=1e-9)
    assert truth.area_ratio == pytest.approx(0.5, abs=0.03)
    assert not towel.judge(folded(shape), 1).success


@pytest.mark.parametrize(
    ("overlap", "success"), [(0.0, True), (0.02, True), (0.035, False), (0.06, False), (-0.06, False)]
)
def test_a_fold_that_is_off_by_too_much_fails(overlap: float, success: bool) -> None:
    truth = towel.judge(folded((11, 8), overlap=overlap), 0)
    assert truth.mirrored_gap == pytest.approx(abs(overlap))
    assert truth.success is success


def test_a_towel_that_stands_up_is_no_success() -> None:
    vertices = folded((11, 8))
    vertices[5, 4, 2] = 0.08
    truth = towel.judge(vertices, 0)
    assert truth.max_height == pytest.approx(0.08)
    assert not truth.success


@given(st.integers(0, 1000))
def test_the_metric_does_not_depend_on_the_placement(seed: int) -> None:
    here, there = towel.judge(folded((11, 8), seed=seed), 0), towel.judge(folded((11, 8), seed=0), 0)
    assert here.edge_gap == pytest.approx(there.edge_gap)
    assert here.area_ratio == pytest.approx(there.area_ratio, abs=0.02)
    assert here.success


def test_corners_go_around_and_the_short_sides_are_the_documented_ones() -> None:
    corners = towel.judge(towel.flat(towel.draw(1), (11, 8), 0.004), 0).corners
    assert math.dist(corners[0], corners[3]) == pytest.approx(towel.WIDTH_M)
    assert math.dist(corners[1], corners[2]) == pytest.approx(towel.WIDTH_M)
    assert math.dist(corners[0], corners[1]) == pytest.approx(towel.LENGTH_M)


def test_placement_in_words() -> None:
    assert str(towel.Placement(0.5, -0.02, math.pi / 2, 7)) == "x 0.500 m, y -0.020 m, yaw 90 deg"
