"""Table, gripper, latency and drift: the pure solvers with numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.errors import CalibrationError, DegenerateError
from calibration.gripper import judge
from calibration.results import Verdict
from calibration.solve import drift, gripper
from calibration.solve.latency import find_lag, finger_speed, ramped
from calibration.solve.table import depth_points, fit_plane, touch_height
from vla_rft_core.calibration import GripperCurve, Intrinsics
from vla_rft_core.geometry import Pose

# --- table ------------------------------------------------------------------------------------------------------


def test_a_plane_through_touched_points():
    xy = np.array([(x, y) for x in (0.4, 0.6, 0.8) for y in (-0.3, 0.0, 0.3)])
    z = 0.012 + 0.004 * (xy[:, 0] - 0.6) - 0.002 * xy[:, 1]
    plane = fit_plane(np.column_stack([xy, z]))
    assert plane.height == pytest.approx(0.012, abs=1e-6)
    assert plane.slope == pytest.approx((0.004, -0.002), abs=1e-6)
    assert plane.at(0.8, -0.3) == pytest.approx(z[6], abs=1e-6)
    z[4] += 0.01  # one point touched a crumb
    assert fit_plane(np.column_stack([xy, z])).height == pytest.approx(0.012, abs=3e-4)


def test_points_that_determine_no_plane():
    with pytest.raises(DegenerateError, match="3 points are too few"):
        fit_plane(np.eye(3))
    with pytest.raises(DegenerateError, match="nearly in one line"):
        fit_plane(np.column_stack([np.linspace(0.4, 0.8, 6), np.zeros(6), np.zeros(6)]))


def test_contact_is_where_the_force_begins():
    random = np.random.default_rng(0)
    z = np.linspace(0.010, -0.0006, 300)
    force = np.maximum(0.0, -z * 11000.0) + random.normal(scale=0.2, size=300)
    assert touch_height(z, force) == pytest.approx(0.0, abs=1e-4)
    with pytest.raises(CalibrationError, match="no contact was felt"):
        touch_height(z, random.normal(scale=0.2, size=300))


def test_depth_of_a_table_seen_from_above():
    camera = Intrinsics(width=64, height=48, fx=60.0, fy=60.0, cx=31.5, cy=23.5)
    above = Pose((0.5, 0.0, 0.9), (1.0, 0.0, 0.0, 0.0))  # looking straight down
    depth = np.full((48, 64), 893, np.uint16)
    low, high = np.array([0.3, -0.3]), np.array([0.7, 0.3])
    points = depth_points(depth, camera, above, low, high, near=0.0, within=0.04)
    assert points[:, 2] == pytest.approx(0.007, abs=1e-9)
    with pytest.raises(CalibrationError, match="0 pixels only"):
        depth_points(depth, camera, above, low, high, near=0.2, within=0.04)


# --- gripper ----------------------------------------------------------------------------------------------------

WIDTHS = np.array([*np.linspace(0.0, 0.1, 6), *np.linspace(0.1, 0.0, 6)])


def test_the_curve_of_a_gripper_that_sags():
    reached = WIDTHS + 0.2 * WIDTHS * (0.1 - WIDTHS)
    found = gripper.solve(WIDTHS, reached, np.zeros(12), block=(np.full(5, 0.03), np.full(5, -20.0)))
    assert found.curve.command_for(found.curve.measured[2]) == pytest.approx(0.04)
    assert found.largest_error == pytest.approx(0.00048, abs=1e-6)
    assert judge(found, 0.1, 0.03)[0] is Verdict.TRUST


def test_a_force_of_the_wrong_sign_is_rejected():
    found = gripper.solve(WIDTHS, WIDTHS, np.zeros(12), block=(np.full(5, 0.03), np.full(5, 20.0)))
    verdict, reasons = judge(found, 0.1, 0.03)
    assert verdict is Verdict.REJECT and "the sign is reversed" in reasons[-1]
    unchecked = gripper.solve(WIDTHS, WIDTHS, np.zeros(12))
    assert judge(unchecked, 0.1, 0.03)[0] is Verdict.DOUBTFUL


def test_fingers_that_do_not_follow():
    with pytest.raises(CalibrationError, match="commanded 40 mm they stand no wider"):
        gripper.solve(WIDTHS, np.minimum(WIDTHS, 0.02), np.zeros(12))
    with pytest.raises(ValueError, match="must rise"):
        GripperCurve(commanded=(0.0, 0.1), measured=(0.02, 0.01))


# --- latency ----------------------------------------------------------------------------------------------------


def motion(t):
    return np.column_stack([np.sin(3.0 * t) + 0.3 * np.sin(7.1 * t), np.cos(4.3 * t)])


@pytest.mark.parametrize("late", [0.0, 0.0333, 0.12])
def test_a_lag_is_found_in_pixels_from_metres(late):
    random = np.random.default_rng(1)
    t, seen_t = np.arange(0.0, 10.0, 0.01), np.arange(0.0, 10.0, 0.0667)
    pixels = motion(seen_t - late) @ [[60.0, 8.0], [-5.0, 30.0]] + 200.0 + random.normal(scale=0.3, size=(150, 2))
    lag = find_lag(t, motion(t), seen_t, pixels)
    assert lag.seconds == pytest.approx(late, abs=0.002)
    assert abs(lag.seconds - late) < 5 * lag.std + 5e-4
    assert lag.share > 0.99


def test_signals_that_are_not_one_motion():
    t = np.arange(0.0, 10.0, 0.01)
    with pytest.raises(DegenerateError, match="does not change"):
        find_lag(t, motion(t), t, np.zeros((len(t), 1)))
    with pytest.raises(DegenerateError, match="at no lag"):
        find_lag(t, motion(t), t, np.random.default_rng(0).normal(size=(len(t), 1)))
    with pytest.raises(DegenerateError, match="samples overlap"):
        find_lag(t, motion(t), t + 20.0, motion(t))
    with pytest.raises(DegenerateError, match="end of the range"):
        find_lag(t, motion(t), t, motion(t - 0.21), high=0.2)


def test_a_gripper_without_latency_follows_at_its_speed():
    t = np.arange(0.0, 1.0, 0.01)
    followed = ramped(t, np.where(t > 0.2, 0.08, 0.02), speed=0.2, start=0.02)
    assert followed[-1] == pytest.approx(0.08)
    assert finger_speed(t, followed) == pytest.approx(0.2)
    with pytest.raises(DegenerateError, match="did not move"):
        finger_speed(t, np.full(len(t), 0.05))


# --- drift ------------------------------------------------------------------------------------------------------

CAMERA = Intrinsics(width=320, height=240, fx=300.0, fy=300.0, cx=159.5, cy=119.5)


def wall(shift_px: float = 0.0, gain: float = 1.0) -> np.ndarray:
    """Soft blobs on a wall one metre away, seen from a little further left."""
    y, x = np.mgrid[:240, :320].astype(np.float64)
    x = x + shift_px
    grey = 110.0 + 50.0 * np.sin(x / 11.0) * np.cos(y / 13.0) + 30.0 * np.sin((x + 2.0 * y) / 29.0)
    return np.repeat(np.clip(gain * grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_how_far_a_camera_moved():
    depth = np.full((240, 320), 1000, np.uint16)
    found = drift.solve(wall(), depth, wall(1.5, 0.8), CAMERA)
    # 1.5 px at one metre: 5 mm along x, or a turn that looks nearly alike; either way the picture moved by that much.
    point = found.motion.inverse().apply([0.0, 0.0, 1.0])
    assert point[0] / point[2] * 300.0 == pytest.approx(-1.5, abs=0.05)
    assert found.gain == pytest.approx(0.8, abs=0.02)
    still = drift.solve(wall(), depth, wall(), CAMERA)
    assert still.metres < 1e-4 and math.degrees(still.radians) < 0.01


def test_pictures_that_cannot_be_compared():
    depth = np.full((240, 320), 1000, np.uint16)
    with pytest.raises(CalibrationError, match="different sizes"):
        drift.solve(wall(), depth, wall()[:200], CAMERA)
    with pytest.raises(CalibrationError, match="too little structure"):
        drift.solve(np.full((240, 320, 3), 90, np.uint8), depth, wall(), CAMERA)
    with pytest.raises(CalibrationError, match="something else"):
        drift.solve(wall(), depth, np.ascontiguousarray(255 - wall()), CAMERA)
