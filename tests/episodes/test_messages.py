"""Message definitions and bytes: ours are those of ROS but for padding, which ROS leaves as it was in memory."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.modes import Mode
from vla_rft_core.types import ActionChunk, RobotState, Source
from vla_rft_episodes import channels, codec, messages
from vla_rft_episodes.entries import SafetyEvent, ServoEntry, SimTruthEntry
from vla_rft_episodes.errors import EpisodeError
from vla_rft_hardware.description.frames import cell_frames
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_hardware.servo_loop import ServoReport, ServoStatus

CHANNELS = [
    *(value for value in vars(channels).values() if isinstance(value, channels.Channel)),
    channels.color("front"),
    channels.depth("front"),
    channels.camera_info("front"),
]


def chunk_of(state: RobotState) -> ActionChunk:
    assert state.commanded is not None
    set_points = [state.commanded] * 3
    return ActionChunk.from_set_points(
        set_points, stamp_ns=state.arm.stamp_ns, period_ns=100_000_000, sequence=5, source=Source.POLICY, policy_id="ab"
    )


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.topic)
def test_every_channel_has_a_definition_that_describes_its_bytes(channel: channels.Channel) -> None:
    from rosbags.typesys import get_types_from_msg

    text = messages.schema_text(channel.type)
    parsed = get_types_from_msg(text, channel.type)
    used = {line.removeprefix("MSG: ") for line in text.splitlines() if line.startswith("MSG: ")}
    assert channel.type in parsed and len(parsed) == 1 + len(used)
    assert messages.type_hash(channel.type).startswith("RIHS01_")


def test_our_definitions_carry_their_units() -> None:
    assert "# [m] measured opening between the fingers" in messages.schema_text(channels.ROBOT_STATE.type)


def test_unknown_types_and_foreign_bytes_are_refused() -> None:
    with pytest.raises(EpisodeError, match="did you mean 'geometry_msgs/msg/Pose'"):
        messages.schema_text("geometry_msgs/msg/Poze")
    with pytest.raises(EpisodeError, match="7 bytes are no vla_rft_interfaces/msg/RobotState"):
        messages.deserialize(channels.ROBOT_STATE.type, b"\0\1\0\0abc")


@pytest.mark.ros
class TestBytesOfRos:
    """The same content through `vla_rft_nodes.convert` and rclpy."""

    @pytest.fixture(autouse=True)
    def _ros(self) -> None:
        self.convert = importlib.import_module("vla_rft_nodes.convert")
        self.serialization = importlib.import_module("rclpy.serialization")

    def same(self, ours: bytes, type_name: str, message: Any) -> bool:
        """ROS reads our bytes as the message, and its own bytes with padding of zeros are ours."""
        theirs = self.serialization.serialize_message(message)
        read = self.serialization.deserialize_message(ours, type(message))
        return read == message and ours == messages.canonical(type_name, theirs)

    def test_robot_state_and_its_standard_forms(self, attempt) -> None:
        state = attempt.state_at(3)
        assert self.same(codec.encode_robot_state(state), channels.ROBOT_STATE.type, self.convert.to_robot_state(state))
        assert self.same(
            codec.encode_joint_states(state), channels.JOINT_STATES.type, self.convert.to_joint_state(state)
        )
        assert self.same(codec.encode_tcp_pose(state), channels.TCP_POSE.type, self.convert.to_pose_stamped(state))
        assert self.same(
            codec.encode_external_wrench(state), channels.EXTERNAL_WRENCH.type, self.convert.to_wrench_stamped(state)
        )

    @pytest.mark.parametrize("reasons", [(), ("too fast", "outside of the workspace: ä")])
    def test_servo_report(self, attempt, reasons: tuple[str, ...]) -> None:
        state = attempt.state_at(4)
        report = ServoReport(
            stamp_ns=state.arm.stamp_ns + 5,
            state=state,
            requested=state.commanded,
            safe=None,
            sent=state.commanded,
            played=None,
            reasons=reasons,
            chunk_received_ns=1_500_000_001,
            devices_s=0.001,
        )
        ours = codec.encode_servo_report(ServoEntry.from_report(report))
        assert self.same(ours, channels.SERVO_REPORT.type, self.convert.to_servo_report(report))

    def test_safety_status(self) -> None:
        status = ServoStatus(Mode.HOLD_LATCHED, Source.TELEOP, "lead", 3, 2, 1, True)
        ours = codec.encode_safety_status(SafetyEvent.from_status(status, stamp_ns=1_000_000_007))
        theirs = self.convert.to_safety_status(status, stamp_ns=1_000_000_007)
        assert self.same(ours, channels.SAFETY_STATUS.type, theirs)

    def test_chunk_and_answer(self, attempt) -> None:
        chunk = chunk_of(attempt.state_at(5))
        assert self.same(codec.encode_action_chunk(chunk), channels.ACTION_CHUNK.type, self.convert.to_chunk(chunk))
        outcome = ChunkOutcome(sequence=5, accepted=False, reason="late", targets_late=2, age_ns=31_000_000)
        ours = codec.encode_chunk_verdict(outcome, source="policy", received_ns=99)
        theirs = self.convert.to_verdict(outcome, source="policy", received_ns=99)
        assert self.same(ours, channels.CHUNK_VERDICT.type, theirs)

    def test_camera_info(self) -> None:
        info = CameraInfo(camera="front", serial="1", width=640, height=480, fx=610.5, fy=611.0, cx=320.1, cy=239.9)
        ours = codec.encode_camera_info(info, stamp_ns=12)
        assert self.same(ours, channels.camera_info("front").type, self.convert.to_camera_info(info, stamp_ns=12))

    def test_compressed_image(self, attempt) -> None:
        from sensor_msgs.msg import CompressedImage

        frame = attempt.frame_at(0)
        ours = codec.encode_depth(frame)
        content = messages.deserialize(channels.depth("front").type, ours)
        message = CompressedImage(
            header=self.convert.to_header(frame.stamp_ns, self.convert.optical_frame("front")),
            format=content.format,
            data=content.data.tobytes(),
        )
        assert self.same(ours, channels.depth("front").type, message)

    def test_fixed_frames(self, cell) -> None:
        from tf2_msgs.msg import TFMessage

        transforms = importlib.import_module("vla_rft_nodes.transforms")
        frames = cell_frames(cell)
        theirs = TFMessage(transforms=[transforms.to_transform(frame, stamp_ns=8) for frame in frames])
        assert self.same(codec.encode_tf_static(frames, stamp_ns=8), channels.TF_STATIC.type, theirs)

    def test_ground_truth(self) -> None:
        from geometry_msgs.msg import Point

        from vla_rft_interfaces.msg import SimTruth

        corners = np.arange(12.0).reshape(4, 3)
        entry = SimTruthEntry(
            stamp_ns=9,
            seed=2**40,
            resets=2,
            corners=corners,
            grasped_vertices=3,
            edge_gap=0.1,
            mirrored_gap=0.2,
            area_ratio=0.5,
            max_height=0.01,
            success=True,
        )
        theirs = SimTruth(
            header=self.convert.to_header(9, "base"),
            seed=2**40,
            resets=2,
            corners=[Point(x=x, y=y, z=z) for x, y, z in corners.tolist()],
            grasped_vertices=3,
            edge_gap=0.1,
            mirrored_gap=0.2,
            area_ratio=0.5,
            max_height=0.01,
            success=True,
        )
        assert self.same(codec.encode_sim_truth(entry), channels.SIM_TRUTH.type, theirs)
        assert np.array_equal(codec.decode_sim_truth(codec.encode_sim_truth(entry)).corners, corners)

    def test_what_a_node_sends_reads_the_same_here_and_there(self, attempt) -> None:
        sent = self.serialization.serialize_message(self.convert.to_robot_state(attempt.state_at(7)))
        ours = codec.decode_robot_state(sent)
        message_class = importlib.import_module("vla_rft_interfaces.msg").RobotState
        theirs = self.convert.from_robot_state(self.serialization.deserialize_message(sent, message_class))
        for name in ("q", "dq", "tau_ext", "tcp_twist", "wrench"):
            assert np.array_equal(getattr(ours.arm, name), getattr(theirs.arm, name)), name
        for mine, its in (
            (ours.arm.T_base_tcp, theirs.arm.T_base_tcp),
            (ours.reference.T_base_tcp, theirs.reference.T_base_tcp),
        ):
            assert mine.position.tobytes() == its.position.tobytes()
            assert mine.quaternion.tobytes() == its.quaternion.tobytes()
        assert ours.gripper == theirs.gripper and ours.arm.stamp_ns == theirs.arm.stamp_ns
