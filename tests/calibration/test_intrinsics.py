"""Intrinsics: a right factory value is accepted, a wrong one noticed and estimated anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.detect import Detection
from calibration.errors import DegenerateError
from calibration.intrinsics import in_force, judge, text_map
from calibration.poses import INTRINSICS_SHOWING
from calibration.results import Verdict
from calibration.solve.intrinsics import coverage_map, solve
from calibration.views import View, ViewSet
from vla_rft_core.calibration import Calibration, CameraMount, ResultEntry
from vla_rft_sim.projected import true_intrinsics


@pytest.fixture(scope="module")
def wide(views_of, truth):
    return views_of(truth, showing=INTRINSICS_SHOWING, count=30)


def test_a_right_focal_length_is_accepted(wide):
    found = solve(wide)
    assert found.agrees
    assert found.estimated.fx == pytest.approx(true_intrinsics().fx, rel=0.003)
    assert judge(found)[0] is Verdict.TRUST


def test_a_wrong_focal_length_is_noticed_and_the_right_one_found(wide):
    true = true_intrinsics()
    found = solve(wide.with_intrinsics(replace(true, fx=true.fx * 1.012, fy=true.fy * 1.012)))
    assert not found.agrees
    assert found.estimated.fx == pytest.approx(true.fx, rel=0.003)
    mount = CameraMount(name="front", position=(1.0, 0.0, 0.5), quaternion=(0.0, 1.0, 0.0, 0.0), serial="SIM-1")
    entry = ResultEntry(kind="hand_eye-front", folder="x", sha256="y", verdict="trust")
    changed = in_force(Calibration(id="c", cameras=(mount,), results=(entry,)), "front", found, "SIM-1")
    assert changed.camera("front").intrinsics == found.estimated
    assert changed.results == (), "a hand-eye through other intrinsics no longer counts"


def test_distortion_that_a_rectified_stream_does_not_have_is_rejected(wide):
    k, bent = true_intrinsics(), []
    for view in wide.views:
        rays = (view.detection.pixels - [k.cx, k.cy]) / [k.fx, k.fy]
        rays *= 1.0 + 0.08 * (rays**2).sum(axis=1, keepdims=True)
        pixels = rays * [k.fx, k.fy] + [k.cx, k.cy]
        bent.append(View(view.T_base_tcp, Detection(view.detection.ids, pixels), view.serial))
    verdict, reasons = judge(solve(ViewSet(wide.info, tuple(bent))))
    assert verdict is Verdict.REJECT
    assert any("rectified" in reason for reason in reasons)


def test_views_all_alike_determine_nothing(wide):
    same = ViewSet(wide.info, tuple(wide.views[0] for _ in range(12)))
    with pytest.raises(DegenerateError):
        solve(same)
    with pytest.raises(DegenerateError, match="4 views show the board, 10 are needed"):
        solve(ViewSet(wide.info, wide.views[:4]))


def test_the_map_shows_what_is_covered(wide):
    counts = coverage_map(wide)
    assert counts.shape == (6, 8)
    assert counts.sum() == sum(len(view.detection.ids) for view in wide.views)
    assert text_map(np.zeros((2, 3))) == "  |      |\n  |      |"
