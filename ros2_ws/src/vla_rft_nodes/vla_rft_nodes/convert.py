"""Our types <-> ROS messages. The only place where fields of messages are named together with fields of core types."""

from __future__ import annotations

import array
import struct

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Twist, Vector3, Wrench, WrenchStamped
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from vla_rft_core import types as core
from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import NS_PER_S, seconds
from vla_rft_core.geometry import Array
from vla_rft_core.geometry import Pose as CorePose
from vla_rft_hardware.protocols import CameraInfo as CoreCameraInfo
from vla_rft_hardware.servo_loop import ServoReport as CoreServoReport
from vla_rft_hardware.servo_loop import ServoStatus
from vla_rft_interfaces.msg import ActionChunk, ChunkVerdict, RobotState, SafetyStatus, ServoReport

BASE = "base"
"""Frame of all poses: the robot's base."""


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds as a stamp."""
    return Time(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def to_ns(stamp: Time | Duration) -> int:
    """A stamp or duration as nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def raw_stamp_ns(serialized: bytes) -> int:
    """The stamp of a serialised message that begins with a header, without deserialising it (CDR, XTypes 7.4.3)."""
    little_endian = serialized[1] & 1
    sec, nanosec = struct.unpack_from("<iI" if little_endian else ">iI", serialized, 4)
    return int(sec) * NS_PER_S + int(nanosec)


def to_header(stamp_ns: int, frame: str = "") -> Header:
    """A header."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame)


def to_pose(pose: CorePose) -> Pose:
    """A pose message, orientation xyzw."""
    x, y, z = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_arrays(pose: Pose) -> tuple[list[float], list[float]]:
    """(position, quaternion xyzw) of a pose message, unchecked."""
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z], [q.x, q.y, q.z, q.w]


def from_pose(pose: Pose) -> CorePose:
    """A pose; ValueError when the message's values are not one."""
    position, quaternion = pose_arrays(pose)
    return CorePose(np.array(position), np.array(quaternion))


def _vector(values: Array) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)


def _array(*vectors: Vector3) -> Array:
    return np.array([value for v in vectors for value in (v.x, v.y, v.z)])


def to_robot_state(state: core.RobotState) -> RobotState:
    """Arm and gripper as one message."""
    arm, gripper, reference = state.arm, state.gripper, state.reference
    return RobotState(
        header=to_header(arm.stamp_ns, BASE),
        joint_positions=arm.q.tolist(),
        joint_velocities=arm.dq.tolist(),
        external_torques=arm.tau_ext.tolist(),
        tcp_pose=to_pose(arm.T_base_tcp),
        tcp_twist=Twist(linear=_vector(arm.tcp_twist[:3]), angular=_vector(arm.tcp_twist[3:])),
        external_wrench=_wrench(arm.wrench),
        gripper_width=gripper.width,
        gripper_force=gripper.force,
        gripper_moving=gripper.moving,
        commanded_tcp_pose=to_pose(reference.T_base_tcp),
        commanded_gripper_width=float(reference.width),
        operational=arm.operational,
        fault=arm.fault,
    )


def from_robot_state(message: RobotState) -> core.RobotState:
    """What `to_robot_state` sent."""
    stamp_ns = to_ns(message.header.stamp)
    arm = core.ArmState(
        stamp_ns=stamp_ns,
        q=np.array(message.joint_positions),
        dq=np.array(message.joint_velocities),
        tau_ext=np.array(message.external_torques),
        T_base_tcp=from_pose(message.tcp_pose),
        tcp_twist=_array(message.tcp_twist.linear, message.tcp_twist.angular),
        wrench=_array(message.external_wrench.force, message.external_wrench.torque),
        operational=message.operational,
        fault=message.fault,
    )
    gripper = core.GripperState(
        stamp_ns=stamp_ns, width=message.gripper_width, force=message.gripper_force, moving=message.gripper_moving
    )
    commanded = core.SetPoint(from_pose(message.commanded_tcp_pose), message.commanded_gripper_width)
    return core.RobotState(arm=arm, gripper=gripper, commanded=commanded)


def to_joint_state(state: core.RobotState) -> JointState:
    """The standard message: seven arm joints and the finger width."""
    return JointState(
        header=to_header(state.arm.stamp_ns, BASE),
        name=[*(f"joint{i + 1}" for i in range(len(state.arm.q))), "finger_width_joint"],
        position=[*state.arm.q.tolist(), state.gripper.width],
        velocity=[*state.arm.dq.tolist(), 0.0],
    )


def to_pose_stamped(state: core.RobotState) -> PoseStamped:
    """The measured tcp in base."""
    return PoseStamped(header=to_header(state.arm.stamp_ns, BASE), pose=to_pose(state.arm.T_base_tcp))


def to_wrench_stamped(state: core.RobotState) -> WrenchStamped:
    """The external wrench on the tcp, in base."""
    return WrenchStamped(header=to_header(state.arm.stamp_ns, BASE), wrench=_wrench(state.arm.wrench))


def _wrench(values: Array) -> Wrench:
    return Wrench(force=_vector(values[:3]), torque=_vector(values[3:]))


