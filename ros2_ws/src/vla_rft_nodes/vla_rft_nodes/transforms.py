"""The cell's fixed frames on /tf_static and its URDF on robot_description, latched: whoever joins late gets both.

Only what never moves. The moving links follow from `joint_states`; where the tcp is stands in `robot_state`.
"""

from __future__ import annotations

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vla_rft_core.cell import CellFolder
from vla_rft_hardware.description.frames import FixedFrame, cell_frames
from vla_rft_hardware.description.urdf import rizon4s_urdf
from vla_rft_nodes import qos
from vla_rft_nodes.convert import to_header

TF_STATIC = "/tf_static"
"""Global, as every TF listener expects."""
ROBOT_DESCRIPTION = "robot_description"


class StaticFrames:
    """Publishes once, when it is made; keep it for as long as the node lives.

    Example: `self._frames = StaticFrames(self, cell)`
    """

    def __init__(self, node: Node, cell: CellFolder) -> None:
        self._transforms = node.create_publisher(TFMessage, TF_STATIC, qos.LATCHED)
        self._description = node.create_publisher(String, ROBOT_DESCRIPTION, qos.LATCHED)
        stamp_ns = node.get_clock().now().nanoseconds
        frames = [to_transform(frame, stamp_ns=stamp_ns) for frame in cell_frames(cell)]
        self._transforms.publish(TFMessage(transforms=frames))
        self._description.publish(String(data=rizon4s_urdf(cell.spec.tool)))


def to_transform(frame: FixedFrame, *, stamp_ns: int) -> TransformStamped:
    """A fixed frame as a message: the child expressed in the parent."""
    x, y, z = frame.pose.position.tolist()
    qx, qy, qz, qw = frame.pose.quaternion.tolist()
    return TransformStamped(
        header=to_header(stamp_ns, frame.parent),
        child_frame_id=frame.child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
    )
