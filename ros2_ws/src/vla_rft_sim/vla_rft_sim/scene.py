"""The MJCF of the towel cell: table, Rizon 4s with GN01, towel and camera, as a string.

Geometry and looks only. Links are drawn from primitives and touch nothing; the fingers touch the table, the towel
touches the table and itself, and is held by `connect` constraints that the world switches on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rft_core.geometry import Pose, quaternion_multiply, rotvec_to_quaternion
from vla_rft_hardware.description import load_rizon4s
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.kinematics import FLANGE_TO_TCP_M
from vla_rft_sim.layout import MAX_WIDTH_M, T_BASE_CAMERA
from vla_rft_sim.towel import LENGTH_M, WIDTH_M

TOWEL_RADIUS_M = 0.004
FINGER_LIFT_M = 0.017
"""The fingertips are this much higher when open: the linkage's arc, drawn as a straight tilted slide."""
FINGER_TRAVEL_M = math.hypot(0.5 * MAX_WIDTH_M, FINGER_LIFT_M)
_JOINT_GAINS = (4000.0, 4000.0, 3000.0, 3000.0, 1500.0, 1500.0, 1000.0)
DAMPING_TIME_S = 0.06
"""Joint damping over joint stiffness of the position servos; also what the velocity feed-forward makes up for."""

Shape = tuple[str, tuple[float, float, float], tuple[float, float, float], float, str]
"""Kind, from, to, radius [m] in the link's frame, and material."""
_LINK_SHAPES: tuple[tuple[Shape, ...], ...] = (
    (
        ("cylinder", (0, 0, 0.003), (0, 0, 0.07), 0.066, "shell"),
        ("capsule", (0, 0, 0.07), (0, 0, 0.20), 0.066, "shell"),
        ("cylinder", (0, -0.045, 0.21), (0, 0.03, 0.21), 0.072, "shell"),
    ),
    (
        ("cylinder", (0, -0.01, 0), (0, 0.065, 0), 0.066, "joint"),
        ("capsule", (0, 0.035, 0.02), (0, 0.035, 0.14), 0.062, "shell"),
    ),
    (
        ("cylinder", (0, 0, -0.055), (0, 0, -0.02), 0.057, "joint"),
        ("capsule", (0, 0, 0), (-0.01, 0, 0.17), 0.056, "shell"),
        ("cylinder", (-0.02, -0.045, 0.19), (-0.02, 0.04, 0.19), 0.058, "shell"),
    ),
    (
        ("cylinder", (0, 0, 0), (0, 0.055, 0), 0.054, "joint"),
        ("capsule", (0, 0.028, 0), (-0.02, 0.025, 0.13), 0.05, "shell"),
    ),
    (
        ("cylinder", (0, 0, -0.05), (0, 0, -0.02), 0.047, "joint"),
        ("capsule", (0, 0, 0), (0, 0, 0.16), 0.046, "shell"),
        ("cylinder", (0, -0.035, 0.19), (0, 0.03, 0.19), 0.05, "shell"),
    ),
    (
        ("cylinder", (0, 0, 0), (0, 0.075, 0), 0.046, "joint"),
        ("capsule", (0, 0.07, 0), (-0.005, 0.073, 0.11), 0.044, "shell"),
    ),
    (
        ("cylinder", (0, 0, -0.03), (0, 0, 0.085), 0.044, "shell"),
        ("cylinder", (0, 0, 0.085), (0, 0, 0.124), 0.042, "joint"),
    ),
)

_PLANK_RGB = (
    (0.83, 0.70, 0.53),
    (0.80, 0.66, 0.49),
    (0.85, 0.73, 0.56),
    (0.78, 0.65, 0.47),
    (0.82, 0.69, 0.51),
    (0.86, 0.73, 0.55),
    (0.80, 0.67, 0.51),
    (0.84, 0.71, 0.52),
    (0.79, 0.66, 0.48),
    (0.83, 0.70, 0.54),
)


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What another scene has beside the towel cell, or elsewhere; MJCF text in each place."""

    assets: str = ""
    on_table: str = ""
    on_gripper: str = ""
    """In the flange's frame."""
    T_base_camera: Pose = T_BASE_CAMERA
    description: Mapping[str, Any] | None = None
    """Of the arm, as `load_rizon4s` gives it; None: the vendor's nominal one."""


