"""The URDF, read back by a small parser of its own: geometry against the vendor's vectors, frames against TF's."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import reduce

import numpy as np
import pytest

from vla_rft_core.calibration import Calibration, CameraMount
from vla_rft_core.geometry import Pose, rotation_angle, rotvec_to_quaternion
from vla_rft_core.spec import ToolSpec
from vla_rft_hardware.description import load_rizon4s
from vla_rft_hardware.description.frames import arm_frames, camera_frames, origin_pose, pose_rpy
from vla_rft_hardware.description.urdf import FINGER_JOINT, rizon4s_urdf

TOOL = ToolSpec(
    name="closed_fingers_tcp", tcp_position=(0.0, 0.0, 0.2), tcp_quaternion=(0.0, 0.0, 0.0, 1.0), mass=1.186
)
VECTORS = load_rizon4s()["fk_test_vectors"]


def floats(element: ET.Element, name: str) -> list[float]:
    return [float(word) for word in element.attrib[name].split()]


def chain(robot: ET.Element, tip: str) -> list[ET.Element]:
    """Return the joints from the root to a link."""
    above = {joint.find("child").attrib["link"]: joint for joint in robot.iter("joint")}
    joints = []
    while tip in above:
        joints.append(above[tip])
        tip = above[tip].find("parent").attrib["link"]
    return joints[::-1]


def origin(element: ET.Element) -> Pose:
    found = element.find("origin")
    if found is None:
        return Pose.identity()
    return origin_pose(floats(found, "xyz"), floats(found, "rpy"))


def forward(robot: ET.Element, tip: str, values: dict[str, float]) -> Pose:
    """Return the pose of a link in the root."""
    pose = Pose.identity()
    for joint in chain(robot, tip):
        pose = pose.compose(origin(joint))
        mimic = joint.find("mimic")
        value = values.get(joint.attrib["name"], 0.0)
        if mimic is not None:
            value = float(mimic.attrib["multiplier"]) * values.get(mimic.attrib["joint"], 0.0)
        if joint.attrib["type"] != "fixed":
            along = value * np.array(floats(joint.find("axis"), "xyz"))
            if joint.attrib["type"] == "revolute":
                pose = pose.compose(Pose(np.zeros(3), rotvec_to_quaternion(along)))
            else:
                pose = pose.compose(Pose(along, np.array([0.0, 0.0, 0.0, 1.0])))
    return pose


@pytest.fixture
def robot() -> ET.Element:
    return ET.fromstring(rizon4s_urdf(TOOL).encode())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_forward_kinematics_agree_with_the_vendors_vectors(robot, vector):
    values = {f"joint{i + 1}": q for i, q in enumerate(vector["q"])}
    flange, tip = forward(robot, "flange", values), forward(robot, "closed_fingers_tcp", values)
    w, x, y, z = vector["flange_quat_wxyz"]
    assert flange.position == pytest.approx(vector["flange_xyz"], abs=2e-6)
    assert rotation_angle(flange.quaternion, Pose(np.zeros(3), [x, y, z, w]).quaternion) < 2e-6
    assert tip.position == pytest.approx(vector["tcp_gn01_closed_xyz"], abs=2e-6)


def test_it_is_one_tree_from_the_world(robot):
    links = [link.attrib["name"] for link in robot.iter("link")]
    children = [joint.find("child").attrib["link"] for joint in robot.iter("joint")]
    assert len(set(links)) == len(links) and len(set(children)) == len(children)
    assert set(links) - set(children) == {"world"}
    path = [joint.find("child").attrib["link"] for joint in chain(robot, "closed_fingers_tcp")]
    assert path == ["base_link", *(f"link{i}" for i in range(1, 8)), "flange", "grav_base_link", "closed_fingers_tcp"]


def test_limits_and_masses_are_the_vendors(robot):
    model = load_rizon4s()
    for data in model["joints"]:
        joint = robot.find(f"joint[@name='{data['name']}']")
        assert floats(joint.find("limit"), "lower") == [data["limit_lower"]]
        assert floats(joint.find("safety_controller"), "soft_upper_limit") == [data["soft_upper"]]
        assert floats(joint.find("limit"), "velocity") == [data["velocity"]]
    masses = [float(mass.attrib["value"]) for mass in robot.iter("mass")]
    assert sum(masses) == pytest.approx(model["total_mass_incl_base"] + model["gripper_gn01"]["mass"])


def test_the_finger_joint_is_the_opening_in_metres(robot):
    left, right = (forward(robot, f"{side}_finger", {FINGER_JOINT: 0.06}) for side in ("left", "right"))
    hand = forward(robot, "grav_base_link", {})
    opening = hand.inverse().apply(left.position) - hand.inverse().apply(right.position)
    assert opening == pytest.approx([0.0, 0.06, 0.0], abs=1e-9)


def test_every_tube_ends_at_the_next_joint(robot):
    for joint in chain(robot, "flange")[1:]:
        link = robot.find(f"link[@name='{joint.find('parent').attrib['link']}']")
        tube = next(visual for visual in link.iter("visual") if visual.find("geometry/cylinder") is not None)
        length = floats(tube.find("geometry/cylinder"), "length")[0]
        assert origin(tube).apply([0.0, 0.0, length / 2]) == pytest.approx(origin(joint).position, abs=1e-8)


def test_another_tool_moves_the_tip_in_urdf_and_frames_alike():
    tool = ToolSpec(name="tip", tcp_position=(0.01, 0.02, 0.3), tcp_quaternion=(0.0, 0.6, 0.0, 0.8), mass=2.0)
    robot = ET.fromstring(rizon4s_urdf(tool).encode())
    drawn = forward(robot, "flange", {}).inverse().compose(forward(robot, "tip", {}))
    frames = {frame.child: frame for frame in arm_frames(tool)}
    listed = reduce(Pose.compose, [frames[name].pose for name in ("grav_base_link", "tip")])
    assert frames["tip"].parent == "grav_base_link" and frames["grav_base_link"].parent == "flange"
    for pose in (drawn, listed):
        assert max(pose.distance_to(tool.T_flange_tcp)) < 1e-8


@pytest.mark.parametrize("rpy", [(0.3, -0.4, 2.0), (0.3, np.pi / 2, 1.0), (-2.0, -np.pi / 2, 0.2), (0.0, 0.0, np.pi)])
def test_roll_pitch_yaw_and_back(rpy):
    pose = origin_pose([0.1, 0.2, 0.3], list(rpy))
    again = origin_pose([0.1, 0.2, 0.3], list(pose_rpy(pose)))
    assert max(pose.distance_to(again)) < 1e-6


def test_cameras_hang_off_base():
    mount = CameraMount(name="front", position=(1.0, 0.3, 0.5), quaternion=(0.0, 1.0, 0.0, 0.0))
    (frame,) = camera_frames(Calibration(id="x", cameras=(mount,)))
    assert (frame.parent, frame.child) == ("base", "front_color_optical_frame")
    assert frame.pose.position == pytest.approx([1.0, 0.3, 0.5])
