"""A small attempt made by hand: states at 100 Hz, frames at 10 Hz, and everything else once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_rft_core import config
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.clock import Clock
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, CameraFrame, GripperState, RobotState, SetPoint
from vla_rft_episodes import channels, codec
from vla_rft_episodes.info import EpisodeInfo, episode_id
from vla_rft_episodes.writer import EpisodeWriter

START_NS = 1_795_000_000_123_000_000
CAMERA = "front"


def state_at(i: int) -> RobotState:
    """Tick `i` of a slow motion; no two numbers alike."""
    stamp_ns = START_NS + i * 10_000_000
    angle = np.arange(7) * 0.1 + i * 1e-3
    arm = ArmState(
        stamp_ns=stamp_ns,
        q=angle,
        dq=np.cos(angle),
        tau_ext=np.sin(angle),
        T_base_tcp=Pose((0.5 + i * 1e-4, -0.1, 0.3), (0.01 * i, 1.0, 0.02, 0.03)),
        tcp_twist=np.arange(6) / 7 + i,
        wrench=np.arange(6) / 3 - i,
    )
    gripper = GripperState(stamp_ns=stamp_ns, width=0.05 + i * 1e-5, force=-1.5, moving=i % 2 == 0)
    return RobotState(arm=arm, gripper=gripper, commanded=SetPoint(Pose((0.51, 0.0, 0.3), (0, 1, 0, 0)), 0.06))


def frame_at(i: int, *, depth: bool = True) -> CameraFrame:
    """A frame captured 20 ms after tick `i` and received 30 ms later; smooth, so that JPEG is close to it."""
    stamp_ns = START_NS + i * 10_000_000 + 20_000_000
    rows, columns = np.mgrid[0:48, 0:64]
    color = np.stack([rows * 4, columns * 3, np.full_like(rows, i % 256)], axis=-1).astype(np.uint8)
    return CameraFrame(
        camera=CAMERA,
        stamp_ns=stamp_ns,
        received_ns=stamp_ns + 30_000_000,
        number=i,
        color=color,
        depth=(700 + rows * 5 + columns + i).astype(np.uint16) if depth else None,
    )


def info_for(cell: CellFolder, number: int = 0, *, started_ns: int = START_NS) -> EpisodeInfo:
    """What is known at the start of an attempt."""
    return EpisodeInfo(
        id=episode_id(started_ns, number),
        task="fold_towel",
        prompt="fold the towel in half",
        operator="tester",
        source="teleop",
        spec_name=cell.spec.name,
        spec=config.to_mapping(cell.spec),
        calibration_id=cell.calibration.id,
        safety_profile=cell.safety.name,
        simulated=True,
        seed=7,
        started_ns=started_ns,
        software={"vla-rft": "0.1.0"},
        expected_hz={channels.ROBOT_STATE.topic: 100.0},
        extra={"light": 0.5, "colour": "blue", "draw": 3},
    )


def fill(writer: EpisodeWriter, ticks: int = 100) -> None:
    """Write `ticks` states and every tenth tick a frame, as they would be received."""
    for i in range(ticks):
        state, frame = state_at(i), frame_at(i)
        received_ns = state.arm.stamp_ns + 200_000
        writer.write(
            channels.ROBOT_STATE, codec.encode_robot_state(state), stamp_ns=state.arm.stamp_ns, received_ns=received_ns
        )
        if i % 10 == 0:
            stamps = {"stamp_ns": frame.stamp_ns, "received_ns": frame.received_ns}
            writer.write(channels.color(CAMERA), codec.encode_color(frame), **stamps)
            writer.write(channels.depth(CAMERA), codec.encode_depth(frame), **stamps)


class Attempt:
    """Records attempts into a folder."""

    def __init__(self, folder: Path, cell: CellFolder) -> None:
        self.folder, self.cell = folder, cell
        self.state_at, self.frame_at, self.fill = state_at, frame_at, fill

    def info(self, number: int = 0, *, started_ns: int = START_NS) -> EpisodeInfo:
        return info_for(self.cell, number, started_ns=started_ns)

    def open(self, number: int = 0, *, started_ns: int = START_NS, clock: Clock | None = None) -> EpisodeWriter:
        """An open attempt without messages."""
        info = self.info(number, started_ns=started_ns)
        return EpisodeWriter.create(self.folder, info, cell=self.cell, clock=clock)

    def record(self, number: int = 0, *, started_ns: int = START_NS, ticks: int = 100) -> Path:
        """A finished attempt of one second: its folder."""
        writer = self.open(number, started_ns=started_ns)
        fill(writer, ticks)
        return writer.finish(ended_ns=started_ns + 1_000_000_000, termination_reason="operator stop")


@pytest.fixture(scope="session")
def cell() -> CellFolder:
    """The cell folder that ships with the simulator."""
    return find_cell("vla_rft_sim:towel_cell")


@pytest.fixture
def attempt(tmp_path: Path, cell: CellFolder) -> Attempt:
    """Attempts recorded into the folder "collection" of the test."""
    return Attempt(tmp_path / "collection", cell)