def scene_xml(
    *,
    cloth: tuple[int, int],
    selfcollide: bool,
    camera: CameraInfo,
    multisamples: int = 0,
    additions: Additions | None = None,
) -> str:
    """The whole model. cloth: vertices (along, across); camera: the colour stream's calibration.

    A towel that has nearly come to rest is put to sleep and costs nothing until something moves it; contacts of the
    folded towel with itself are most of the cost.
    """
    additions = additions or Additions()
    description = additions.description or load_rizon4s()
    extent = 2.0
    return f"""
<mujoco model="towel_cell">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast" solver="CG" iterations="50" tolerance="1e-6" cone="elliptic"
    sleep_tolerance="0.02">
    <flag autoreset="disable" sleep="enable"/>
  </option>
  <size memory="100M"/>
  <statistic extent="{extent}" center="0.4 0 0.2"/>
  <visual>
    <global offwidth="{camera.width}" offheight="{camera.height}"/>
    <quality offsamples="{multisamples}" shadowsize="2048" numslices="18" numstacks="8" numquads="1"/>
    <map znear="{0.05 / extent}" zfar="{6.0 / extent}"/>
    <headlight ambient=".42 .42 .43" diffuse=".22 .22 .22" specular="0 0 0"/>
  </visual>
  {_ASSETS}
  <asset>{additions.assets}</asset>
  <worldbody>
    {_surroundings(camera, additions.T_base_camera)}
    {additions.on_table}
    {_arm_xml(description, additions.on_gripper)}
    {_towel_xml(cloth, selfcollide)}
  </worldbody>
  <equality>
    <joint joint1="finger_right" joint2="finger_left" solref="0.01 1"/>
    {_grasp_points_xml(cloth)}
  </equality>
  <actuator>
    {_actuators_xml(description)}
  </actuator>
</mujoco>"""


_ASSETS = """
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".93 .94 .95" rgb2=".78 .80 .83" width="64" height="384"/>
    <texture name="terry" type="2d" builtin="flat" rgb1=".4 .58 .8" width="280" height="196"/>
    <material name="terry" texture="terry" specular="0" shininess="0"/>
    <material name="shell" rgba=".86 .87 .88 1" specular=".35" shininess=".5"/>
    <material name="joint" rgba=".25 .27 .30 1" specular=".4" shininess=".5"/>
    <material name="pad" rgba=".13 .13 .14 1" specular=".1" shininess=".1"/>
    <material name="steel" rgba=".62 .64 .67 1" specular=".6" shininess=".7"/>
    <material name="wall" rgba=".88 .88 .86 1" specular="0" emission=".25"/>
    <material name="floor" rgba=".62 .64 .66 1" specular="0"/>
  </asset>"""


def numbers(values: Any) -> str:
    """As an attribute of MJCF."""
    return " ".join(f"{float(v):.9g}" for v in values)


def wxyz(quaternion: Any) -> str:
    """A quaternion xyzw as an attribute of MJCF."""
    x, y, z, w = quaternion
    return numbers((w, x, y, z))


def _surroundings(camera: CameraInfo, T_base_camera: Pose) -> str:
    """Light, table, room, and the camera looking along -z of its MuJoCo frame (x right, y up)."""
    optical_to_mujoco = rotvec_to_quaternion([math.pi, 0.0, 0.0])
    quaternion = quaternion_multiply(T_base_camera.quaternion, optical_to_mujoco)
    behind = T_base_camera.compose(Pose((0.0, 0.0, -0.03), (0.0, 0.0, 0.0, 1.0)))
    # MuJoCo shifts the image by this; a pixel's centre has whole coordinates here.
    principal = (0.5 * (camera.width - 1) - camera.cx, 0.5 * (camera.height - 1) - camera.cy)
    return f"""
    <light name="lamp" pos="0.9 -0.7 1.8" dir="-0.35 0.4 -1" directional="true" diffuse=".5 .49 .47"
      specular=".25 .25 .25" castshadow="true"/>
    <light name="window" pos="0.2 1.5 1.5" dir="0.1 -0.8 -0.6" directional="true" diffuse=".16 .17 .19"
      specular="0 0 0" castshadow="false"/>
    <geom name="table" type="plane" size="2 2 .1" condim="3" friction=".8" contype="1" conaffinity="3" group="4"/>
    {_table_xml()}
    <geom type="box" pos="0 0 -.77" size="3 3 .02" material="floor" contype="0" conaffinity="0" mass="0"/>
    <geom type="box" pos="-1.6 0 .6" size=".02 3 1.4" material="wall" contype="0" conaffinity="0" mass="0"/>
    <geom type="box" pos="0 -2.4 .6" size="1.6 .02 1.4" material="wall" contype="0" conaffinity="0" mass="0"/>
    <geom type="box" pos="{numbers(behind.position)}" quat="{wxyz(behind.quaternion)}" size=".045 .0125 .0125"
      material="steel" contype="0" conaffinity="0" mass="0"/>
    <camera name="color" pos="{numbers(T_base_camera.position)}" quat="{wxyz(quaternion)}"
      resolution="{camera.width} {camera.height}" sensorsize="{camera.width * 3e-6} {camera.height * 3e-6}"
      focalpixel="{camera.fx} {camera.fy}" principalpixel="{numbers(principal)}"/>"""


