"""What stands around the arm <-> CDR bytes: intrinsics, fixed frames, the URDF, and a simulator's ground truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vla_rft_episodes import channels
from vla_rft_episodes.codec_common import (
    BASE,
    from_vectors,
    make,
    to_header,
    to_ns,
    to_point,
    to_quaternion,
    to_vector,
)
from vla_rft_episodes.codec_images import optical_frame
from vla_rft_episodes.entries import ColorIntrinsics, FrameTransform, Intrinsics, SimStateEntry, SimTruthEntry
from vla_rft_episodes.messages import deserialize, serialize


def encode_camera_info(info: Intrinsics, *, stamp_ns: int) -> bytes:
    """Intrinsics of a rectified stream: plumb_bob with zero distortion."""
    k = [info.fx, 0.0, info.cx, 0.0, info.fy, info.cy, 0.0, 0.0, 1.0]
    region = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    type_name = channels.camera_info(info.camera).type
    message = make(
        type_name,
        header=to_header(stamp_ns, optical_frame(info.camera)),
        height=info.height,
        width=info.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array(k),
        r=np.eye(3).reshape(-1),
        p=np.array([*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
    return serialize(type_name, message)


def decode_camera_info(data: bytes, *, camera: str) -> ColorIntrinsics:
    """What `encode_camera_info` wrote."""
    message = deserialize(channels.camera_info(camera).type, data)
    fx, _, cx, _, fy, cy = message.k.tolist()[:6]
    return ColorIntrinsics(camera=camera, width=message.width, height=message.height, fx=fx, fy=fy, cx=cx, cy=cy)


def encode_tf_static(frames: Iterable[FrameTransform], *, stamp_ns: int) -> bytes:
    """Frames that never move."""
    transforms = []
    for frame in frames:
        translation, rotation = to_vector(frame.pose.position), to_quaternion(frame.pose.quaternion)
        transforms.append(
            make(
                "geometry_msgs/msg/TransformStamped",
                header=to_header(stamp_ns, frame.parent),
                child_frame_id=frame.child,
                transform=make("geometry_msgs/msg/Transform", translation=translation, rotation=rotation),
            )
        )
    return serialize(channels.TF_STATIC.type, make(channels.TF_STATIC.type, transforms=transforms))


def encode_robot_description(urdf: str) -> bytes:
    """The URDF."""
    return serialize(channels.ROBOT_DESCRIPTION.type, make(channels.ROBOT_DESCRIPTION.type, data=urdf))


def encode_sim_truth(truth: SimTruthEntry) -> bytes:
    """Ground truth of the towel."""
    message = make(
        channels.SIM_TRUTH.type,
        header=to_header(truth.stamp_ns, BASE),
        seed=truth.seed,
        resets=truth.resets,
        corners=[to_point(corner) for corner in truth.corners],
        grasped_vertices=truth.grasped_vertices,
        edge_gap=float(truth.edge_gap),
        mirrored_gap=float(truth.mirrored_gap),
        area_ratio=float(truth.area_ratio),
        max_height=float(truth.max_height),
        success=bool(truth.success),
    )
    return serialize(channels.SIM_TRUTH.type, message)


def decode_sim_truth(data: bytes) -> SimTruthEntry:
    """What `encode_sim_truth` wrote."""
    message = deserialize(channels.SIM_TRUTH.type, data)
    return SimTruthEntry(
        stamp_ns=to_ns(message.header.stamp),
        seed=message.seed,
        resets=message.resets,
        corners=from_vectors(*message.corners).reshape(-1, 3),
        grasped_vertices=message.grasped_vertices,
        edge_gap=message.edge_gap,
        mirrored_gap=message.mirrored_gap,
        area_ratio=message.area_ratio,
        max_height=message.max_height,
        success=message.success,
    )


def encode_sim_state(state: SimStateEntry) -> bytes:
    """The whole simulated world."""
    data = np.frombuffer(state.data, dtype=np.uint8)
    message = make(channels.SIM_STATE.type, header=to_header(state.stamp_ns), format=state.format, data=data)
    return serialize(channels.SIM_STATE.type, message)


def decode_sim_state(data: bytes) -> SimStateEntry:
    """What `encode_sim_state` wrote."""
    message = deserialize(channels.SIM_STATE.type, data)
    return SimStateEntry(stamp_ns=to_ns(message.header.stamp), format=message.format, data=message.data.tobytes())
