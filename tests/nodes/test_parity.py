"""Vendor drivers and direct devices: the same chunks lead to the same commanded path, and the arm follows it alike."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import ManualClock
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_hardware.flexiv import FlexivArm
from vla_rft_hardware.protocols import Arm, Gripper
from vla_rft_hardware.servo_loop import ServoLoop, ServoReport
from vla_rft_sim import client, stand_ins

CELL = find_cell("vla_rft_sim:towel_cell")
PERIOD_S = 0.01
CHUNK_EVERY, TARGETS, TARGET_NS = 50, 8, 100_000_000
"""A new chunk each half second, of 0.8 s: it is spliced onto the one that plays."""
TICKS = 300
SENT_EQUAL = 1e-9
ARM_PATH_M, ARM_PATH_RAD = 0.003, 0.02
"""How far one arm may be beside the other's path."""
ALONG = 30
"""Ticks by which it may be ahead or behind: the worlds keep their own time in two processes, and either may be late."""


@dataclass
class Side:
    """One servo loop on its own world."""

    name: str
    arm: Arm
    gripper: Gripper
    loop: ServoLoop
    reports: list[ServoReport] = field(default_factory=list)


@pytest.fixture
def start_world(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """`start_world(name)`: the address of a kinematic world that answers."""
    processes = []

    def start(name: str) -> str:
        socket = str(tmp_path / f"{name}.sock")
        options = ["--world", "kinematic", "--socket", socket, "--frames", str(tmp_path / f"{name}.frames")]
        process = subprocess.Popen(
            [sys.executable, "-m", "vla_rft_sim.world_process", *options, "--durations", "0.02", "--fps", "1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == f"sim_world ready {socket}\n"
        return socket

    yield start
    for process in processes:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def clock() -> ManualClock:
    """Both loops' time: it goes in whole servo periods, and never ahead of the worlds' own."""
    return ManualClock(time.time_ns())


@pytest.fixture
def sides(start_world: Callable[[str], str], clock: ManualClock) -> Iterator[tuple[Side, Side]]:
    devices = [
        ("vendor drivers", stand_ins.connect_robot(start_world("vendor"), cell=CELL)),
        ("direct devices", client.connect_robot(start_world("direct"))),
    ]
    both = []
    for name, (arm, gripper) in devices:
        loop = ServoLoop(arm, gripper, profile=CELL.safety, clock=clock, period_s=PERIOD_S)
        loop.ready()
        both.append(Side(name, arm, gripper, loop))
    yield both[0], both[1]
    for side in both:
        side.arm.close()
        side.gripper.close()


def chunk(number: int, clock: ManualClock) -> ActionChunk:
    """A piece of a path around home: a loop that tilts and turns, leaves the workspace below, and works the gripper."""
    targets = []
    for i in range(TARGETS):
        t = 0.5 * number + 0.1 * (i + 1)
        shift = (0.06 * np.sin(2.0 * t), 0.05 * (1.0 - np.cos(2.0 * t)), -0.25 * np.sin(1.05 * t))
        turn = (0.1 * np.sin(t), 0.0, 0.25 * np.sin(1.3 * t))
        targets.append(SetPoint(CELL.spec.home.T_base_tcp.moved(shift, turn), 0.03 if number in (1, 2, 5) else 0.07))
    return ActionChunk.from_set_points(
        targets, stamp_ns=clock.realtime_ns(), period_ns=TARGET_NS, sequence=number, source=Source.REPLAY
    )


def play(sides: tuple[Side, Side], clock: ManualClock) -> None:
    """The same chunks to both, and both stepped at the same moments."""
    lag_ns = time.time_ns() - clock.realtime_ns()
    clock.advance(lag_ns)
    for side in sides:
        side.loop.step()
        side.loop.activate(Source.REPLAY)
    due = time.monotonic()
    for tick in range(TICKS):
        due = max(due + PERIOD_S, time.monotonic() - PERIOD_S)
        time.sleep(max(0.0, due - time.monotonic()))
        clock.advance(round(PERIOD_S * 1e9))
        if tick % CHUNK_EVERY == 0:
            piece = chunk(tick // CHUNK_EVERY, clock)
            for side in sides:
                outcome = side.loop.submit(piece)
                assert outcome.accepted, f"{side.name}: {outcome.reason}"
        for side in sides:
            side.reports.append(side.loop.step())


def test_the_same_chunks_give_the_same_commanded_path_through_vendor_drivers_and_direct_devices(sides, clock):
    vendor, direct = sides
    assert isinstance(vendor.arm, FlexivArm)
    assert not isinstance(direct.arm, FlexivArm)
    play(sides, clock)

    travelled, clipped, widths = 0.0, 0, set()
    last = None
    for tick, (a, b) in enumerate(zip(vendor.reports, direct.reports, strict=True)):
        assert a.sent is not None, f"{tick}: {vendor.name}: {a.reasons}"
        assert b.sent is not None, f"{tick}: {direct.name}: {b.reasons}"
        np.testing.assert_allclose(
            a.sent.T_base_tcp.position, b.sent.T_base_tcp.position, rtol=0.0, atol=SENT_EQUAL, err_msg=f"tick {tick}"
        )
        assert a.sent.T_base_tcp.distance_to(b.sent.T_base_tcp)[1] < 1e-7, tick  # acos of a dot product
        assert abs(a.sent.width - b.sent.width) < SENT_EQUAL, tick
        assert a.reasons == b.reasons
        nearby = direct.reports[max(0, tick - ALONG) : tick + ALONG + 1]
        metres, radians = min(a.state.arm.T_base_tcp.distance_to(near.state.arm.T_base_tcp) for near in nearby)
        assert metres < ARM_PATH_M, f"tick {tick}: {metres * 1e3:.1f} mm beside"
        assert radians < ARM_PATH_RAD, f"tick {tick}: turned by {radians:.3f} rad"
        travelled += last.distance_to(a.state.arm.T_base_tcp)[0] if last else 0.0
        last = a.state.arm.T_base_tcp
        clipped += bool(a.reasons)
        widths.add(round(a.sent.width, 3))
    assert travelled > 0.3  # the arm really went there, over a clipped stretch, and the fingers worked
    assert clipped > 0
    assert widths >= {0.03, 0.07}
