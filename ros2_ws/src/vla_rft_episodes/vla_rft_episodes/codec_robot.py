"""What the arm measured, was asked, was allowed and did <-> CDR bytes."""

from __future__ import annotations

import numpy as np

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import nanoseconds, seconds
from vla_rft_core.types import ActionChunk, ArmState, GripperState, RobotState, SetPoint, Source
from vla_rft_episodes import channels
from vla_rft_episodes.codec_common import (
    BASE,
    from_pose,
    from_vectors,
    make,
    pose_arrays,
    to_duration,
    to_header,
    to_ns,
    to_pose,
    to_time,
    to_vector,
    to_wrench,
)
from vla_rft_episodes.entries import ChunkAnswer, SafetyEvent, ServoEntry
from vla_rft_episodes.messages import deserialize, serialize


def encode_robot_state(state: RobotState) -> bytes:
    """Arm and gripper as one message; before a set-point was sent, the measured pose stands in for it."""
    arm, gripper, reference = state.arm, state.gripper, state.reference
    twist = make("geometry_msgs/msg/Twist", linear=to_vector(arm.tcp_twist[:3]), angular=to_vector(arm.tcp_twist[3:]))
    message = make(
        channels.ROBOT_STATE.type,
        header=to_header(arm.stamp_ns, BASE),
        joint_positions=np.asarray(arm.q, dtype=np.float64),
        joint_velocities=np.asarray(arm.dq, dtype=np.float64),
        external_torques=np.asarray(arm.tau_ext, dtype=np.float64),
        tcp_pose=to_pose(arm.T_base_tcp),
        tcp_twist=twist,
        external_wrench=to_wrench(arm.wrench),
        gripper_width=float(gripper.width),
        gripper_force=float(gripper.force),
        gripper_moving=bool(gripper.moving),
        commanded_tcp_pose=to_pose(reference.T_base_tcp),
        commanded_gripper_width=float(reference.width),
        operational=bool(arm.operational),
        fault=arm.fault,
    )
    return serialize(channels.ROBOT_STATE.type, message)


def decode_robot_state(data: bytes) -> RobotState:
    """What `encode_robot_state` wrote; the gripper takes the arm's stamp, as the message has one."""
    message = deserialize(channels.ROBOT_STATE.type, data)
    stamp_ns = to_ns(message.header.stamp)
    arm = ArmState(
        stamp_ns=stamp_ns,
        q=message.joint_positions,
        dq=message.joint_velocities,
        tau_ext=message.external_torques,
        T_base_tcp=from_pose(message.tcp_pose),
        tcp_twist=from_vectors(message.tcp_twist.linear, message.tcp_twist.angular),
        wrench=from_vectors(message.external_wrench.force, message.external_wrench.torque),
        operational=message.operational,
        fault=message.fault,
    )
    gripper = GripperState(
        stamp_ns=stamp_ns, width=message.gripper_width, force=message.gripper_force, moving=message.gripper_moving
    )
    commanded = SetPoint(from_pose(message.commanded_tcp_pose), message.commanded_gripper_width)
    return RobotState(arm=arm, gripper=gripper, commanded=commanded)


def encode_joint_states(state: RobotState) -> bytes:
    """The standard message: the arm's joints and the finger width."""
    message = make(
        channels.JOINT_STATES.type,
        header=to_header(state.arm.stamp_ns, BASE),
        name=[*(f"joint{i + 1}" for i in range(len(state.arm.q))), "finger_width_joint"],
        position=np.array([*state.arm.q, state.gripper.width]),
        velocity=np.array([*state.arm.dq, 0.0]),
        effort=np.empty(0),
    )
    return serialize(channels.JOINT_STATES.type, message)


def encode_tcp_pose(state: RobotState) -> bytes:
    """The measured tcp in base."""
    header = to_header(state.arm.stamp_ns, BASE)
    return serialize(
        channels.TCP_POSE.type, make(channels.TCP_POSE.type, header=header, pose=to_pose(state.arm.T_base_tcp))
    )


def encode_external_wrench(state: RobotState) -> bytes:
    """The external wrench on the tcp, in base."""
    header = to_header(state.arm.stamp_ns, BASE)
    message = make(channels.EXTERNAL_WRENCH.type, header=header, wrench=to_wrench(state.arm.wrench))
    return serialize(channels.EXTERNAL_WRENCH.type, message)


