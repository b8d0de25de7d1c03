"""A trial that robot_node or its recorder has left is void, whatever the policy did; without processes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from vla_rft_core.cell import find_cell
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes import recorder_client
from vla_rft_nodes.evaluator_stage import RosStage, StageOptions
from vla_rft_nodes.recorder_client import RecorderClient
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.records import Outcome, Termination

PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "demo.yaml"
RECORDER_GONE = "recorder_node has been silent for 2.1 s"


@pytest.fixture
def cell() -> SimpleNamespace:
    """Active and well."""
    state = SimpleNamespace(reference=SimpleNamespace(width=0.1))
    return SimpleNamespace(
        silent_s=0.01, status=SafetyStatus(mode=SafetyStatus.ACTIVE, source="policy"), state=lambda: state
    )


@pytest.fixture
def stage(cell: SimpleNamespace) -> RosStage:
    """At a table where a person judges: by itself no trial ends."""
    options = StageOptions(camera="front", simulated=False, unattended=False, record=False, countdown_s=0.0)
    made = RosStage(MagicMock(), cell, find_cell("vla_rft_sim:towel_cell"), options)
    study = SimpleNamespace(protocol=Protocol.load(PROTOCOL))
    made.begin(study, operator="mia", tell=lambda phase, text: None, stopped=lambda: False)
    return made


@pytest.mark.parametrize("what", ["silent", "maintenance", "unrecorded"])
def test_it_is_void_by_a_device_fault_that_is_named(stage: RosStage, cell: SimpleNamespace, what: str) -> None:
    words = {
        "silent": "robot_node has been silent for 2.5 s",
        "maintenance": "MAINTENANCE",
        "unrecorded": RECORDER_GONE,
    }
    if what == "silent":
        cell.silent_s = 2.5
    elif what == "maintenance":
        cell.status = SafetyStatus(mode=SafetyStatus.MAINTENANCE)
    else:
        stage._recorder = SimpleNamespace(lost=RECORDER_GONE)
    ending = stage._watch(time.monotonic(), SimpleNamespace(state=""))
    assert (ending.outcome, ending.termination) == (Outcome.VOID, Termination.DEVICE_FAULT)
    assert words[what] in ending.note
    assert ending.seconds < 1.0


def test_a_recorder_is_lost_when_its_feedback_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_client, "ActionClient", MagicMock())
    client = RecorderClient(MagicMock())
    assert client.lost == "", "before an attempt"
    client._on_feedback(SimpleNamespace(feedback=RecordEpisode.Feedback()))
    assert client.lost == ""
    monkeypatch.setattr(recorder_client, "SILENCE_S", 0.05)
    time.sleep(0.1)
    assert client.lost == "recorder_node has been silent for 0.1 s"
    client._on_result(SimpleNamespace(result=lambda: SimpleNamespace(result=RecordEpisode.Result())))
    assert client.lost == "", "it has ended"
