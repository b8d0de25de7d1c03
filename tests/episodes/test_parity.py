"""What a policy would have seen live and what export assembles from the recording: equal bit for bit.

The live side is the client that policies use, fed with the bytes that were recorded; a clock of the test says when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_rft_core import config
from vla_rft_core.cell import CellFolder
from vla_rft_core.spec import CameraSpec, RobotSpec
from vla_rft_core.types import ArmState, CameraFrame, GripperState, Observation, RobotState, SetPoint
from vla_rft_episodes import channels, codec
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.entries import ServoEntry
from vla_rft_episodes.info import EpisodeInfo, episode_id
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.lerobot.export import export
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.lerobot.rows import rows
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.writer import EpisodeWriter

pytestmark = pytest.mark.ros

MS = 1_000_000
START_NS = 1_795_000_000_000_000_000
Arrival = tuple[int, Channel, bytes, CameraFrame | None]
"""Time of arrival, and the message (of a picture also what it was made from)."""


class RecordingNode:
    """Stands for the rclpy node: keeps the callbacks, sends nothing."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable] = {}

    def create_subscription(self, kind: type, topic: str, callback: Callable, *_: object, **__: object) -> None:
        self.callbacks[topic] = callback

    def create_publisher(self, *_: object, **__: object) -> None: ...

    def create_client(self, *_: object, **__: object) -> None: ...


class Clock:
    """In place of the client's `time` module."""

    now_ns = 0

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9


@pytest.fixture
def spec(cell: CellFolder) -> RobotSpec:
    camera = CameraSpec(name="front", width=64, height=48, fps=30, policy_size=24)
    return replace(cell.spec, cameras=(camera, replace(camera, name="side")))


def arrivals(spec: RobotSpec) -> list[Arrival]:
    """Two seconds as they reach client and recorder: jittering, two cameras out of step, states late now and then."""
    random = np.random.default_rng(4)
    pose, found = spec.home.T_base_tcp, []
    for tick in range(200):
        now_ns = START_NS + 10 * MS * tick
        pose = pose.moved(random.normal(0, 1e-3, 3), random.normal(0, 3e-3, 3))
        sent = SetPoint(pose, 0.08 if tick < 100 else 0.0213)
        stamp_ns = now_ns - int(random.integers(0, 2 * MS))
        arm = ArmState(
            stamp_ns, *random.normal(size=(3, 7)), pose.moved(random.normal(0, 1e-3, 3), (0, 0, 0.01)), *np.ones((2, 6))
        )
        state = RobotState(arm, GripperState(stamp_ns, sent.width + random.normal(0, 1e-4), 1.0, False), sent)
        late_ns = int(random.integers(0, 4 * MS))
        found.append((now_ns + late_ns, channels.ROBOT_STATE, codec.encode_robot_state(state), None))
        if tick > 20:
            entry = ServoEntry(
                stamp_ns=now_ns, source="teleop", sequence=tick, requested=sent, safe=sent, sent=sent, moving=True
            )
            found.append((now_ns + late_ns, channels.SERVO_REPORT, codec.encode_servo_report(entry), None))
    for camera, offset in (("front", 0), ("side", 17)):
        for number in range(60):
            captured_ns = START_NS + 33 * MS * number + offset * MS
            received_ns = captured_ns + int(random.integers(15 * MS, 45 * MS))
            color = cv2.resize(random.integers(0, 255, (6, 8, 3), dtype=np.uint8), (64, 48))
            frame = CameraFrame(camera, captured_ns, received_ns, number, color)
            found.append((received_ns, channels.color(camera), codec.encode_color(frame), frame))
    return sorted(found, key=lambda arrival: arrival[0])


def record(folder: Path, cell: CellFolder, spec: RobotSpec, messages: list[Arrival]) -> Path:
    info = EpisodeInfo(
        id=episode_id(START_NS, 1),
        task="fold_towel",
        prompt="fold the towel in half",
        operator="tester",
        source="teleop",
        spec_name=spec.name,
        spec=config.to_mapping(spec),
        calibration_id=cell.calibration.id,
        safety_profile=cell.safety.name,
        simulated=True,
        started_ns=START_NS,
    )
    writer = EpisodeWriter.create(folder, info, cell=cell)
    for received_ns, channel, data, frame in messages:
        if channel == channels.ROBOT_STATE:
            stamp_ns = codec.decode_robot_state(data).arm.stamp_ns
        else:
            stamp_ns = frame.stamp_ns if frame else codec.decode_servo_report(data).stamp_ns
        writer.write(channel, data, stamp_ns=stamp_ns, received_ns=received_ns)
    path = writer.finish(ended_ns=messages[-1][0], termination_reason="operator stop")
    Labels(folder).append(path.name, Label.KEEP, Outcome.SUCCESS, "tester")
    return path