def encode_servo_report(entry: ServoEntry) -> bytes:
    """One servo tick."""
    message = make(
        channels.SERVO_REPORT.type,
        header=to_header(entry.stamp_ns, BASE),
        sequence=entry.sequence,
        source=entry.source,
        requested=to_pose(entry.requested.T_base_tcp),
        safe=to_pose(entry.safe.T_base_tcp),
        sent=to_pose(entry.sent.T_base_tcp),
        requested_width=float(entry.requested.width),
        safe_width=float(entry.safe.width),
        sent_width=float(entry.sent.width),
        moving=entry.moving,
        reasons=list(entry.reasons),
        chunk_received=to_time(entry.chunk_received_ns),
    )
    return serialize(channels.SERVO_REPORT.type, message)


def decode_servo_report(data: bytes) -> ServoEntry:
    """What `encode_servo_report` wrote."""
    message = deserialize(channels.SERVO_REPORT.type, data)
    return ServoEntry(
        stamp_ns=to_ns(message.header.stamp),
        source=message.source,
        sequence=message.sequence,
        requested=SetPoint(from_pose(message.requested), message.requested_width),
        safe=SetPoint(from_pose(message.safe), message.safe_width),
        sent=SetPoint(from_pose(message.sent), message.sent_width),
        moving=message.moving,
        reasons=tuple(message.reasons),
        chunk_received_ns=to_ns(message.chunk_received),
    )


def encode_action_chunk(chunk: ActionChunk) -> bytes:
    """A chunk as it goes over the wire."""
    message = make(
        channels.ACTION_CHUNK.type,
        header=to_header(chunk.stamp_ns, BASE),
        period=to_duration(chunk.period_ns),
        tcp_targets=[to_pose(chunk.set_point(i).T_base_tcp) for i in range(len(chunk))],
        gripper_widths=np.asarray(chunk.widths, dtype=np.float64),
        sequence=chunk.sequence,
        source=str(chunk.source),
        policy_id=chunk.policy_id,
    )
    return serialize(channels.ACTION_CHUNK.type, message)


def decode_action_chunk(data: bytes) -> ActionChunk:
    """A chunk as it was sent, its values unchecked; ValueError for an unknown source."""
    message = deserialize(channels.ACTION_CHUNK.type, data)
    poses = [pose_arrays(pose) for pose in message.tcp_targets]
    return ActionChunk(
        stamp_ns=to_ns(message.header.stamp),
        period_ns=to_ns(message.period),
        positions=np.array([position for position, _ in poses]).reshape(-1, 3),
        quaternions=np.array([quaternion for _, quaternion in poses]).reshape(-1, 4),
        widths=message.gripper_widths,
        sequence=message.sequence,
        source=Source(message.source),
        policy_id=message.policy_id,
    )


def encode_chunk_verdict(outcome: ChunkOutcome, *, source: str, received_ns: int) -> bytes:
    """What became of a chunk that came from `source` at `received_ns`."""
    message = make(
        channels.CHUNK_VERDICT.type,
        header=to_header(received_ns),
        sequence=outcome.sequence,
        source=source,
        accepted=outcome.accepted,
        reason=outcome.reason,
        targets_late=outcome.targets_late,
        age=seconds(outcome.age_ns),
    )
    return serialize(channels.CHUNK_VERDICT.type, message)


def decode_chunk_verdict(data: bytes) -> ChunkAnswer:
    """What `encode_chunk_verdict` wrote."""
    message = deserialize(channels.CHUNK_VERDICT.type, data)
    outcome = ChunkOutcome(
        sequence=message.sequence,
        accepted=message.accepted,
        reason=message.reason,
        targets_late=message.targets_late,
        age_ns=nanoseconds(message.age),
    )
    return ChunkAnswer(stamp_ns=to_ns(message.header.stamp), source=message.source, outcome=outcome)


def encode_safety_status(event: SafetyEvent) -> bytes:
    """Mode, lease, hold and counts."""
    message = make(
        channels.SAFETY_STATUS.type,
        header=to_header(event.stamp_ns),
        mode=event.mode,
        source=event.source,
        latched=event.latched,
        reason=event.reason,
        chunks_accepted=event.chunks_accepted,
        chunks_rejected=event.chunks_rejected,
        targets_late=event.targets_late,
    )
    return serialize(channels.SAFETY_STATUS.type, message)


def decode_safety_status(data: bytes) -> SafetyEvent:
    """What `encode_safety_status` wrote."""
    message = deserialize(channels.SAFETY_STATUS.type, data)
    return SafetyEvent(
        stamp_ns=to_ns(message.header.stamp),
        mode=message.mode,
        source=message.source,
        latched=message.latched,
        reason=message.reason,
        chunks_accepted=message.chunks_accepted,
        chunks_rejected=message.chunks_rejected,
        targets_late=message.targets_late,
    )
