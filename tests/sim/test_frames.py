"""Shared-memory frames: torn copies, dead and foreign writers, drops."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.frames import FrameReader, FrameWriter, default_frames_path, remove_stale_frames

INFO = CameraInfo(camera="front", serial="SIM-1", width=64, height=48, fx=60.0, fy=61.0, cx=31.5, cy=23.5)
BIG = CameraInfo(camera="front", serial="SIM-1", width=640, height=480, fx=600.0, fy=600.0, cx=320.0, cy=240.0)


def picture(value: int, info: CameraInfo = INFO) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.full((info.height, info.width, 3), value % 251, np.uint8),
        np.full((info.height, info.width), value % 65521, np.uint16),
    )


def test_a_frame_arrives_as_written(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "a.frames", INFO)
    reader = FrameReader(writer.path)
    color = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    depth = np.random.default_rng(1).integers(0, 9000, (48, 64), dtype=np.uint16)
    writer.write(color, depth, stamp_ns=1_800_000_000_123_456_789)
    frame = reader.read(0.0)
    assert frame is not None and frame.depth is not None
    assert (frame.camera, frame.stamp_ns, frame.number) == ("front", 1_800_000_000_123_456_789, 1)
    assert np.array_equal(frame.color, color) and np.array_equal(frame.depth, depth)
    assert frame.received_ns > 0
    assert vars(reader.info) == vars(INFO)
    reader.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_only_new_frames_and_a_gap_for_drops(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "a.frames", INFO, slots=3)
    writer.write(*picture(1), stamp_ns=1)
    reader = FrameReader(writer.path)
    assert reader.read(0.0) is None, "what came before the reader is not new"
    for value in range(2, 9):
        writer.write(*picture(value), stamp_ns=value)
    frame = reader.read(0.0)
    assert frame is not None and frame.number == 8 and int(frame.color[0, 0, 0]) == 8
    assert reader.read(0.01) is None
    writer.close()


def test_a_frame_does_not_change_after_it_was_read(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "a.frames", INFO, slots=1)
    reader = FrameReader(writer.path)
    writer.write(*picture(1), stamp_ns=1)
    frame = reader.read(0.0)
    writer.write(*picture(2), stamp_ns=2)
    assert frame is not None and (frame.color == 1).all()
    writer.close()


def write_fast(path: Path, slots: int, ready: Event) -> None:
    writer = FrameWriter(path, BIG, slots=slots)
    ready.set()
    while True:
        value = writer.count + 1
        writer.write(*picture(value, BIG), stamp_ns=value)


@pytest.mark.parametrize("slots", [1, 4])
def test_no_torn_frame_from_a_fast_writer_whose_death_is_seen(tmp_path: Path, slots: int) -> None:
    context = multiprocessing.get_context("spawn")
    ready, path = context.Event(), tmp_path / "a.frames"
    process = context.Process(target=write_fast, args=(path, slots, ready), daemon=True)
    process.start()
    assert ready.wait(30)
    reader = FrameReader(path)
    numbers = []
    while len(numbers) < (5 if slots == 1 else 150):
        frame = reader.read(5.0)
        if frame is None:
            continue
        assert frame.depth is not None
        assert frame.stamp_ns == frame.number
        assert (frame.color == frame.number % 251).all() and (frame.depth == frame.number % 65521).all()
        numbers.append(frame.number)
    assert numbers == sorted(set(numbers))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    with pytest.raises(DeviceError, match="camera 'front' is gone"):
        while True:
            reader.read(5.0)


def test_a_torn_slot_is_never_returned(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "a.frames", INFO, slots=2)
    reader = FrameReader(writer.path)
    writer.write(*picture(1), stamp_ns=1)
    assert writer._ring is not None
    writer._ring.slot(1).counters[0] = 2 * 3 - 1  # the writer is in it again, with frame 3
    assert reader.read(0.02) is None
    writer.write(*picture(2), stamp_ns=2)
    frame = reader.read(0.0)
    assert frame is not None and frame.number == 2
    writer.close()


def test_closed_ends_are_named(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "a.frames", INFO)
    reader = FrameReader(writer.path)
    writer.close()
    writer.close()
    with pytest.raises(DeviceError, match="closed"):
        writer.write(*picture(1), stamp_ns=1)
    with pytest.raises(DeviceError, match="gone"):
        reader.read(0.0)
    reader.close()
    reader.close()
    with pytest.raises(DeviceError, match="closed"):
        reader.read(0.0)


def test_foreign_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.frames"
    foreign.write_bytes(b"something else" * 1000)
    with pytest.raises(DeviceError, match="no frame file"):
        FrameReader(foreign)
    with pytest.raises(DeviceError, match="no frame file"):
        FrameWriter(foreign, INFO)
    assert foreign.read_bytes().startswith(b"something else")
    writer = FrameWriter(tmp_path / "whole.frames", INFO)
    short = tmp_path / "short.frames"
    short.write_bytes(writer.path.read_bytes()[:5000])
    with pytest.raises(DeviceError, match="truncated: 5000 of"):
        FrameReader(short)
    with pytest.raises(DeviceError, match="no frames at"):
        FrameReader(tmp_path / "missing.frames")
    with pytest.raises(DeviceError, match="cannot make the frame file"):
        FrameWriter(tmp_path / "no" / "folder.frames", INFO)
    writer.close()


def test_a_living_writer_keeps_its_file_and_a_dead_ones_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.frames"
    writer = FrameWriter(path, INFO)
    with pytest.raises(DeviceError, match="another world"):
        FrameWriter(path, INFO)
    left_over = path.read_bytes()
    writer.close()
    path.write_bytes(left_over)  # what a killed writer leaves: the file, without the lock
    FrameWriter(path, INFO).close()
    assert not path.exists()


def test_only_left_overs_of_the_dead_are_removed(tmp_path: Path) -> None:
    living = FrameWriter(tmp_path / default_frames_path().name, INFO)
    dead = tmp_path / living.path.name.replace(str(os.getpid()), "1234567")
    dead.write_bytes(living.path.read_bytes())
    other = tmp_path / "notes.frames"
    other.write_text("mine")
    assert remove_stale_frames(tmp_path) == [dead]
    assert sorted(tmp_path.iterdir()) == sorted([living.path, other])
    living.close()
