"""Actions and the set-points they lie between."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from vla_rft_core.action import accumulate, action_between
from vla_rft_core.cell import find_cell
from vla_rft_core.geometry import Pose
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import SetPoint

SPEC = find_cell("vla_rft_sim:towel_cell").spec
DOWN = (0.0, 1.0, 0.0, 0.0)


def test_an_action_is_the_difference_in_base_and_the_absolute_width():
    before = SetPoint(Pose((0.4, 0.0, 0.3), DOWN), 0.08)
    after = SetPoint(before.T_base_tcp.moved((0.01, -0.02, 0.03), (0.0, 0.0, 0.1)), 0.02)
    np.testing.assert_allclose(action_between(before, after, SPEC), [0.01, -0.02, 0.03, 0.0, 0.0, 0.1, 0.02], atol=1e-7)


def test_accumulating_actions_gives_the_set_points_back():
    random = np.random.default_rng(0)
    path = [SetPoint(Pose((0.4, 0.0, 0.3), DOWN), 0.08)]
    for _ in range(300):
        moved = path[-1].T_base_tcp.moved(random.normal(0, 0.01, 3), random.normal(0, 0.05, 3))
        path.append(SetPoint(moved, float(random.uniform(0, 0.1))))
    actions = [action_between(a, b, SPEC) for a, b in itertools.pairwise(path)]
    for found, expected in zip(accumulate(path[0], actions, SPEC), path[1:], strict=True):
        metres, radians = found.T_base_tcp.distance_to(expected.T_base_tcp)
        assert max(metres, radians, abs(found.width - expected.width)) < 1e-6


def test_the_layout_decides_the_order():
    turned: RobotSpec = replace(SPEC, action_layout=SPEC.action_layout[::-1])
    before, after = (SetPoint(Pose((x, 0.0, 0.3), DOWN), 0.05) for x in (0.4, 0.5))
    np.testing.assert_array_equal(action_between(before, after, turned), action_between(before, after, SPEC)[::-1])
    (there,) = accumulate(before, [action_between(before, after, turned)], turned)
    np.testing.assert_allclose(there.T_base_tcp.position, after.T_base_tcp.position, atol=1e-7)


def test_unknown_and_missing_names_and_wrong_shapes_are_refused():
    point = SetPoint(Pose((0.4, 0.0, 0.3), DOWN), 0.08)
    layout = ("delta.q", *SPEC.action_layout[1:])
    with pytest.raises(ValueError, match=r"action_layout has 'delta\.q', which is no action of an arm"):
        action_between(point, point, replace(SPEC, action_layout=layout))
    short = replace(SPEC, action_layout=SPEC.action_layout[:6], action_min_range=SPEC.action_min_range[:6])
    with pytest.raises(ValueError, match=r"action_layout lacks gripper\.width"):
        action_between(point, point, short)
    with pytest.raises(ValueError, match=r"shape \(2, 6\), expected \(T, 7\)"):
        accumulate(point, np.zeros((2, 6)), SPEC)
