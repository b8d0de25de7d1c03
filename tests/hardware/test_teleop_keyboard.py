"""The keyboard through a pseudo-terminal: bounded steps, escape sequences, recorder keys, the terminal put back."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator

import numpy as np
import pytest

from vla_rft_core.clock import ManualClock, nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_hardware.protocols import OperatorKeys, TeleopDevice
from vla_rft_hardware.teleop.keyboard import Keyboard, KeyboardMap, next_key
from vla_rft_hardware.teleop.mapping import load_map

ESC = b"\x1b"
UP, RIGHT, LEFT = b"\x1b[A", b"\x1b[C", b"\x1b[D"


class Terminal:
    """A pseudo-terminal: its far end types, the keyboard reads the near one."""

    def __init__(self) -> None:
        self.far, self.near = os.openpty()
        self.clock = ManualClock()
        self.before = termios.tcgetattr(self.near)
        self.keyboard = Keyboard(self.near, load_map(KeyboardMap, "keyboard"), clock=self.clock)

    def type(self, typed: bytes) -> None:
        os.write(self.far, typed)

    def read(self, typed: bytes = b"", *, width: float = 0.08):
        """One control period in which something is typed."""
        self.type(typed)
        self.clock.advance(nanoseconds(0.1))
        return self.keyboard.read(robot_state(width))

    def close(self) -> None:
        for fd in (self.far, self.near):
            os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def robot_state(width: float) -> RobotState:
    pose = Pose((0.5, 0.0, 0.3), (0.0, 1.0, 0.0, 0.0))
    arm = ArmState(1, np.zeros(7), np.zeros(7), np.zeros(7), pose, np.zeros(6), np.zeros(6))
    return RobotState(arm, GripperState(1, width, 0.0, False), SetPoint(pose, width))


def moves(command) -> list[float]:
    return [round(float(value), 6) for value in (*command.translation, command.rotvec[2])]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"w", [0.01, 0, 0, 0]),
        (b"s", [-0.01, 0, 0, 0]),
        (b"a", [0, 0.01, 0, 0]),
        (b"d", [0, -0.01, 0, 0]),
        (b"r", [0, 0, 0.01, 0]),
        (b"f", [0, 0, -0.01, 0]),
        (b"q", [0, 0, 0, 0.05]),
        (b"e", [0, 0, 0, -0.05]),
        (b"W", [0.002, 0, 0, 0]),
        (b"wwwwww", [0.01, 0, 0, 0]),  # a held key repeats faster than the period
        (b"ws", [0, 0, 0, 0]),
        (b"wa", [0.007071, 0.007071, 0, 0]),
    ],
)
def test_each_press_is_one_bounded_step(terminal: Terminal, typed: bytes, expected: list[float]) -> None:
    command = terminal.read(typed)
    assert command.enabled
    assert moves(command) == expected
    after = terminal.read()
    assert not after.enabled
    assert moves(after) == [0, 0, 0, 0]


def test_it_is_a_teleop_device_and_without_keys_it_holds(terminal: Terminal) -> None:
    assert isinstance(terminal.keyboard, TeleopDevice)
    assert isinstance(terminal.keyboard, OperatorKeys)
    assert not terminal.read().enabled


def test_space_toggles_the_gripper_and_it_stays(terminal: Terminal) -> None:
    terminal.keyboard.start()
    widths = [terminal.read(typed).width for typed in (b"w", b" ", b"w", b"", b" ")]
    assert widths == [0.08, 0.0, 0.0, 0.0, 0.08]


def test_a_new_lease_takes_the_width_in_force(terminal: Terminal) -> None:
    assert terminal.read(b" ").width == 0.0
    terminal.clock.advance(nanoseconds(1.0))
    terminal.keyboard.start()
    assert terminal.read(b"w", width=0.05).width == 0.05


def test_the_press_that_asked_for_the_lease_is_made_when_it_comes(terminal: Terminal) -> None:
    first = terminal.read(b"w")
    terminal.keyboard.start()
    again = terminal.read()
    assert again.enabled
    assert moves(again) == moves(first)
    assert not terminal.read().enabled


def test_a_toggle_that_asked_for_the_lease_is_one_toggle(terminal: Terminal) -> None:
    assert terminal.read(b" ").width == 0.0
    terminal.keyboard.start()
    assert terminal.read().width == 0.0


def test_a_press_of_long_ago_is_forgotten_with_a_new_lease(terminal: Terminal) -> None:
    terminal.read(b"w")
    terminal.clock.advance(nanoseconds(0.6))
    terminal.keyboard.start()
    assert not terminal.read().enabled


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (RIGHT, ["keep"]),
        (LEFT, ["discard"]),
        (b"\x1bOC\x1bOD", ["keep", "discard"]),
        (b"u", ["undo"]),
        (b"U", ["undo"]),
        (RIGHT + b"u" + LEFT, ["keep", "undo", "discard"]),
        (ESC + RIGHT, ["stop", "keep"]),
        (ESC + b"w", ["stop"]),  # the letter behind an Esc must not move the arm
    ],
)
def test_recorder_keys_never_move_the_arm(terminal: Terminal, typed: bytes, keys: list[str]) -> None:
    command = terminal.read(typed)
    assert terminal.keyboard.recorder_keys() == keys
    assert not command.enabled
    assert terminal.keyboard.recorder_keys() == []


@pytest.mark.parametrize(
    "typed",
    [
        b"\x1b[3~",  # Delete
        b"\x1b[1;5C",  # Ctrl and the arrow
        b"\x1b[15~",  # F5
        b"\x1bOP",  # F1
        b"\x1b[200~",  # a paste begins
        b"\x1b[<0;10;5M",  # the mouse
        UP,  # an arrow without a meaning
        "äöü€".encode(),
        b"\t\r\n\x7f\x00",
        b"zxcv",
    ],
)
def test_other_keys_do_nothing(terminal: Terminal, typed: bytes) -> None:
    command = terminal.read(typed)
    assert not command.enabled
    assert terminal.keyboard.recorder_keys() == []


def test_an_arrow_that_comes_in_pieces_is_an_arrow(terminal: Terminal) -> None:
    for piece in (b"\x1b", b"[", b"C"):
        terminal.type(piece)
        terminal.clock.advance(nanoseconds(0.02))
        keys = terminal.keyboard.recorder_keys()
    assert keys == ["keep"]
    assert not terminal.read().enabled


def test_escape_alone_counts_after_a_moment(terminal: Terminal) -> None:
    terminal.type(ESC)
    assert terminal.keyboard.recorder_keys() == []
    terminal.clock.advance(nanoseconds(0.05))
    assert terminal.keyboard.recorder_keys() == ["stop"]


@pytest.mark.parametrize(
    ("typed", "waited", "expected"),
    [
        (b"\x1b", False, ("", 0)),
        (b"\x1b", True, ("escape", 1)),
        (b"\x1b[1;", False, ("", 0)),
        (b"\x1b[1;", True, ("", 4)),
        (b"\x1b[Dw", False, ("left", 3)),
        (b" ", False, ("space", 1)),
        (b"\xc3", True, ("", 1)),
    ],
)
def test_next_key(typed: bytes, waited: bool, expected: tuple[str, int]) -> None:
    assert next_key(typed, waited=waited) == expected


def test_nothing_is_echoed_and_the_terminal_is_put_back(terminal: Terminal) -> None:
    local_modes = 3
    during = termios.tcgetattr(terminal.near)[local_modes]
    assert not during & (termios.ECHO | termios.ICANON)
    assert during & termios.ISIG  # Ctrl-C still interrupts
    terminal.keyboard.close()
    assert termios.tcgetattr(terminal.near) == terminal.before


def test_a_terminal_that_goes_away_is_a_lost_device() -> None:
    terminal = Terminal()
    os.close(terminal.far)
    with pytest.raises(DeviceError, match="the terminal of the keyboard is gone"):
        terminal.keyboard.read(robot_state(0.08))
    terminal.keyboard.close()
    os.close(terminal.near)


def test_no_terminal_is_one_sentence() -> None:
    near, far = os.pipe()
    with pytest.raises(DeviceError, match=f"the keyboard needs a terminal, and file descriptor {near} is none"):
        Keyboard(near, load_map(KeyboardMap, "keyboard"), clock=ManualClock())
    os.close(near)
    os.close(far)
