"""A robot with a small camera; rows made up for the writer, and whole episodes of three seconds for export."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rft_core import config
from vla_rft_core.cell import find_cell
from vla_rft_core.executor import ChunkExecutor, Played
from vla_rft_core.spec import CameraSpec, RobotSpec
from vla_rft_core.types import ActionChunk, ArmState, CameraFrame, GripperState, RobotState, SetPoint, Source
from vla_rft_episodes import channels, codec
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.entries import ServoEntry, SimStateEntry
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.lerobot import layout
from vla_rft_episodes.lerobot.video import VideoEncoder
from vla_rft_episodes.lerobot.writer import DatasetWriter, EpisodeRows
from vla_rft_episodes.writer import EpisodeWriter

HEIGHT, WIDTH, FPS = 48, 64, 10
START_NS = 1_795_000_000_000_000_000

Message = tuple[Channel, bytes, int, int]
"""Channel, CDR bytes, stamp and time of arrival."""


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    """The towel robot with a camera of 64x48."""
    camera = CameraSpec(name="front", width=WIDTH, height=HEIGHT, fps=15, policy_size=24)
    return replace(find_cell("vla_rft_sim:towel_cell").spec, cameras=(camera,))


def picture(number: int, seed: int) -> np.ndarray:
    """A grey that says which row it is, with a gradient."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (40 + 10 * number + seed % 7) % 200 + np.arange(WIDTH)[None, :, None] // 4
    return image


@pytest.fixture
def make_rows(tmp_path: Path, spec: RobotSpec) -> Callable[..., EpisodeRows]:
    """`make_rows(id, length=7, prompt=...)`: an episode; equal arguments give equal content."""

    def make(id: str, *, length: int = 7, prompt: str = "fold the towel", success: bool = True) -> EpisodeRows:
        seed = zlib.crc32(id.encode())
        random = np.random.default_rng(seed)
        columns = {}
        for name, feature in layout.features_of(spec).items():
            shape = (length, *feature.shape) if feature.shape != (1,) else (length,)
            if feature.dtype == "string":
                columns[name] = np.full(length, "teleop", dtype=object)
            elif feature.dtype == "bool":
                columns[name] = np.zeros(length, dtype=bool)
            elif feature.dtype == "int64":
                columns[name] = START_NS + np.arange(length) * spec.control_period_ns
            elif feature.in_table:
                columns[name] = random.normal(size=shape).astype(feature.dtype)
        scratch = tmp_path / f"{id}.mp4"
        encoder = VideoEncoder(scratch, fps=FPS)
        for number in range(length):
            encoder.write(picture(number, seed))
        return EpisodeRows(
            id=id,
            prompt=prompt,
            success=success,
            columns=columns,
            videos={"front": encoder.close()},
            origin={"task": "towel", "manifest": f"{seed:x}"},
        )

    return make


@pytest.fixture
def write(spec: RobotSpec, make_rows: Callable[..., EpisodeRows]) -> Callable[..., Path]:
    """`write(path, ids...)`: add episodes of 5, 6, 7, ... rows to the dataset at `path`."""

    def add(path: Path, *ids: str, prompt: str = "fold the towel") -> Path:
        with DatasetWriter(path, spec=spec, fps=FPS) as writer:
            for id in ids:
                writer.add(make_rows(id, length=5 + len(writer.origins), prompt=prompt))
            writer.commit({"name": "test"})
        return path

    return add


