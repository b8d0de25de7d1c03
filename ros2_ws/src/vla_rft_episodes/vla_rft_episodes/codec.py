"""Core types <-> CDR bytes, field by field as `vla_rft_nodes.convert` does with ROS's own classes.

Bytes are equal to those that the nodes publish (a test compares them). Decoding raises EpisodeError for bytes that are
no such message and ValueError for values that are no pose.
"""

from __future__ import annotations

from vla_rft_episodes.codec_images import (
    compress_color,
    compress_depth,
    decode_color,
    decode_depth,
    encode_color,
    encode_depth,
    image_stamp_ns,
    optical_frame,
)
from vla_rft_episodes.codec_robot import (
    decode_action_chunk,
    decode_chunk_verdict,
    decode_robot_state,
    decode_safety_status,
    decode_servo_report,
    encode_action_chunk,
    encode_chunk_verdict,
    encode_external_wrench,
    encode_joint_states,
    encode_robot_state,
    encode_safety_status,
    encode_servo_report,
    encode_tcp_pose,
)
from vla_rft_episodes.codec_scene import (
    decode_camera_info,
    decode_sim_state,
    decode_sim_truth,
    encode_camera_info,
    encode_robot_description,
    encode_sim_state,
    encode_sim_truth,
    encode_tf_static,
)

__all__ = [
    "compress_color",
    "compress_depth",
    "decode_action_chunk",
    "decode_camera_info",
    "decode_chunk_verdict",
    "decode_color",
    "decode_depth",
    "decode_robot_state",
    "decode_safety_status",
    "decode_servo_report",
    "decode_sim_state",
    "decode_sim_truth",
    "encode_action_chunk",
    "encode_camera_info",
    "encode_chunk_verdict",
    "encode_color",
    "encode_depth",
    "encode_external_wrench",
    "encode_joint_states",
    "encode_robot_description",
    "encode_robot_state",
    "encode_safety_status",
    "encode_servo_report",
    "encode_sim_state",
    "encode_sim_truth",
    "encode_tcp_pose",
    "encode_tf_static",
    "image_stamp_ns",
    "optical_frame",
]