def seen_live(
    spec: RobotSpec, messages: list[Arrival], times_ns: list[int], monkeypatch: pytest.MonkeyPatch
) -> list[Observation]:
    """What the client's `observe` gave at these times, had the messages come when they came."""
    pytest.importorskip("rclpy")
    from vla_rft_nodes import client, convert, topics

    clock, node = Clock(), RecordingNode()
    monkeypatch.setattr(client, "time", clock)
    live = client.CellClient(node, spec, prompt="fold the towel in half")
    seen, waiting = [], list(messages)
    for now_ns in times_ns:
        while waiting and waiting[0][0] <= now_ns:
            clock.now_ns, channel, data, frame = waiting.pop(0)
            if frame is not None:
                node.callbacks[topics.color_image(frame.camera)](convert.to_color_image(frame))
            elif channel == channels.ROBOT_STATE:
                node.callbacks[topics.ROBOT_STATE](data)
        clock.now_ns = now_ns
        seen.append(live.observe())
    return seen


def jpeg(image: np.ndarray, stamp_ns: int) -> np.ndarray:
    """The picture as it survives recording."""
    return codec.decode_color(codec.compress_color(image, camera="front", stamp_ns=stamp_ns))


def test_live_observations_equal_exported_ones(tmp_path, cell, spec, monkeypatch):
    messages = arrivals(spec)
    path = record(tmp_path / "collection", cell, spec, messages)
    offline = list(rows(Episode.open(path)))
    live = seen_live(spec, messages, [row.stamp_ns for row in offline], monkeypatch)
    assert len(live) == len(offline) >= 15
    export([tmp_path / "collection"], tmp_path / "out")
    exported = Dataset.open(tmp_path / "out").columns(0)
    for k, (there, row) in enumerate(zip(live, offline, strict=True)):
        here = row.observation
        assert there.stamp_ns == here.stamp_ns
        assert there.image_stamps_ns == here.image_stamps_ns
        assert there.state_stamp_ns == here.state_stamp_ns == exported["observation.state.stamp_ns"][k]
        assert there.ages_ns == here.ages_ns
        assert there.prompt == here.prompt
        assert there.state.tobytes() == here.state.tobytes() == exported["observation.state"][k].tobytes()
        commanded = [*there.commanded.T_base_tcp.position, *there.commanded.T_base_tcp.quaternion]
        assert np.array([*commanded, there.commanded.width]).tobytes() == exported["observation.commanded"][k].tobytes()
        for camera, image in there.images.items():
            assert there.image_stamps_ns[camera] == exported[f"observation.{camera}.stamp_ns"][k]
            np.testing.assert_array_equal(jpeg(image, there.image_stamps_ns[camera]), here.images[camera])
    assert len({o.image_stamps_ns["side"] for o in live}) == len(live)  # it was no standing picture


def test_exported_actions_are_the_set_points_that_went_out(tmp_path, cell, spec):
    messages = arrivals(spec)
    record(tmp_path / "collection", cell, spec, messages)
    export([tmp_path / "collection"], tmp_path / "out")
    exported = Dataset.open(tmp_path / "out").columns(0)
    reports = [codec.decode_servo_report(data) for _, channel, data, _ in messages if channel == channels.SERVO_REPORT]

    def sent(stamp_ns: int) -> SetPoint:
        return max((r for r in reports if r.stamp_ns <= stamp_ns), key=lambda r: r.stamp_ns).sent

    for k in range(1, len(exported["action"])):
        stamp_ns = int(exported["stamp_ns"][k])
        before, after = sent(stamp_ns), sent(stamp_ns + spec.control_period_ns)
        translation, rotvec = before.T_base_tcp.delta_to(after.T_base_tcp)
        expected = np.array([*translation, *rotvec, after.width], dtype=np.float32)
        assert expected.tobytes() == exported["action"][k].tobytes()