def _table_xml() -> str:
    """Planks along x with their tops at z = 0 and dark joints between them; plain colours, textures cost much more."""
    pitch, gap, thickness = 0.17, 0.0025, 0.02
    planks = ""
    for index, (red, green, blue) in enumerate(_PLANK_RGB):
        y = (index - 0.5 * (len(_PLANK_RGB) - 1)) * pitch
        planks += (
            f'<geom name="plank_{index}" type="box" pos=".40 {y:.4f} {-thickness}" '
            f'size=".62 {0.5 * (pitch - gap)} {thickness}" '
            f'rgba="{red} {green} {blue} 1" contype="0" conaffinity="0" mass="0"/>'
            f'<geom name="plank_joint_{index}" type="box" pos=".40 {y + 0.5 * pitch:.4f} {-thickness - 0.002}" '
            f'size=".62 {gap} {thickness}" '
            'rgba=".42 .31 .21 1" contype="0" conaffinity="0" mass="0"/>'
        )
    return planks


def _shape_xml(kind: str, start: Any, end: Any, radius: float, material: str) -> str:
    return (
        f'<geom type="{kind}" fromto="{numbers((*start, *end))}" size="{radius}" material="{material}" '
        'contype="0" conaffinity="0" mass="0"/>'
    )


def _inertial_xml(body: dict[str, Any]) -> str:
    i = body["inertia"]
    full = numbers((i["ixx"], i["iyy"], i["izz"], i.get("ixy", 0), i.get("ixz", 0), i.get("iyz", 0)))
    return f'<inertial pos="{numbers(body["com"])}" mass="{body["mass"]}" fullinertia="{full}"/>'


def _origin_xml(body: dict[str, Any]) -> str:
    roll, pitch, yaw = body["origin_rpy"]
    quaternion = rotvec_to_quaternion([0.0, 0.0, yaw])
    quaternion = quaternion_multiply(quaternion, rotvec_to_quaternion([0.0, pitch, 0.0]))
    quaternion = quaternion_multiply(quaternion, rotvec_to_quaternion([roll, 0.0, 0.0]))
    return f'pos="{numbers(body["origin_xyz"])}" quat="{wxyz(quaternion)}"'


def _arm_xml(description: Mapping[str, Any], on_gripper: str) -> str:
    """Base, the seven links nested, flange and gripper."""
    xml = _gripper_xml(description, on_gripper)
    xml = f'<body name="flange" {_origin_xml(description["flange"])}>{xml}</body>'
    for joint, link, shapes in reversed(
        list(zip(description["joints"], description["links"][1:], _LINK_SHAPES, strict=True))
    ):
        limits = numbers((joint["limit_lower"], joint["limit_upper"]))
        geoms = "\n".join(_shape_xml(*shape) for shape in shapes)
        xml = f"""
        <body name="{link["name"]}" {_origin_xml(joint)} gravcomp="1">
          {_inertial_xml(link)}
          <joint name="{joint["name"]}" axis="{numbers(joint["axis"])}" range="{limits}" armature=".1"/>
          {geoms}
          {xml}
        </body>"""
    base = _shape_xml("cylinder", (0, 0, 0), (0, 0, 0.03), 0.095, "joint")
    base += _shape_xml("cylinder", (0, 0, 0.03), (0, 0, 0.14), 0.075, "shell")
    base += _shape_xml("cylinder", (0, 0, 0.14), (0, 0, 0.158), 0.07, "joint")
    return f'<body name="base_link">{base}{xml}</body>'


