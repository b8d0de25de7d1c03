"""Devices of a real `sim_world` process, and what bad clients, faults and deaths do to them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_hardware.protocols import Arm, Camera, Gripper
from vla_rft_sim.client import connect_camera, connect_robot, connect_stop, connect_truth
from vla_rft_sim.protocol import MAX_MESSAGE, VERSION
from vla_rft_sim.towel import draw


def test_devices_satisfy_the_protocols(start_world: Callable[..., Any]) -> None:
    address = start_world().address
    arm, gripper = connect_robot(address)
    camera = connect_camera(address, "front")
    assert isinstance(arm, Arm) and isinstance(gripper, Gripper) and isinstance(camera, Camera)
    assert (camera.info().width, camera.info().height) == (640, 480)
    assert camera.info().fy == pytest.approx(605.6, abs=0.1)


def test_the_arm_goes_to_its_target_and_the_gripper_to_its_width(
    start_world: Callable[..., Any], wait_until: Any
) -> None:
    arm, gripper = connect_robot(start_world().address)
    before = arm.state()
    with pytest.raises(DeviceError, match="idle"):
        arm.send(before.T_base_tcp)
    assert arm.prepare() and gripper.prepare()
    target = before.T_base_tcp.moved([0.0, 0.05, -0.05], [0.0, 0.0, 0.2])
    arm.send(target)
    gripper.move(0.02)
    wait_until(lambda: arm.state().T_base_tcp.distance_to(target)[0] < 1e-4, "arm at its target")
    wait_until(lambda: not gripper.state().moving, "gripper at rest")
    assert gripper.state().width == pytest.approx(0.02, abs=1e-3)
    state = arm.state()
    assert (state.q.shape, state.dq.shape, state.tcp_twist.shape) == ((7,), (7,), (6,))
    assert before.stamp_ns < state.stamp_ns <= time.time_ns()


def test_arm_and_gripper_are_of_one_moment_and_new_after_a_step(
    start_world: Callable[..., Any], wait_until: Any
) -> None:
    arm, gripper = connect_robot(start_world().address)
    pairs = [(arm.state().stamp_ns, gripper.state().stamp_ns) for _ in range(20)]
    assert sum(a == g for a, g in pairs) >= 10
    first = arm.state().stamp_ns
    wait_until(lambda: arm.state().stamp_ns > first, "a newer state")


def send_far_target(address: str, ready: Any) -> None:
    arm, _ = connect_robot(address)
    arm.prepare()
    arm.send(arm.state().T_base_tcp.moved([0.0, 0.25, 0.0], [0.0, 0.0, 0.0]))
    ready.set()
    while True:
        arm.state()


def test_a_killed_client_leaves_the_arm_to_finish_its_last_target(
    start_world: Callable[..., Any], wait_until: Any
) -> None:
    address = start_world().address
    truth = connect_truth(address)
    start = truth.status().T_base_tcp
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    client = context.Process(target=send_far_target, args=(address, ready), daemon=True)
    client.start()
    assert ready.wait(30) and client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    client.join(10)
    wait_until(lambda: truth.status().clients == 1, "the dead client's connection dropped")
    target = start.moved([0.0, 0.25, 0.0], [0.0, 0.0, 0.0])
    wait_until(lambda: truth.status().T_base_tcp.distance_to(target)[0] < 1e-4, "arm at the last target")
    status = truth.status()
    assert status.mode == "cartesian" and status.target is not None and status.target.distance_to(target)[0] < 1e-9
    assert status.commands == 1 and status.stop_count == 0


def test_stop_ends_the_motion_until_the_next_prepare(start_world: Callable[..., Any], wait_until: Any) -> None:
    address = start_world().address
    arm, _ = connect_robot(address)
    truth, watchdog = connect_truth(address), connect_stop(address)
    arm.prepare()
    start = arm.state().T_base_tcp
    arm.send(start.moved([0.0, 0.25, 0.0], [0.0, 0.0, 0.0]))
    wait_until(lambda: truth.status().speed > 0.1, "arm moves")
    watchdog.stop()
    wait_until(lambda: truth.status().speed < 1e-6, "arm rests")
    status = truth.status()
    assert (status.mode, status.target, status.stop_count) == ("idle", None, 1)
    moved, _ = start.distance_to(status.T_base_tcp)
    assert moved < 0.2
    with pytest.raises(DeviceError, match="idle"):
        arm.send(start)
    arm.prepare()
    arm.send(start)
    wait_until(lambda: arm.state().T_base_tcp.distance_to(start)[0] < 1e-4, "arm back")


def test_the_stop_connection_can_do_nothing_else(start_world: Callable[..., Any]) -> None:
    watchdog = connect_stop(start_world().address)
    for operation in ("send", "prepare", "state", "truth", "reset"):
        with pytest.raises(DeviceError, match="a stop connection may ask for stop"):
            watchdog._client.request(operation)


def test_a_reset_draws_the_placement_and_leaves_the_arm(start_world: Callable[..., Any], wait_until: Any) -> None:
    address = start_world("--seed", "5").address
    arm, _ = connect_robot(address)
    truth = connect_truth(address)
    assert truth.status().placement == str(draw(5))
    arm.prepare()
    target = arm.state().T_base_tcp.moved([0.0, 0.05, 0.0], [0.0, 0.0, 0.0])
    arm.send(target)
    wait_until(lambda: arm.state().T_base_tcp.distance_to(target)[0] < 1e-4, "arm at its target")
    assert truth.reset(7) == draw(7)
    assert truth.status().mode == "cartesian"
    assert arm.state().T_base_tcp.distance_to(target)[0] < 1e-4
    truth.reset(8, arm=True)
    assert truth.status().mode == "idle"
    with pytest.raises(DeviceError, match="whole number"):
        truth.reset(-1)
    with pytest.raises(DeviceError, match="no towel"):
        truth.truth()


def test_injected_faults(start_world: Callable[..., Any], wait_until: Any) -> None:
    address = start_world("--fps", "60").address
    arm, _ = connect_robot(address)
    camera, truth = connect_camera(address, "front"), connect_truth(address)

    truth.inject("state_stale")
    stale = arm.state().stamp_ns
    steps = truth.status().steps
    wait_until(lambda: truth.status().steps > steps + 5, "world goes on")
    assert arm.state().stamp_ns == stale
    assert truth.status().faults == ("state_stale",)
    truth.inject("state_stale", active=False)
    wait_until(lambda: arm.state().stamp_ns > stale, "state advances again")

    truth.inject("camera_frozen")
    camera.read(1.0), camera.read(1.0)
    first, second = camera.read(5.0), camera.read(5.0)
    assert first is not None and second is not None
    assert np.array_equal(first.color, second.color) and second.number > first.number
    assert second.stamp_ns > first.stamp_ns
    truth.inject("camera_frozen", active=False)
    camera.read(1.0), camera.read(1.0)
    first, second = camera.read(5.0), camera.read(5.0)
    assert first is not None and second is not None and not np.array_equal(first.color, second.color)

    truth.inject("camera_silent")
    camera.read(0.2)
    assert camera.read(0.2) is None
    truth.inject("camera_silent", active=False)
    assert camera.read(5.0) is not None
    with pytest.raises(ValueError, match="unknown fault 'fire'; there are camera_silent"):
        truth.inject("fire")


def test_a_killed_world_is_a_device_error_everywhere(start_world: Callable[..., Any]) -> None:
    world = start_world()
    arm, gripper = connect_robot(world.address)
    camera, truth, watchdog = (
        connect_camera(world.address, "front"),
        connect_truth(world.address),
        connect_stop(world.address),
    )
    arm.prepare()
    world.kill()
    target = Pose(np.array([0.4, 0.0, 0.4]), np.array([0.0, 1.0, 0.0, 0.0]))
    calls: list[Callable[[], object]] = [
        lambda: arm.send(target), arm.state, gripper.state, arm.stop, truth.status, watchdog.stop,
        lambda: [camera.read(1.0) for _ in range(2)],
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(DeviceError, match=r"gone|closed"):
            call()
    with pytest.raises(DeviceError, match="no world answers at"):
        connect_robot(world.address, timeout_s=0.1)


def test_wrong_names_and_closed_devices(start_world: Callable[..., Any]) -> None:
    address = start_world().address
    with pytest.raises(DeviceError, match="has the camera 'front', not 'wrist'"):
        connect_camera(address, "wrist")
    arm, gripper = connect_robot(address)
    arm.close()
    arm.close()
    assert gripper.state().width > 0.0
    gripper.close()
    with pytest.raises(DeviceError, match="closed"):
        gripper.state()


def test_two_worlds_do_not_mix(start_world: Callable[..., Any], wait_until: Any) -> None:
    one, two = start_world("--seed", "1", name="one"), start_world("--seed", "2", name="two")
    arm, _ = connect_robot(one.address)
    arm.prepare()
    target = arm.state().T_base_tcp.moved([0.0, 0.1, 0.0], [0.0, 0.0, 0.0])
    arm.send(target)
    wait_until(lambda: arm.state().T_base_tcp.distance_to(target)[0] < 1e-4, "first arm at its target")
    other = connect_truth(two.address).status()
    assert (other.commands, other.mode, other.placement) == (0, "idle", str(draw(2)))
    assert other.T_base_tcp.distance_to(target)[0] > 0.09
    one.kill()
    wait_until(lambda: connect_truth(two.address).status().steps > other.steps, "the second world goes on")


def raw(address: str, data: bytes, *, wait: bool = True) -> bytes:
    """What the world answers to raw bytes until it closes the connection (after we closed our side of it)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(address)
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while wait and (piece := connection.recv(4096)):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
        return answer