def to_chunk(chunk: core.ActionChunk) -> ActionChunk:
    """A chunk on the wire."""
    return ActionChunk(
        header=to_header(chunk.stamp_ns, BASE),
        period=Duration(sec=chunk.period_ns // NS_PER_S, nanosec=chunk.period_ns % NS_PER_S),
        tcp_targets=[to_pose(chunk.set_point(i).T_base_tcp) for i in range(len(chunk))],
        gripper_widths=chunk.widths.tolist(),
        sequence=chunk.sequence,
        source=str(chunk.source),
        policy_id=chunk.policy_id,
    )


def from_chunk(message: ActionChunk) -> core.ActionChunk:
    """A chunk as it came, its values unchecked (the safety filter judges them).

    ValueError for an unknown source or frame.
    """
    if message.header.frame_id not in ("", BASE):
        raise ValueError(f"malformed: targets are in frame {message.header.frame_id!r}, expected {BASE!r}")
    if message.source not in list(core.Source):
        raise ValueError(f"malformed: unknown source {message.source!r}; known: {', '.join(core.Source)}")
    poses = [pose_arrays(pose) for pose in message.tcp_targets]
    return core.ActionChunk(
        stamp_ns=to_ns(message.header.stamp),
        period_ns=to_ns(message.period),
        positions=np.array([position for position, _ in poses]).reshape(-1, 3),
        quaternions=np.array([quaternion for _, quaternion in poses]).reshape(-1, 4),
        widths=np.array(message.gripper_widths, dtype=np.float64),
        sequence=message.sequence,
        source=core.Source(message.source),
        policy_id=message.policy_id,
    )


def to_verdict(outcome: ChunkOutcome, *, source: str, received_ns: int) -> ChunkVerdict:
    """What became of a chunk."""
    return ChunkVerdict(
        header=to_header(received_ns),
        sequence=outcome.sequence,
        source=source,
        accepted=outcome.accepted,
        reason=outcome.reason,
        targets_late=outcome.targets_late,
        age=seconds(outcome.age_ns),
    )


def to_servo_report(report: CoreServoReport) -> ServoReport:
    """One servo tick; poses that were not asked for or not sent repeat the set-point in force."""
    in_force = report.state.reference
    requested, safe, sent = report.requested or in_force, report.safe or in_force, report.sent or in_force
    return ServoReport(
        header=to_header(report.stamp_ns, BASE),
        sequence=report.played.sequence if report.played else 0,
        source=str(report.played.source) if report.played else "",
        requested=to_pose(requested.T_base_tcp),
        safe=to_pose(safe.T_base_tcp),
        sent=to_pose(sent.T_base_tcp),
        requested_width=float(requested.width),
        safe_width=float(safe.width),
        sent_width=float(sent.width),
        moving=report.played is not None and report.sent is not None,
        reasons=list(report.reasons),
        chunk_received=to_time(report.chunk_received_ns),
    )


def to_safety_status(status: ServoStatus, *, stamp_ns: int) -> SafetyStatus:
    """Mode, lease and counts."""
    return SafetyStatus(
        header=to_header(stamp_ns),
        mode=str(status.mode),
        source=str(status.source) if status.source else "",
        latched=str(status.mode) == SafetyStatus.HOLD_LATCHED,
        reason=status.reason,
        chunks_accepted=status.chunks_accepted,
        chunks_rejected=status.chunks_rejected,
        targets_late=status.targets_late,
    )


def to_color_image(frame: core.CameraFrame) -> Image:
    """rgb8, stamped with the capture time."""
    return _image(frame, frame.color, "rgb8")


def to_depth_image(frame: core.CameraFrame, depth: core.Depth) -> Image:
    """16UC1 in millimetres, aligned to colour."""
    return _image(frame, depth, "16UC1")


def _image(frame: core.CameraFrame, pixels: core.Image | core.Depth, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    return Image(
        header=to_header(frame.stamp_ns, optical_frame(frame.camera)),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=array.array("B", pixels.tobytes()),  # any other sequence would be checked element by element
    )


def from_color_image(message: Image) -> core.Image:
    """uint8 RGB [H, W, 3]; ValueError for another encoding or size."""
    if message.encoding != "rgb8" or len(message.data) != message.height * message.width * 3:
        size = f"{message.width}x{message.height}"
        raise ValueError(f"expected rgb8 {size}, got {message.encoding} with {len(message.data)} bytes")
    return np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.width, 3)


def optical_frame(camera: str) -> str:
    """Name of a camera's colour optical frame."""
    return f"{camera}_color_optical_frame"


def to_camera_info(info: CoreCameraInfo, *, stamp_ns: int) -> CameraInfo:
    """Intrinsics of a rectified stream: plumb_bob with zero distortion."""
    k = [info.fx, 0.0, info.cx, 0.0, info.fy, info.cy, 0.0, 0.0, 1.0]
    return CameraInfo(
        header=to_header(stamp_ns, optical_frame(info.camera)),
        height=info.height,
        width=info.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k,
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    )
