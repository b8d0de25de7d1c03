"""The keyboard of a plain terminal, also through SSH, as a `TeleopDevice`. No launcher starts it: that has no terminal.

A terminal tells no release: each press is one bounded step, the dead-man of one control period. A key that is held
repeats and so goes on stepping, never more than one step per period and never after its last press. Recorder keys are
told apart from all that moves, and an escape sequence is never taken for the letters in it.
"""

from __future__ import annotations

import os
import re
import select
import termios
import tty
from dataclasses import dataclass

import numpy as np

from vla_rft_core.clock import Clock, nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Array
from vla_rft_core.types import RobotState
from vla_rft_hardware.protocols import RECORDER_KEYS, TeleopCommand

ESCAPE_NS = nanoseconds(0.05)
"""An escape character with nothing behind it for so long is the Esc key; arrows send theirs at once."""
LEASE_NS = nanoseconds(0.5)
"""A press asks for the lease; the step is made if the lease comes within this time."""
LINGER_S = 1.0
"""How long the lease should outlive the last press: `linger_s` of whoever holds it for the keyboard."""
SEQUENCE = re.compile(rb"\x1b[\[O][0-?]*[ -/]*[@-~]")
"""A whole escape sequence (ECMA-48), for example that of an arrow."""
UNFINISHED = re.compile(rb"\x1b(?:[\[O][0-?]*[ -/]*)?")
NAMED = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left"}
NAMED |= {sequence.replace(b"[", b"O"): name for sequence, name in NAMED.items()}  # "application mode"
MOVES = {
    "forward": (+1, 0, 0),
    "back": (-1, 0, 0),
    "left": (0, +1, 0),
    "right": (0, -1, 0),
    "up": (0, 0, +1),
    "down": (0, 0, -1),
}
"""Field of the map -> direction in base, for somebody behind the robot."""
TURNS = {"turn_left": +1, "turn_right": -1}
"""About z of base."""


@dataclass(frozen=True, kw_only=True)
class KeyboardMap:
    """One key per action: a character, or one of: up, down, left, right (arrows), escape, space."""

    step: float
    """Way of one press [m]."""
    turn: float
    """Turn of one press [rad]."""
    fine_factor: float
    """Part of it that a letter typed with Shift goes."""
    forward: str
    back: str
    left: str
    right: str
    up: str
    down: str
    turn_left: str
    turn_right: str
    gripper: str
    """Opens a closed gripper, closes an open one."""
    keep: str = "right"
    discard: str = "left"
    undo: str = "u"
    stop: str = "escape"
    open_width: float = 0.08
    """[m]"""
    closed_width: float = 0.0
    """[m]"""

    def __post_init__(self) -> None:
        for name, highest in (("step", 0.03), ("turn", 0.15), ("fine_factor", 1.0)):
            if not 0.0 < getattr(self, name) <= highest:
                raise ValueError(f"{name}: must be above 0 and at most {highest}, got {getattr(self, name)}")
        if not 0.0 <= self.closed_width < self.open_width:
            raise ValueError(f"closed_width {self.closed_width} and open_width {self.open_width} are not in order")
        taken: dict[str, str] = {}
        for action in (*MOVES, *TURNS, "gripper", *RECORDER_KEYS):
            key = getattr(self, action)
            if key in taken:
                raise ValueError(f"{action}: key {key!r} means {taken[key]} already")
            taken[key] = action
            if len(key) != 1 and key not in (*NAMED.values(), "escape", "space"):
                raise ValueError(f"{action}: {key!r} is neither a character nor up, down, left, right, escape or space")
            if len(key) == 1 and key != key.lower():
                raise ValueError(f"{action}: {key!r} must be given in lower case; with Shift it is the fine step")

    def legend(self) -> str:
        """The keys in two lines, for an operator."""
        moves = [f"{getattr(self, name)} {name.replace('_', ' ')}" for name in (*MOVES, *TURNS, "gripper")]
        keys = [f"{getattr(self, name)} {name}" for name in RECORDER_KEYS]
        return f"move (Shift: finer): {' · '.join(moves)}\nrecord: {' · '.join(keys)}"


@dataclass(frozen=True, eq=False)
class _Step:
    translation: Array
    rotvec: Array
    toggle: bool


