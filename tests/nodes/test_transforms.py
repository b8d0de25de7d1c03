"""Fixed frames and URDF as a listener that joins late receives them."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vla_rft_core.cell import find_cell
from vla_rft_hardware.description.frames import cell_frames
from vla_rft_nodes import convert, qos
from vla_rft_nodes.ros import prepare_environment
from vla_rft_nodes.transforms import ROBOT_DESCRIPTION, TF_STATIC, StaticFrames

pytestmark = [pytest.mark.ros, pytest.mark.realtime]
CELL = find_cell("vla_rft_sim:towel_cell")


@pytest.fixture
def context() -> Iterator[Context]:
    """Give ROS to one test, apart from any graph that others started."""
    prepare_environment()
    own = Context()
    rclpy.init(context=own)
    yield own
    rclpy.shutdown(context=own)


def test_who_joins_late_gets_every_frame_and_the_urdf(context):
    publisher = Node("frames", context=context)
    frames = StaticFrames(publisher, CELL)
    listener = Node("listener", context=context)
    heard: dict[str, object] = {}
    listener.create_subscription(TFMessage, TF_STATIC, lambda m: heard.__setitem__("tf", m), qos.LATCHED)
    listener.create_subscription(String, ROBOT_DESCRIPTION, lambda m: heard.__setitem__("urdf", m), qos.LATCHED)
    executor = SingleThreadedExecutor(context=context)
    for node in (publisher, listener):
        executor.add_node(node)
    patience = time.monotonic() + 20.0
    while len(heard) < 2 and time.monotonic() < patience:
        executor.spin_once(timeout_sec=0.1)
    for node in (publisher, listener):
        node.destroy_node()
    assert set(heard) == {"tf", "urdf"} and frames is not None

    tree = {t.child_frame_id: t for t in heard["tf"].transforms}
    assert {child: t.header.frame_id for child, t in tree.items()} == {
        "base_link": "world",
        "base": "base_link",
        "flange": "link7",
        "grav_base_link": "flange",
        "closed_fingers_tcp": "grav_base_link",
        "front_color_optical_frame": "base",
    }
    assert tree["closed_fingers_tcp"].transform.translation.z == pytest.approx(CELL.spec.tool.tcp_position[2])
    camera = tree["front_color_optical_frame"].transform
    mount = CELL.calibration.cameras[0].T_base_camera
    assert [camera.translation.x, camera.translation.y, camera.translation.z] == pytest.approx(mount.position)
    rotation = [camera.rotation.x, camera.rotation.y, camera.rotation.z, camera.rotation.w]
    assert rotation == pytest.approx(mount.quaternion)

    links = {link.attrib["name"] for link in ET.fromstring(heard["urdf"].data.encode()).iter("link")}
    assert set(tree) - {"front_color_optical_frame"} <= links


def test_frame_names_are_those_in_the_headers_of_images_and_states():
    frames = {name for frame in cell_frames(CELL) for name in (frame.parent, frame.child)}
    assert {convert.BASE, *(convert.optical_frame(camera.name) for camera in CELL.spec.cameras)} <= frames
