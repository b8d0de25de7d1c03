"""A recorder that falls silent in a session: the arm is taken from whoever moves it, and the session ends with why."""

from __future__ import annotations

import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes.record_session import Session, SessionOptions, SimulatedTable
from vla_rft_nodes.session_view import SessionView

SILENT = "recorder_node has been silent for 2.1 s"


class Cell:
    """In READY at home; remembers what modes it was asked for."""

    def __init__(self) -> None:
        self.status = SafetyStatus(mode=SafetyStatus.READY)
        self.asked: list[tuple[str, str]] = []

    def go_home(self) -> None:
        pass

    def set_mode(self, mode: str, source: str = "") -> None:
        self.asked.append((mode, source))
        self.status = SafetyStatus(mode=mode, source=source)

    def take_back(self) -> None:
        if self.status.mode == SafetyStatus.ACTIVE:
            self.set_mode(SafetyStatus.READY)


class Recorder:
    """Falls silent in the first attempt."""

    result = None

    def __init__(self) -> None:
        self.lost = ""

    def start(self, goal: object) -> None:
        self.lost = SILENT

    def stop(self) -> None:
        raise DeviceError(self.lost)


class NoKeys:
    driving, origin = False, "terminal"

    def next(self, timeout_s: float) -> str | None:
        return None


class View(SessionView):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def moment(self, moment: object) -> None:
        pass

    def tell(self, text: str) -> None:
        self.told.append(text)

    def cue(self, text: str) -> None:
        self.told.append(text)


def test_a_silent_recorder_ends_the_attempt_and_takes_the_lease_back():
    cell, view = Cell(), View()
    options = SessionOptions(task="fold_towel", prompt="fold", operator="mia", count=1, start_device=True)
    table = SimulatedTable(reset=lambda: "in the middle", success=lambda: False)
    session = Session(cell, Recorder(), NoKeys(), view=view, options=options, table=table)
    with pytest.raises(DeviceError, match="silent"):
        session.run()
    assert cell.asked == [("ACTIVE", "teleop"), ("READY", "")]
    assert view.told[-1] == f"not recorded any more: {SILENT}"