def _gripper_xml(description: Mapping[str, Any], on_gripper: str) -> str:
    """The GN01 as a housing and two fingers on tilted slides that meet at the tcp."""
    gripper = description["gripper_gn01"]
    fingers = ""
    for name, side in (("left", 1.0), ("right", -1.0)):
        axis = (0.0, side * 0.5 * MAX_WIDTH_M, -FINGER_LIFT_M)
        fingers += f"""
        <body name="{name}_finger" pos="0 0 {FLANGE_TO_TCP_M}" gravcomp="1">
          <joint name="finger_{name}" type="slide" axis="{numbers(axis)}" range="0 {FINGER_TRAVEL_M:.6f}"
            armature=".3" damping="5"/>
          <geom name="{name}_pad" type="box" pos="0 {side * 0.0055} -.019" size=".011 .0055 .019" material="pad"
            mass=".02" contype="2" conaffinity="0" condim="3" friction=".6"/>
          <geom type="box" pos="0 {side * 0.0145} -.030" size=".0115 .0045 .022" material="joint" mass=".02"
            contype="0" conaffinity="0"/>
          {_shape_xml("capsule", (0, side * 0.019, -0.045), (0, side * 0.040, -0.098), 0.0075, "steel")}
          {_shape_xml("capsule", (0, side * 0.012, -0.052), (0, side * 0.022, -0.098), 0.0055, "joint")}
        </body>"""
    return f"""
      <body name="gripper" gravcomp="1">
        {_inertial_xml(gripper)}
        {_shape_xml("cylinder", (0, 0, 0), (0, 0, 0.02), 0.0425, "steel")}
        <geom type="box" pos="0 0 .052" size=".030 .046 .034" material="joint" contype="0" conaffinity="0" mass="0"/>
        <geom type="box" pos="0 0 .092" size=".024 .060 .010" material="pad" contype="0" conaffinity="0" mass="0"/>
        {fingers}
        {on_gripper}
      </body>"""


def _towel_xml(cloth: tuple[int, int], selfcollide: bool) -> str:
    """A grid of point masses joined by edge constraints, with texture coordinates.

    Friction acts on the table (the table's condim counts there) but not between the towel's layers, which costs time
    and changes little.
    """
    nx, ny = cloth
    spacing = (LENGTH_M / (nx - 1), WIDTH_M / (ny - 1))
    u, v = np.meshgrid(np.linspace(0.0, 1.0, nx), np.linspace(0.0, 1.0, ny), indexing="ij")
    texture = numbers(np.stack([u, v], axis=-1).reshape(-1))
    return f"""
    <flexcomp name="towel" type="grid" dim="2" count="{nx} {ny} 1" spacing="{numbers(spacing)} .02"
      pos=".5 0 {TOWEL_RADIUS_M}" radius="{TOWEL_RADIUS_M}" mass=".05" material="terry" texcoord="{texture}">
      <edge equality="true" damping=".001" solref=".01 1"/>
      <contact condim="1" friction=".8" selfcollide="{"auto" if selfcollide else "none"}" solref=".01 1"/>
    </flexcomp>"""


def _grasp_points_xml(cloth: tuple[int, int]) -> str:
    return "\n".join(
        f'<connect name="grasp_{i}" body1="gripper" body2="towel_{i}" anchor="0 0 0" active="false"/>'
        for i in range(cloth[0] * cloth[1])
    )


def _actuators_xml(description: Mapping[str, Any]) -> str:
    """Position servos for the joints, and for the left finger (the right one is coupled to it)."""
    lines = []
    for joint, kp in zip(description["joints"], _JOINT_GAINS, strict=True):
        lines.append(
            f'<position joint="{joint["name"]}" kp="{kp}" kv="{kp * DAMPING_TIME_S}" '
            f'forcerange="-{joint["effort"]} {joint["effort"]}"/>'
        )
    effort = description["gripper_gn01"]["control_joint"]["effort"]
    lines.append(f'<position joint="finger_left" kp="4000" kv="120" forcerange="-{effort} {effort}"/>')
    return "\n".join(lines)
