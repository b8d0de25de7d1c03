"""The arm with its gripper as a URDF, made from `rizon4s.yaml` and the spec's tool; drawn from primitives.

For pictures and for whoever plans with the model. Every real arm is calibrated at the factory and differs by
millimetres: where the tcp *is* comes from the controller's measurement, never from this model.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from vla_rft_core.geometry import IDENTITY_QUATERNION, Array, Pose, norm, rotvec_to_quaternion
from vla_rft_core.spec import ToolSpec
from vla_rft_hardware.description import load_rizon4s
from vla_rft_hardware.description.frames import FLANGE, HAND, ROOT, arm_frames, pose_rpy

ROBOT_NAME = "rizon4s_gn01"
FINGER_JOINT = "finger_width_joint"
"""Its value is the opening between the fingers [m], as in joint_states; each drawn finger follows with half of it."""

_RADII_M = (0.075, 0.066, 0.062, 0.056, 0.050, 0.046, 0.044, 0.042)
"""How thick base_link and link1 to link7 are drawn."""
_SHELL, _DARK = "0.93 0.93 0.93 1", "0.22 0.23 0.25 1"


def rizon4s_urdf(tool: ToolSpec) -> str:
    """The whole URDF; its root link is `world`, the tool's tip is a link with the tool's name."""
    model = load_rizon4s()
    robot = ET.Element("robot", name=ROBOT_NAME)
    frames = arm_frames(tool)
    for name in ("world", "base", FLANGE, tool.name):
        ET.SubElement(robot, "link", name=name)
    ends = [joint["origin_xyz"] for joint in model["joints"]] + [model["flange"]["origin_xyz"]]
    for link, end, radius in zip(model["links"], ends, _RADII_M, strict=True):
        _add_link(robot, link, end=np.array(end, dtype=np.float64), radius=radius)
    parent = ROOT
    for index, joint in enumerate(model["joints"], start=1):
        _add_revolute(robot, joint, parent=parent, child=f"link{index}")
        parent = f"link{index}"
    _add_gripper(robot, model["gripper_gn01"], tip=frames[-1].pose)
    for frame in frames:
        joint = _add_joint(robot, f"{frame.child}_fixed", "fixed", parent=frame.parent, child=frame.child)
        _add_origin(joint, frame.pose.position, pose_rpy(frame.pose))
    ET.indent(robot)
    return f'<?xml version="1.0"?>\n{ET.tostring(robot, encoding="unicode")}\n'


def _numbers(values: Any) -> str:
    return " ".join(f"{float(value) + 0.0:.10g}" for value in values)


def _add_origin(parent: ET.Element, xyz: Any, rpy: Any = (0.0, 0.0, 0.0)) -> None:
    ET.SubElement(parent, "origin", xyz=_numbers(xyz), rpy=_numbers(rpy))


def _add_joint(robot: ET.Element, name: str, kind: str, *, parent: str, child: str) -> ET.Element:
    joint = ET.SubElement(robot, "joint", name=name, type=kind)
    ET.SubElement(joint, "parent", link=parent)
    ET.SubElement(joint, "child", link=child)
    return joint


def _add_revolute(robot: ET.Element, data: dict[str, Any], *, parent: str, child: str) -> None:
    joint = _add_joint(robot, data["name"], "revolute", parent=parent, child=child)
    _add_origin(joint, data["origin_xyz"], data["origin_rpy"])
    ET.SubElement(joint, "axis", xyz=_numbers(data["axis"]))
    limits = {"lower": "limit_lower", "upper": "limit_upper", "velocity": "velocity", "effort": "effort"}
    ET.SubElement(joint, "limit", {key: _numbers([data[field]]) for key, field in limits.items()})
    ET.SubElement(
        joint,
        "safety_controller",
        soft_lower_limit=_numbers([data["soft_lower"]]),
        soft_upper_limit=_numbers([data["soft_upper"]]),
        k_velocity="0",
    )


def _add_link(robot: ET.Element, data: dict[str, Any], *, end: Array, radius: float) -> None:
    """A link with its inertia, drawn as a ball at its joint and a tube to the next one."""
    link = ET.SubElement(robot, "link", name=data["name"])
    _add_inertial(link, data)
    _add_visual(link, "sphere", np.zeros(3), radius=_numbers([radius]))
    length = norm(end)
    tube = {"radius": _numbers([0.9 * radius]), "length": _numbers([length])}
    _add_visual(link, "cylinder", 0.5 * end, rpy=pose_rpy(Pose(np.zeros(3), _turn_z_to(end / length))), **tube)


def _turn_z_to(direction: Array) -> Array:
    """The shortest rotation, xyzw, that takes the z axis to a unit vector (3,)."""
    axis = np.array([-direction[1], direction[0], 0.0])
    sine = norm(axis)
    if sine < 1e-9:
        return np.array(IDENTITY_QUATERNION if direction[2] > 0.0 else (1.0, 0.0, 0.0, 0.0))
    return rotvec_to_quaternion(axis / sine * np.arctan2(sine, direction[2]))


def _add_inertial(link: ET.Element, data: dict[str, Any]) -> None:
    inertial = ET.SubElement(link, "inertial")
    _add_origin(inertial, data["com"])
    ET.SubElement(inertial, "mass", value=_numbers([data["mass"]]))
    ET.SubElement(inertial, "inertia", {key: _numbers([value]) for key, value in data["inertia"].items()})


def _add_visual(link: ET.Element, shape: str, xyz: Any, *, rpy: Any = (0.0, 0.0, 0.0), **size: str) -> None:
    visual = ET.SubElement(link, "visual")
    _add_origin(visual, xyz, rpy)
    ET.SubElement(ET.SubElement(visual, "geometry"), shape, size)
    dark = shape == "box"
    material = ET.SubElement(visual, "material", name="dark" if dark else "shell")
    ET.SubElement(material, "color", rgba=_DARK if dark else _SHELL)


def _add_gripper(robot: ET.Element, data: dict[str, Any], *, tip: Pose) -> None:
    """Housing and two fingers that slide along y; the real linkage's arc (16 mm of height) is not drawn."""
    hand = ET.SubElement(robot, "link", name=HAND)
    _add_inertial(hand, data)
    _add_visual(hand, "box", (0.0, 0.0, 0.055), size="0.06 0.11 0.11")
    ET.SubElement(robot, "link", name="finger_width")
    limit = {key: _numbers([data["control_joint"][key]]) for key in ("lower", "upper", "velocity", "effort")}
    width = _add_joint(robot, FINGER_JOINT, "prismatic", parent=HAND, child="finger_width")
    ET.SubElement(width, "axis", xyz="0 1 0")
    ET.SubElement(width, "limit", limit)
    for name, side in (("left", 1.0), ("right", -1.0)):
        finger = ET.SubElement(robot, "link", name=f"{name}_finger")
        _add_visual(finger, "box", (0.0, 0.006 * side, -0.045), size="0.022 0.012 0.09")
        joint = _add_joint(robot, f"{name}_finger_joint", "prismatic", parent=HAND, child=f"{name}_finger")
        _add_origin(joint, tip.position, pose_rpy(tip))
        ET.SubElement(joint, "axis", xyz=_numbers((0.0, side, 0.0)))
        ET.SubElement(joint, "limit", limit)
        ET.SubElement(joint, "mimic", joint=FINGER_JOINT, multiplier="0.5", offset="0")
