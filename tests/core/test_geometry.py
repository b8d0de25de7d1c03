"""Geometry: laws by property tests, scipy's Rotation as the oracle, and what bad values are answered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from vla_rft_core.geometry import (
    Pose,
    matrix_to_quaternion,
    norm,
    normalize_quaternion,
    quaternion_conjugate,
    quaternion_multiply,
    quaternion_to_matrix,
    quaternion_to_rot6d,
    quaternion_to_rotvec,
    rot6d_to_quaternion,
    rotation_angle,
    rotation_between,
    rotvec_to_quaternion,
    slerp,
)

DOWN = np.array([0.0, 1.0, 0.0, 0.0])
"""The tool pointing straight down: w = 0, where the sign of a quaternion is undecided."""

axes = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)).filter(lambda v: np.linalg.norm(v) > 0.1)
angles = st.one_of(
    st.floats(0.0, math.pi),
    st.floats(0.0, 1e-3),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-6, 9.9e-5, 1.01e-4, math.pi - 1e-9, math.pi - 1e-6, math.pi - 1e-4, math.pi]),
)
rotvecs = st.builds(lambda axis, angle: axis / np.linalg.norm(axis) * angle, axes, angles)
quaternions = st.one_of(rotvecs.map(lambda v: Rotation.from_rotvec(v).as_quat()), st.just(DOWN), st.just(-DOWN))
points = arrays(np.float64, 3, elements=st.floats(-2.0, 2.0))
poses = st.builds(Pose, points, quaternions)


def same_rotation(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return min(np.abs(a - b).max(), np.abs(a + b).max()) < tolerance


def close(a: Pose, b: Pose, tolerance: float = 1e-9) -> bool:
    return np.abs(a.position - b.position).max() < tolerance and same_rotation(a.quaternion, b.quaternion, tolerance)


@given(rotvecs)
def test_rotation_vector_to_quaternion_agrees_with_scipy_and_comes_back(rotvec: np.ndarray) -> None:
    q = rotvec_to_quaternion(rotvec)
    assert same_rotation(q, Rotation.from_rotvec(rotvec).as_quat(), 1e-14)
    back = quaternion_to_rotvec(q)
    assert np.linalg.norm(back) <= math.pi + 1e-12
    if np.linalg.norm(rotvec) < math.pi - 1e-6:  # at pi both signs are the same rotation
        np.testing.assert_allclose(back, rotvec, atol=1e-9)
    assert same_rotation(rotvec_to_quaternion(back), q, 1e-12)


@given(quaternions)
def test_matrix_agrees_with_scipy_and_comes_back(q: np.ndarray) -> None:
    matrix = quaternion_to_matrix(q)
    np.testing.assert_allclose(matrix, Rotation.from_quat(q).as_matrix(), atol=1e-12)
    back = matrix_to_quaternion(matrix)
    assert same_rotation(back, q, 1e-12) and back[3] >= 0.0


@given(quaternions)
def test_rot6d_is_two_columns_and_comes_back(q: np.ndarray) -> None:
    rot6d = quaternion_to_rot6d(q)
    matrix = Rotation.from_quat(q).as_matrix()
    np.testing.assert_allclose(rot6d, [*matrix[:, 0], *matrix[:, 1]], atol=1e-12)
    assert same_rotation(rot6d_to_quaternion(rot6d), q, 1e-12)


@given(quaternions, arrays(np.float64, 6, elements=st.floats(-0.2, 0.2)), st.floats(0.1, 10.0))
def test_rot6d_of_a_network_becomes_a_rotation(q: np.ndarray, noise: np.ndarray, scale: float) -> None:
    rot6d = scale * (quaternion_to_rot6d(q) + noise)
    matrix = quaternion_to_matrix(rot6d_to_quaternion(rot6d))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix[:, 0], rot6d[:3] / np.linalg.norm(rot6d[:3]), atol=1e-9)


def test_rot6d_does_not_jump_at_the_tool_down_pose() -> None:
    a = quaternion_to_rot6d(Rotation.from_rotvec([0, math.pi - 1e-6, 0]).as_quat())
    b = quaternion_to_rot6d(Rotation.from_rotvec([0, -(math.pi - 1e-6), 0]).as_quat())
    assert np.abs(a - b).max() < 1e-5


@given(quaternions, quaternions)
def test_product_agrees_with_scipy(a: np.ndarray, b: np.ndarray) -> None:
    expected = (Rotation.from_quat(a) * Rotation.from_quat(b)).as_quat()
    assert same_rotation(quaternion_multiply(a, b), expected, 1e-12)
    assert same_rotation(quaternion_multiply(a, quaternion_conjugate(a)), np.array([0, 0, 0, 1.0]), 1e-12)


@given(quaternions, quaternions)
@example(DOWN, -DOWN)
def test_angle_and_rotation_between_agree_with_scipy(a: np.ndarray, b: np.ndarray) -> None:
    delta = Rotation.from_quat(b) * Rotation.from_quat(a).inv()
    assert rotation_angle(a, b) == pytest.approx(delta.magnitude(), abs=1e-7)
    assert rotation_angle(a, b) == pytest.approx(rotation_angle(-a, b), abs=1e-12)
    turn = rotation_between(a, b)
    assert norm(turn) == pytest.approx(rotation_angle(a, b), abs=1e-7)
    assert same_rotation(quaternion_multiply(rotvec_to_quaternion(turn), a), b, 1e-9)


@pytest.mark.parametrize("angle", [1e-9, 1e-7, 1e-4, 0.1, 3.0])
def test_small_angles_are_not_lost(angle: float) -> None:
    q = rotvec_to_quaternion([0.0, 0.0, angle])
    assert rotation_angle([0, 0, 0, 1], q) == pytest.approx(angle, rel=1e-6)
    np.testing.assert_allclose(quaternion_to_rotvec(q), [0, 0, angle], rtol=1e-9)


@given(quaternions, quaternions, st.floats(0.0, 1.0))
def test_slerp_agrees_with_scipy(a: np.ndarray, b: np.ndarray, fraction: float) -> None:
    q = slerp(a, b, fraction)
    assert norm(q) == pytest.approx(1.0, abs=1e-9)
    total = rotation_angle(a, b)
    assert rotation_angle(a, q) == pytest.approx(fraction * total, abs=1e-6)
    assert rotation_angle(q, b) == pytest.approx((1.0 - fraction) * total, abs=1e-6)
    if total < math.pi - 1e-3:
        expected = Slerp([0.0, 1.0], Rotation.from_quat([a, b]))([fraction]).as_quat()[0]
        assert same_rotation(q, expected, 1e-6)


@given(quaternions, quaternions)
def test_slerp_ends_at_its_ends_and_takes_the_shorter_arc(a: np.ndarray, b: np.ndarray) -> None:
    assert same_rotation(slerp(a, b, 0.0), a, 1e-12)
    assert same_rotation(slerp(a, b, 1.0), b, 1e-12)
    assert same_rotation(slerp(a, b, 0.5), slerp(a, -b, 0.5), 1e-6) or rotation_angle(a, b) > math.pi - 1e-6


def test_slerp_by_numbers() -> None:
    a, b = rotvec_to_quaternion([0, 0, 0.2]), -rotvec_to_quaternion([0, 0, 1.0])
    np.testing.assert_allclose(quaternion_to_rotvec(slerp(a, b, 0.25)), [0, 0, 0.4], atol=1e-12)


@given(poses, poses, poses)
def test_composition_is_the_matrix_product(T_a_b: Pose, T_b_c: Pose, T_c_d: Pose) -> None:
    T_a_c = T_a_b.compose(T_b_c)
    np.testing.assert_allclose(T_a_c.matrix(), T_a_b.matrix() @ T_b_c.matrix(), atol=1e-9)
    assert close(T_a_c.compose(T_c_d), T_a_b.compose(T_b_c.compose(T_c_d)))
    assert close(Pose.from_matrix(T_a_b.matrix()), T_a_b)


@given(poses)
def test_inverse_undoes(T_a_b: Pose) -> None:
    assert close(T_a_b.compose(T_a_b.inverse()), Pose.identity())
    assert close(T_a_b.inverse().compose(T_a_b), Pose.identity())
    assert close(T_a_b.inverse().inverse(), T_a_b)
    np.testing.assert_allclose(T_a_b.inverse().matrix(), np.linalg.inv(T_a_b.matrix()), atol=1e-9)


@given(poses, arrays(np.float64, (4, 3), elements=st.floats(-1.0, 1.0)))
def test_points_go_from_child_to_parent(T_a_b: Pose, p: np.ndarray) -> None:
    expected = (T_a_b.matrix() @ np.column_stack([p, np.ones(4)]).T).T[:, :3]
    np.testing.assert_allclose(T_a_b.apply(p), expected, atol=1e-12)
    np.testing.assert_allclose(T_a_b.apply(p[0]), expected[0], atol=1e-12)


def test_T_a_b_reads_b_in_a_by_numbers() -> None:
    quarter = rotvec_to_quaternion([0, 0, math.pi / 2])
    T_base_camera = Pose([1.0, 0.0, 0.0], quarter)
    np.testing.assert_allclose(T_base_camera.apply([1.0, 0.0, 0.0]), [1.0, 1.0, 0.0], atol=1e-12)
    T_base_mark = T_base_camera.compose(Pose([0.0, 2.0, 0.0], quarter))
    np.testing.assert_allclose(T_base_mark.position, [-1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(quaternion_to_rotvec(T_base_mark.quaternion), [0, 0, math.pi], atol=1e-12)


@given(poses, poses)
def test_delta_to_is_the_inverse_of_moved(a: Pose, b: Pose) -> None:
    assert close(a.moved(*a.delta_to(b)), b)


@given(poses, points, rotvecs.filter(lambda v: np.linalg.norm(v) < 3.0))
def test_moved_is_in_the_parent_frame(a: Pose, translation: np.ndarray, rotvec: np.ndarray) -> None:
    moved = a.moved(translation, rotvec)
    back_translation, back_rotvec = a.delta_to(moved)
    np.testing.assert_allclose(back_translation, translation, atol=1e-12)
    np.testing.assert_allclose(back_rotvec, rotvec, atol=1e-9)
    metres, radians = a.distance_to(moved)
    assert metres == pytest.approx(np.linalg.norm(translation), abs=1e-12)
    assert radians == pytest.approx(np.linalg.norm(rotvec), abs=1e-9)


@given(poses, poses, st.floats(0.0, 1.0))
def test_interpolation_is_straight(a: Pose, b: Pose, fraction: float) -> None:
    between = a.interpolate(b, fraction)
    np.testing.assert_allclose(between.position, (1 - fraction) * a.position + fraction * b.position, atol=1e-12)
    assert close(a.interpolate(b, 0.0), a, 1e-12) and close(a.interpolate(b, 1.0), b, 1e-12)


@given(quaternions, st.floats(0.01, 100.0))
def test_pose_normalises_with_w_not_negative(q: np.ndarray, scale: float) -> None:
    pose = Pose(np.zeros(3), scale * q)
    assert norm(pose.quaternion) == pytest.approx(1.0, abs=1e-12) and pose.quaternion[3] >= 0.0
    assert same_rotation(pose.quaternion, q, 1e-9)


def test_pose_is_frozen_and_does_not_share_its_input() -> None:
    position = np.array([1.0, 2.0, 3.0])
    pose = Pose(position, DOWN)
    position[0] = 9.0
    assert pose.position[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        pose.position[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        pose.quaternion[0] = 0.0


@pytest.mark.parametrize(
    ("position", "quaternion", "message"),
    [
        ([0, 0], DOWN, r"position has shape \(2,\), expected \(3,\)"),
        ([[0, 0, 0]], DOWN, r"position has shape \(1, 3\)"),
        ([0, math.nan, 0], DOWN, r"position is not finite: \[0.0, nan, 0.0\]"),
        ([0, 0, math.inf], DOWN, "position is not finite"),
        ([0, 0, 0], [0, 0, 1], r"quaternion xyzw has shape \(3,\), expected \(4,\)"),
        ([0, 0, 0], [0, 0, 0, math.nan], "quaternion xyzw is not finite"),
        ([0, 0, 0], [0, 0, 0, 0], "quaternion xyzw has norm 0, expected about 1"),
        ([0, 0, 0], [1.5e308, 1.5e308, 0, 0], "quaternion xyzw has norm inf, expected about 1"),
    ],
)
def test_pose_names_the_wrong_value(position: list[float], quaternion: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pose(position, quaternion)


@pytest.mark.parametrize(
    ("rot6d", "message"),
    [
        ([0, 0, 0, 0, 1, 0], "rot6d has a first column of norm 0"),
        ([1, 0, 0, -2, 0, 0], "rot6d has parallel columns"),
        ([1, 0, 0, 0, math.nan, 0], "rot6d is not finite"),
        ([1, 0, 0], r"rot6d has shape \(3,\), expected \(6,\)"),
    ],
)
def test_rot6d_names_what_is_wrong(rot6d: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rot6d_to_quaternion(rot6d)


def test_matrices_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(ValueError, match=r"matrix has shape \(3, 3\), expected \(4, 4\)"):
        Pose.from_matrix(np.eye(3))
    with pytest.raises(ValueError, match=r"matrix has shape \(4, 4\), expected \(3, 3\)"):
        matrix_to_quaternion(np.eye(4))
    with pytest.raises(ValueError, match="not finite"):
        matrix_to_quaternion(np.full((3, 3), math.nan))


def test_normalising_keeps_a_unit_quaternion() -> None:
    np.testing.assert_array_equal(normalize_quaternion(DOWN), DOWN)