def message(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


HELLO = message(json.dumps({"op": "hello", "role": "robot", "version": VERSION}).encode())


BAD_REQUESTS = [
    (struct.pack("<I", MAX_MESSAGE + 1) + b"x" * 100, b"exceeds"),
    (b"\xff" * 4000, b"exceeds"),
    (message(b"not json"), b"no JSON"),
    (message(b"[" * 60000), b"no JSON"),
    (message(b"[1, 2]"), b"must be a JSON object"),
    (message(b"{}"), b"starts with hello"),
    (message(b'{"op": "hello", "role": ["robot"]}'), b"starts with hello"),
    (message(b'{"op": "hello", "role": "robot", "version": 99}'), b"speaks version"),
    (HELLO[:-3], b"ended early, after"),
    (HELLO[:2], b"ended early, after 2 bytes"),
    (HELLO + message(b'{"op": "fly"}'), b"may ask for"),
    (HELLO + message(b'{"op": {"a": 1}}'), b"may ask for"),
    (HELLO + message(b'{"op": "move", "width": NaN}'), b"finite"),
    (HELLO + message(b'{"op": "move"}'), b"finite"),
    (HELLO + message(b'{"op": "send", "pose": [1, 2]}'), b"a pose is"),
    (HELLO + message(b'{"op": "send", "pose": [1, 2, "x", 0, 0, 0, 1]}'), b"finite"),
    (HELLO + message(b'{"op": "send", "pose": [1, 2, 3, 0, 0, 0, 1' + b"0" * 400 + b"]}"), b"finite"),
]


def test_bad_requests_get_a_sentence_and_the_world_lives(start_world: Callable[..., Any], wait_until: Any) -> None:
    address = start_world().address
    truth = connect_truth(address)
    for data, sentence in BAD_REQUESTS:
        answer = raw(address, data)
        assert sentence in answer and b'"error"' in answer, data[:80]
        steps = truth.status().steps
        wait_until(lambda steps=steps: truth.status().steps > steps, "the world goes on")


def test_a_client_that_stops_in_a_message_is_dropped(start_world: Callable[..., Any]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(start_world().address)
        connection.sendall(HELLO[:-1])
        assert b"its rest did not come in time" in connection.recv(4096)
        assert connection.recv(4096) == b""


def test_many_requests_in_one_write_are_all_answered(start_world: Callable[..., Any]) -> None:
    answer = raw(start_world().address, HELLO + message(b'{"op": "state"}') * 50)
    assert answer.count(b'"stamp_ns"') == 100


def test_the_world_survives_any_bytes_and_any_cut(start_world: Callable[..., Any], wait_until: Any) -> None:
    world = start_world()
    truth = connect_truth(world.address)
    state = HELLO + message(b'{"op": "state"}') * 3

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), st.integers(0, len(state)).map(lambda cut: state[:cut])), st.booleans())
    def survives(data: bytes, wait: bool) -> None:
        raw(world.address, data, wait=wait)
        assert truth.status().clients >= 1

    survives()
    wait_until(lambda: truth.status().clients == 1, "all bad clients dropped")


def test_a_client_too_many_is_refused_and_a_place_becomes_free(
    start_world: Callable[..., Any], wait_until: Any
) -> None:
    address = start_world().address
    truth = connect_truth(address)
    others = [connect_stop(address) for _ in range(15)]
    with pytest.raises(DeviceError, match=r"already has 16 clients|gone"):
        connect_stop(address)
    others.pop().close()
    wait_until(lambda: truth.status().clients == 15, "a place became free")
    connect_stop(address).stop()
    assert truth.status().stop_count == 1
