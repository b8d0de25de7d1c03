"""RecordedStreams: the subscriptions behind an episode. Every message becomes a sample of its channel, as serialised.

It keeps the newest of each, and knows which streams an attempt cannot do without; not what becomes of samples.
"""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Mapping
from typing import Any

from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vla_rft_core.clock import seconds
from vla_rft_core.spec import RobotSpec
from vla_rft_episodes import channels, messages
from vla_rft_episodes.channels import Channel
from vla_rft_interfaces.msg import ActionChunk, ChunkVerdict, RobotState, SafetyStatus, ServoReport, SimState, SimTruth
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.recorder import Sample, color_encoder, depth_encoder
from vla_rft_nodes.transforms import ROBOT_DESCRIPTION, TF_STATIC

HEADERLESS = (channels.TF_STATIC, channels.ROBOT_DESCRIPTION)
ROBOT = (
    (channels.ROBOT_STATE, RobotState, topics.ROBOT_STATE),
    (channels.SERVO_REPORT, ServoReport, topics.SERVO_REPORT),
    (channels.ACTION_CHUNK, ActionChunk, topics.ACTION_CHUNK),
    (channels.CHUNK_VERDICT, ChunkVerdict, topics.CHUNK_VERDICT),
    (channels.JOINT_STATES, JointState, topics.JOINT_STATES),
    (channels.TCP_POSE, PoseStamped, topics.TCP_POSE),
    (channels.EXTERNAL_WRENCH, WrenchStamped, topics.EXTERNAL_WRENCH),
)
LATCHED = (
    (channels.SAFETY_STATUS, SafetyStatus, topics.SAFETY_STATUS),
    (channels.TF_STATIC, TFMessage, TF_STATIC),
    (channels.ROBOT_DESCRIPTION, String, ROBOT_DESCRIPTION),
)
SIMULATOR = (
    (channels.SIM_TRUTH, SimTruth, topics.SIM_TRUTH),
    (channels.SIM_STATE, SimState, topics.SIM_STATE),
)


class RecordedStreams:
    """Calls `on_sample` for every message and `on_lost` for what the transport says it lost."""

    def __init__(
        self,
        node: Node,
        spec: RobotSpec,
        *,
        depth: bool,
        simulated: bool,
        robot_rate: float,
        on_sample: Callable[[Sample], None],
        on_lost: Callable[[Channel, int], None],
    ) -> None:
        self._node, self._on_sample, self._on_lost = node, on_sample, on_lost
        self._latest: dict[Channel, Sample] = {}
        self.required = {channels.ROBOT_STATE: robot_rate}
        """Streams without which an attempt is worthless -> their rates [Hz]."""
        _warm_up(spec.cameras[0].name)
        for camera in spec.cameras:
            name, rate = camera.name, float(camera.fps)
            self._take(channels.color(name), Image, topics.color_image(name), qos.IMAGE_RECORDED, color_encoder(name))
            self._take(channels.camera_info(name), CameraInfo, topics.color_info(name), qos.IMAGE_RECORDED)
            self.required[channels.color(name)] = rate
            if depth:
                aligned = topics.aligned_depth(name)
                self._take(channels.depth(name), Image, aligned, qos.IMAGE_RECORDED, depth_encoder(name))
                self.required[channels.depth(name)] = rate
        for channel, message, topic in (*ROBOT, *(SIMULATOR if simulated else ())):
            self._take(channel, message, topic, qos.EVENT)
        for channel, message, topic in LATCHED:
            self._take(channel, message, topic, qos.LATCHED)

    def latest(self, channel: Channel) -> Sample | None:
        """The newest sample; None before the first one."""
        return self._latest.get(channel)

    def latched(self) -> list[Sample]:
        """What holds until it is said anew: every attempt begins with it."""
        held = (*channels.LATCHED, *(c for c in self._latest if c.type == "sensor_msgs/msg/CameraInfo"))
        return [self._latest[channel] for channel in held if channel in self._latest]

    def silent(self, limit_s: float) -> str:
        """A sentence about a required stream that is silent for longer; empty when there is none."""
        now_ns = time.time_ns()
        for channel in self.required:
            sample = self._latest.get(channel)
            if sample is None:
                return f"{channel.topic} has not been heard yet"
            silent_s = seconds(now_ns - sample.received_ns)
            if silent_s > limit_s:
                return f"{channel.topic} has been silent for {silent_s:.1f} s"
        return ""

    def _take(
        self,
        channel: Channel,
        message: type,
        topic: str,
        profile: QoSProfile,
        encode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        def on_message(data: bytes, info: Mapping[str, int]) -> None:
            received_ns = time.time_ns()
            stamp_ns = received_ns if channel in HEADERLESS else convert.raw_stamp_ns(data)
            # A chunk is stamped with the picture it answers, which may be older than the attempt it belongs to.
            born_ns = info["source_timestamp"] if channel is channels.ACTION_CHUNK else stamp_ns
            sample = self._latest[channel] = Sample(channel, data, stamp_ns, received_ns, born_ns, encode)
            self._on_sample(sample)

        def on_lost(event: Any) -> None:
            self._on_lost(channel, event.total_count_change)

        events = SubscriptionEventCallbacks(message_lost=on_lost)
        self._node.create_subscription(message, topic, on_message, profile, raw=True, event_callbacks=events)


def _warm_up(camera: str) -> None:
    """Codecs are generated on first use, which takes a second: not while an attempt begins."""
    for encoding, size, encode in (("rgb8", 3, color_encoder(camera)), ("16UC1", 2, depth_encoder(camera))):
        image = Image(width=8, height=8, encoding=encoding, data=array.array("B", bytes(64 * size)))
        encode(serialize_message(image))
    for channel in (value for value in vars(channels).values() if isinstance(value, Channel)):
        messages.schema_text(channel.type)
        messages.type_hash(channel.type)