def content(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """`files(path)`: relative path -> bytes of everything below."""
    return content


# --- episodes ----------------------------------------------------------------------------------------------------

MS = 1_000_000
TICKS = 300
"""Servo ticks of 10 ms; a source moves from the 30th to the 260th."""


def motion(spec: RobotSpec, number: int, *, truth: bool = False) -> list[Message]:
    """All that is received in three seconds of teleoperation, in order: chunks of one, played by the executor."""
    random = np.random.default_rng(number)
    executor, reference = ChunkExecutor(), SetPoint(spec.home.T_base_tcp, 0.08)
    messages: list[Message] = []
    for tick in range(TICKS):
        now_ns = START_NS + 10 * MS * tick
        if 30 <= tick < 260 and tick % 10 == 0:
            target = SetPoint(
                reference.T_base_tcp.moved(random.normal(0, 0.01, 3), random.normal(0, 0.03, 3)),
                0.08 if tick < 120 else 0.02,
            )
            chunk = ActionChunk.from_set_points(
                [target], stamp_ns=now_ns - 10 * MS, period_ns=100 * MS, sequence=tick, source=Source.TELEOP
            )
            executor.splice(chunk, now_ns=now_ns - 10 * MS, reference=reference)
        played = executor.sample(now_ns)
        reference = played.set_point if played else reference
        messages += tick_messages(reference, now_ns, played, truth=truth)
        if tick % 7 == 0:
            frame = CameraFrame("front", now_ns - 3 * MS, now_ns + 31 * MS + tick, tick, picture(tick, number))
            messages.append((channels.color("front"), codec.encode_color(frame), frame.stamp_ns, frame.received_ns))
    return sorted(messages, key=lambda message: message[3])


def tick_messages(sent: SetPoint, now_ns: int, played: Played | None, *, truth: bool) -> list[Message]:
    """One servo tick: the state measured 1 ms before, the report if something played."""
    stamp_ns = now_ns - MS
    arm = ArmState(
        stamp_ns=stamp_ns,
        q=np.full(7, now_ns % 997 / 997),
        dq=np.zeros(7),
        tau_ext=np.zeros(7),
        T_base_tcp=sent.T_base_tcp.moved((1e-3, 0, -1e-3), (0, 0, 2e-3)),
        tcp_twist=np.zeros(6),
        wrench=np.zeros(6),
    )
    state = RobotState(arm, GripperState(stamp_ns, sent.width + 1e-3, 0.0, False), commanded=sent)
    found = [(channels.ROBOT_STATE, codec.encode_robot_state(state), stamp_ns, now_ns + 1 * MS)]
    if played is not None:
        entry = ServoEntry(
            stamp_ns=now_ns,
            source=str(played.source),
            sequence=played.sequence,
            requested=SetPoint(sent.T_base_tcp.moved((0, 0, 1e-4), (0, 0, 0)), sent.width),
            safe=sent,
            sent=sent,
            moving=True,
        )
        found.append((channels.SERVO_REPORT, codec.encode_servo_report(entry), now_ns, now_ns + 2 * MS))
    if truth:
        world = SimStateEntry(stamp_ns=now_ns, format="test", data=bytes(100))
        found.append((channels.SIM_STATE, codec.encode_sim_state(world), now_ns, now_ns + 2 * MS))
    return found


class Recording:
    """Episodes of `motion` in a collection."""

    def __init__(self, folder: Path, spec: RobotSpec) -> None:
        self.folder, self.spec = folder, spec

    def record(
        self,
        number: int,
        *,
        messages: list[Message] | None = None,
        outcome: Outcome | None = Outcome.SUCCESS,
        label: Label = Label.KEEP,
        **changes: Any,
    ) -> Path:
        """One finished attempt; `outcome` None leaves it without a label."""
        cell = find_cell("vla_rft_sim:towel_cell")
        facts = dict(
            id=f"20261121T0345{number:02d}.123-4f2a",
            task="fold_towel",
            prompt="fold the towel in half",
            operator="tester",
            source="teleop",
            spec_name=self.spec.name,
            spec=config.to_mapping(self.spec),
            calibration_id=cell.calibration.id,
            safety_profile=cell.safety.name,
            simulated=True,
            started_ns=START_NS,
        )
        info = EpisodeInfo(**(facts | changes))
        writer = EpisodeWriter.create(self.folder, info, cell=cell)
        for channel, data, stamp_ns, received_ns in motion(self.spec, number) if messages is None else messages:
            writer.write(channel, data, stamp_ns=stamp_ns, received_ns=received_ns)
        path = writer.finish(ended_ns=START_NS + 3000 * MS, termination_reason="operator stop")
        if outcome is not None:
            Labels(self.folder).append(info.id, label, outcome, "tester")
        return path


@pytest.fixture
def recording(tmp_path: Path, spec: RobotSpec) -> Recording:
    """Attempts recorded into the folder "collection" of the test."""
    return Recording(tmp_path / "collection", spec)


@pytest.fixture
def make_motion(spec: RobotSpec) -> Callable[..., list[Message]]:
    """`make_motion(number, truth=False)`: what is received during an attempt."""
    return lambda number, **options: motion(spec, number, **options)
