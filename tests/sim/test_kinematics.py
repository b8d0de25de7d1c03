"""The arm's kinematics against the vendor's published numbers, finite differences and a round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core.geometry import Pose
from vla_rft_hardware.description import load_rizon4s
from vla_rft_sim.kinematics import ArmKinematics, rotation_error
from vla_rft_sim.layout import HOME_Q, TOOL_DOWN

VECTORS = load_rizon4s()["fk_test_vectors"]
ARM = ArmKinematics()
joints = st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7).map(
    lambda f: ARM.lower + (np.array(f) + 1.0) / 2.0 * (ARM.upper - ARM.lower)
)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_forward_kinematics_agrees_with_the_published_vectors(vector: dict) -> None:
    q = np.array(vector["q"])
    w, x, y, z = vector["flange_quat_wxyz"]
    metres, radians = ARM.flange_pose(q).distance_to(Pose(vector["flange_xyz"], (x, y, z, w)))
    assert metres < 1e-6 and radians < 1e-6
    assert np.abs(ARM.tcp_pose(q).position - vector["tcp_gn01_closed_xyz"]).max() < 1e-6


@given(joints)
def test_jacobian_is_the_derivative_of_the_tcp(q: np.ndarray) -> None:
    step = 1e-6
    tcp, jacobian = ARM.tcp_and_jacobian(q)
    for joint in range(7):
        moved = q.copy()
        moved[joint] += step
        after = ARM.tcp_and_jacobian(moved)[0]
        linear = (after[:3, 3] - tcp[:3, 3]) / step
        angular = np.array(rotation_error(tcp[:3, :3], after[:3, :3])) / step
        assert np.allclose(jacobian[:, joint], [*linear, *angular], atol=1e-4)


def test_home_is_tool_down_where_the_layout_says() -> None:
    metres, radians = ARM.tcp_pose(HOME_Q).distance_to(Pose((0.40, 0.0, 0.28), TOOL_DOWN))
    assert metres < 1e-6 and radians < 1e-6


@given(st.floats(0.38, 0.70), st.floats(-0.25, 0.25), st.floats(0.0, 0.35), st.floats(-0.5, 0.5))
def test_solve_reaches_every_pose_of_the_work_area(x: float, y: float, z: float, yaw: float) -> None:
    wanted = Pose((x, y, z), TOOL_DOWN).moved((0, 0, 0), (0, 0, yaw))
    q = ARM.solve(wanted, HOME_Q)
    metres, radians = ARM.tcp_pose(q).distance_to(wanted)
    assert metres < 1e-6 and radians < 1e-6
    assert (q >= ARM.lower).all() and (q <= ARM.upper).all()


def test_solve_names_a_pose_out_of_reach() -> None:
    with pytest.raises(ValueError, match=r"no joint positions reach tcp \[1.5, 0.0, 0.3\]"):
        ARM.solve(Pose((1.5, 0.0, 0.3), TOOL_DOWN), HOME_Q)
