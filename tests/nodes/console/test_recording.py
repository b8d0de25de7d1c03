"""Keys from pages and pedals: what is heard when, what is refused and not kept for later, what became of an attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from std_msgs.msg import String

from vla_rft_core.cell import find_cell
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.srv import Rearm
from vla_rft_nodes import qos, topics
from vla_rft_nodes.console.recording import Recording, SessionState
from vla_rft_nodes.operate import spinning
from vla_rft_nodes.record_session import SessionOptions
from vla_rft_nodes.session_view import Moment

pytestmark = pytest.mark.ros

FOLDER = find_cell("vla_rft_sim:towel_cell")
OPTIONS = SessionOptions(task="fold_towel", prompt="fold it", operator="ada", count=5)


class Cell:
    """Held, or not."""

    def __init__(self) -> None:
        self.status = SimpleNamespace(latched=False)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Any]:
    """One whose session stands still at whatever moment a test wants."""
    with spinning("console_test") as node:
        made: Any = Recording(
            node,  # type: ignore[arg-type]
            Cell(),  # type: ignore[arg-type]
            FOLDER,
            episodes=tmp_path,
            simulated=False,
            start_device=False,
            available=lambda: True,
            on_change=lambda: None,
        )
        made.node = node
        made._state = SessionState(OPTIONS, FOLDER, lambda: None)
        made._thread = threading.current_thread()
        yield made


@pytest.mark.parametrize(
    ("moment", "heard"),
    [
        (Moment.BUSY, {"stop"}),
        (Moment.JUDGING, {"stop"}),
        (Moment.ASKING, {"keep", "discard", "undo", "stop"}),
        (Moment.RECORDING, {"keep", "discard", "undo", "stop"}),
        (Moment.DECIDING, {"keep", "discard", "stop"}),
        (Moment.ENDED, set()),
    ],
)
def test_a_key_that_means_nothing_now_is_refused_and_forgotten(recording: Any, moment: Moment, heard: set[str]) -> None:
    recording._state.moment(moment)
    for key in ("keep", "discard", "undo", "stop"):
        if key in heard:
            recording.press(key, origin="loopback")
            assert recording._keys.next(0.1) == key
        else:
            with pytest.raises(ValueError, match=f"not now: {moment}"):
                recording.press(key, origin="loopback")
            assert recording._keys.next(0.0) is None
    with pytest.raises(ValueError, match="no key 'delete'; keys: keep, discard, undo, stop"):
        recording.press("delete", origin="loopback")


def test_a_remote_page_goes_on_but_does_not_rearm(recording: Any) -> None:
    recording._state.moment(Moment.ASKING)
    recording.press("keep", origin="remote")
    assert (recording._keys.next(0.1), recording._keys.origin) == ("keep", "remote")
    recording._cell.status.latched = True
    with pytest.raises(ValueError, match="re-arming is done at the cell"):
        recording.press("keep", origin="remote")
    recording.press("stop", origin="remote")
    recording.press("keep", origin=Rearm.Request.LOOPBACK)
    assert [recording._keys.next(0.1) for _ in range(2)] == ["stop", "keep"]


def test_a_pedal_needs_no_page(recording: Any) -> None:
    recording._state.moment(Moment.RECORDING)
    recording._cell.status.latched = True
    pedal = recording.node.create_publisher(String, topics.OPERATOR_KEY, qos.EVENT)
    deadline = time.monotonic() + 10.0
    while pedal.get_subscription_count() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for key in ("nonsense", "discard"):
        pedal.publish(String(data=key))
    assert (recording._keys.next(5.0), recording._keys.origin) == ("discard", "pedal")


def test_what_became_of_the_last_attempt(recording: Any) -> None:
    state = recording._state
    state.judged(RecordEpisode.Result(episode="20261128T1", quality="bad", reasons=["too short"], frames=9))
    decisions = []
    for line in (
        "kept (success); u takes it back",
        "undone: 20261128T1; 0 kept",
        "discarded (unknown); u",
        "going home",
    ):
        state.tell(line)
        decisions.append(recording.view().last.decision)
    assert decisions == ["kept", "", "discarded", "discarded"]
    assert recording.view().last.reasons == ("too short",) and recording.view().operator == "ada"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": " "}, "needs a task and a prompt"),
        ({"count": 0}, "between 1 and 10000"),
        ({}, "ada's session is running"),
    ],
)
def test_sessions_that_cannot_begin(recording: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recording.start(**({"task": "fold", "prompt": "fold it", "operator": "bob", "count": 3} | change))