class Keyboard:
    """Satisfies `TeleopDevice` and `OperatorKeys`. The terminal is put back as it was by `close`."""

    def __init__(self, fd: int, mapping: KeyboardMap, *, clock: Clock) -> None:
        """`fd`: file descriptor of the terminal. DeviceError when it is none."""
        self._fd, self._map, self._clock = fd, mapping, clock
        self._keys_of = _actions(mapping)
        self._buffer, self._buffered_ns = b"", 0
        self._moves: list[tuple[str, bool]] = []  # action, fine; since the last read
        self._recorder: list[str] = []
        self._last: tuple[_Step, int] | None = None  # handed out, and when
        self._again: _Step | None = None  # to be handed out once more, as the lease came after it
        self._width: float | None = None
        try:
            self._before = termios.tcgetattr(fd)
            tty.setcbreak(fd)
        except (termios.error, OSError) as error:
            raise DeviceError(
                f"the keyboard needs a terminal, and file descriptor {fd} is none ({error}): "
                "run this in a terminal of its own, not from a launcher or a pipe"
            ) from None

    def start(self) -> None:
        """The lease is ours: the press that asked for it is made now, if it is recent; older ones are forgotten."""
        self._width = None
        last, self._last = self._last, None
        recent = last is not None and self._clock.monotonic_ns() - last[1] <= LEASE_NS
        self._again = last[0] if last is not None and recent else None

    def read(self, state: RobotState) -> TeleopCommand:
        """The step of the keys pressed since the last call, each once; not enabled when there were none."""
        self._listen()
        moves, self._moves = self._moves, []
        again, self._again = self._again, None
        step = self._step(moves) if moves else again
        width = state.reference.width if self._width is None else self._width
        if step is None:
            zeros = np.zeros(3)
            return TeleopCommand(self._clock.realtime_ns(), False, zeros, zeros, width)
        self._last = (step, self._clock.monotonic_ns())
        if step.toggle:
            middle = 0.5 * (self._map.open_width + self._map.closed_width)
            width = self._width = self._map.closed_width if width > middle else self._map.open_width
        return TeleopCommand(self._clock.realtime_ns(), True, step.translation, step.rotvec, width)

    def recorder_keys(self) -> list[str]:
        """Recorder keys pressed since the last call."""
        self._listen()
        keys, self._recorder = self._recorder, []
        return keys

    def close(self) -> None:
        """Put the terminal back as it was."""
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        except (termios.error, OSError):
            return  # it is gone, and with it what was to be put back

    def _step(self, moves: list[tuple[str, bool]]) -> _Step:
        """All keys of one period together, each once, the whole no longer than one step."""
        translation, turn = np.zeros(3), 0.0
        for action, fine in dict(moves).items():
            scale = self._map.fine_factor if fine else 1.0
            if action in MOVES:
                translation += scale * self._map.step * np.array(MOVES[action], dtype=np.float64)
            turn += scale * self._map.turn * TURNS.get(action, 0)
        translation /= max(1.0, float(np.linalg.norm(translation)) / self._map.step)
        return _Step(translation, np.array([0.0, 0.0, turn]), any(action == "gripper" for action, _ in moves))

    def _listen(self) -> None:
        now_ns = self._clock.monotonic_ns()
        fresh = self._received()
        if fresh:
            self._buffer, self._buffered_ns = self._buffer + fresh, now_ns
        while self._buffer:
            key, length = next_key(self._buffer, waited=now_ns - self._buffered_ns >= ESCAPE_NS)
            if not length:
                return
            self._buffer = self._buffer[length:]
            self._press(key)

    def _press(self, key: str) -> None:
        fine = len(key) == 1 and key != key.lower()
        action = self._keys_of.get(key.lower())
        if action in RECORDER_KEYS:
            self._recorder.append(action)
        elif action is not None:
            self._moves.append((action, fine))

    def _received(self) -> bytes:
        """What was typed; DeviceError when the terminal is gone."""
        try:
            if not select.select([self._fd], [], [], 0.0)[0]:
                return b""
            typed = os.read(self._fd, 4096)
        except (OSError, ValueError) as error:
            raise DeviceError(f"the terminal of the keyboard is gone ({error}): open another and start again") from None
        if not typed:
            raise DeviceError("the terminal of the keyboard is gone (end of input): open another and start again")
        return typed


def next_key(typed: bytes, *, waited: bool) -> tuple[str, int]:
    """(key, length in bytes) of the first key in what was typed; "" is none that is known.

    Length 0: what is there may be the start of an escape sequence, wait for more (`waited`: no more came).
    """
    whole = SEQUENCE.match(typed)
    if whole:
        return NAMED.get(whole[0], ""), len(whole[0])
    if typed[:1] == b"\x1b":
        if UNFINISHED.fullmatch(typed):
            if not waited:
                return "", 0
            return ("escape" if len(typed) == 1 else ""), len(typed)
        # Esc and a character at once: the Esc key counts, and what came with it must not move the arm.
        return "escape", 1 if typed[1:2] == b"\x1b" else 2
    if typed[0] >= 0x80:
        return "", 1
    character = chr(typed[0])
    return ("space" if character == " " else character), 1


def _actions(mapping: KeyboardMap) -> dict[str, str]:
    """Key -> action."""
    return {getattr(mapping, action): action for action in (*MOVES, *TURNS, "gripper", *RECORDER_KEYS)}
