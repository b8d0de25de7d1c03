"""The operator's terminal through a pseudo-terminal, in the simulated cell: keep, discard, undo, stop."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla_rft_episodes.collection import Collection
from vla_rft_episodes.labels import Label
from vla_rft_episodes.reader import Episode
from vla_rft_nodes.bringup import Supervisor, load

pytestmark = [pytest.mark.ros, pytest.mark.realtime]

RIGHT, LEFT, ESC = "\x1b[C", "\x1b[D", "\x1b"
STYLES = re.compile(r"\x1b\[[0-9;]*m|\x07|\r")
TRANSCRIPT = os.environ.get("RECORD_TRANSCRIPT")
"""File that gets what the operator sees, with what was pressed; docs/collecting.md shows it."""


class Terminal:
    """A program in a pseudo-terminal of its own: what it says, and what is typed."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs  # kept open: its settings are looked at in the end
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        self.said = ""
        self._seen = 0

    def expect(self, pattern: str, timeout_s: float = 60.0) -> None:
        """Read on until something new matches."""
        deadline = time.monotonic() + timeout_s
        while not (match := re.compile(pattern).search(self.said, self._seen)):
            assert time.monotonic() < deadline and self.process.poll() is None, f"no {pattern!r} in:\n{self.said}"
            self._read(0.1)
        self._seen = match.end()

    def press(self, keys: str, name: str) -> None:
        """Type; the transcript shows the name."""
        self.said += f"          [{name}]\n"
        self._seen = len(self.said)
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Its exit code."""
        code = self.process.wait(30.0)
        self._read(0.2)
        return code

    def settings(self) -> list:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self, timeout_s: float) -> None:
        while select.select([self._ours], [], [], timeout_s)[0]:
            self.said += STYLES.sub("", os.read(self._ours, 65536).decode(errors="replace"))
            timeout_s = 0.0


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Path]:
    """Cell and recorder of the teleoperation launch file; the folder of its episodes. Shown when a test fails: ends."""
    plan = load("teleop", {"device": "keyboard", "episodes": str(tmp_path / "episodes")})
    with Supervisor(plan, log_dir=tmp_path / "log") as processes:
        processes.start(*(process.name for process in plan.processes))
        yield tmp_path / "episodes"
        for ended in processes.poll():
            print(f"{ended.spec.name} ended with {ended.cause}:", *ended.tail, sep="\n  ")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    words = ["--task", "fold_towel", "--prompt", "fold the towel in half", "--operator", "mia", "--count", "5"]
    command = [sys.executable, "-m", "vla_rft_nodes.record", *words, "--keyboard", "--reset-scene", "--seed", "7"]
    running = Terminal(command)
    yield running
    running.close()


def test_keep_discard_undo_stop(collection: Path, terminal: Terminal) -> None:
    terminal.expect("attempt 1: recording")
    for _ in range(5):
        terminal.press("w", "w")
        time.sleep(0.15)
    terminal.press(RIGHT, "→")
    terminal.expect(r"kept \(failure\)")
    terminal.expect("kept 1 of 5")
    terminal.expect("attempt 2: recording")
    time.sleep(1.0)
    terminal.press(LEFT, "←")
    terminal.expect(r"discarded \(failure\)")
    terminal.expect("attempt 3: recording")
    terminal.press("u", "u")
    terminal.expect("undone: .*; 1 kept, 0 discarded")
    terminal.press(ESC, "Esc")
    terminal.expect("session ended")
    assert terminal.end() == 0
    assert terminal.settings() == terminal.before, "the terminal was not put back as it was"

    kept, discarded, stopped = Collection(collection).episodes()
    assert kept.label is not None and (kept.label.label, kept.label.by) == (Label.KEEP, "mia")
    assert discarded.label is None, "its label was taken back"
    assert stopped.label is None and stopped.info.prompt == "fold the towel in half"
    moved = [entry for entry in Episode.open(kept.path).servo_entries() if entry.source == "teleop"]
    assert moved, "the keys w did not move the arm"
    assert not any(entry.source == "home" for entry in moved)
    assert (collection.parent / "episodes-coverage.png").stat().st_size > 1000
    if TRANSCRIPT:
        Path(TRANSCRIPT).write_text(terminal.said.replace(str(collection.parent), "runs"))


def test_an_attempt_left_open_by_a_killed_terminal_is_ended_by_the_next_one(
    collection: Path, terminal: Terminal
) -> None:
    terminal.expect("attempt 1: recording")
    terminal.process.kill()
    terminal.process.wait(10.0)
    before = len(Collection(collection).episodes())
    following = Terminal(terminal.process.args)
    try:
        following.expect("is being recorded; only one attempt at a time")
        following.expect("end that attempt")
        following.expect("attempt 1: recording")
        following.press(ESC, "Esc")
        following.expect("session ended")
        assert following.end() == 0
    finally:
        following.close()
    ended, own = Collection(collection).episodes()[before:]
    assert ended.label is None and own.label is None
    assert ended.info.termination_reason == "operator stop"


def test_ctrl_c_finishes_the_attempt_and_puts_the_terminal_back(collection: Path, terminal: Terminal) -> None:
    before = len(Collection(collection).episodes())
    terminal.expect("attempt 1: recording")
    terminal.process.send_signal(2)
    assert terminal.end() == 130
    assert terminal.settings() == terminal.before
    after = Collection(collection).episodes()
    assert len(after) == before + 1 and after[-1].label is None and not Collection(collection).open_attempts()
