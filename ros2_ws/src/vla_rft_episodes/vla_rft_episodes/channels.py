"""The channels of an episode file: absolute topic and message type. What is below `/sim/` is ground truth."""

from __future__ import annotations

from dataclasses import dataclass

TRUTH_PREFIX = "/sim/"
"""Exports must never read a topic that begins like this."""


@dataclass(frozen=True)
class Channel:
    """One topic of one type. Example: Channel("/tcp_pose", "geometry_msgs/msg/PoseStamped")."""

    topic: str
    type: str
    """Full name of the message type."""

    @property
    def is_truth(self) -> bool:
        """Known to a simulator only."""
        return self.topic.startswith(TRUTH_PREFIX)


ROBOT_STATE = Channel("/robot_state", "vla_rft_interfaces/msg/RobotState")
SERVO_REPORT = Channel("/servo_report", "vla_rft_interfaces/msg/ServoReport")
ACTION_CHUNK = Channel("/action_chunk", "vla_rft_interfaces/msg/ActionChunk")
CHUNK_VERDICT = Channel("/chunk_verdict", "vla_rft_interfaces/msg/ChunkVerdict")
SAFETY_STATUS = Channel("/safety_status", "vla_rft_interfaces/msg/SafetyStatus")
JOINT_STATES = Channel("/joint_states", "sensor_msgs/msg/JointState")
TCP_POSE = Channel("/tcp_pose", "geometry_msgs/msg/PoseStamped")
EXTERNAL_WRENCH = Channel("/external_wrench_in_world", "geometry_msgs/msg/WrenchStamped")
TF_STATIC = Channel("/tf_static", "tf2_msgs/msg/TFMessage")
ROBOT_DESCRIPTION = Channel("/robot_description", "std_msgs/msg/String")
SIM_TRUTH = Channel("/sim/truth", "vla_rft_interfaces/msg/SimTruth")
SIM_STATE = Channel("/sim/state", "vla_rft_interfaces/msg/SimState")

LATCHED = frozenset({SAFETY_STATUS, TF_STATIC, ROBOT_DESCRIPTION})
"""Whoever joins late gets the last message."""


def color(camera: str) -> Channel:
    """Colour images of one camera, JPEG."""
    return Channel(f"/camera/{camera}/color/image_raw/compressed", "sensor_msgs/msg/CompressedImage")


def depth(camera: str) -> Channel:
    """Depth aligned to colour of one camera, PNG of uint16 millimetres."""
    return Channel(f"/camera/{camera}/aligned_depth_to_color/image_raw/compressed", "sensor_msgs/msg/CompressedImage")


def camera_info(camera: str) -> Channel:
    """Intrinsics of one camera's colour stream."""
    return Channel(f"/camera/{camera}/color/camera_info", "sensor_msgs/msg/CameraInfo")


def is_image(channel: Channel) -> bool:
    """Colour or depth."""
    return channel.type == "sensor_msgs/msg/CompressedImage"


def is_picture(topic: str) -> bool:
    """The topic of a colour or depth channel."""
    return topic.startswith("/camera/") and topic.endswith("/compressed")


def in_words(topic: str) -> str:
    """A topic as an operator calls it: "colour of front", "robot state"."""
    parts = topic.strip("/").split("/")
    kinds = {"color": "colour", "aligned_depth_to_color": "depth"}
    if parts[0] == "camera" and len(parts) > 2:
        return f"{kinds.get(parts[2], parts[2])} of {parts[1]}"
    return parts[-1].replace("_", " ")
