"""What the page is told of studies: which can be run, how far they are, and never which policy is which."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from vla_rft_interfaces.action import RunTrials
from vla_rft_nodes.console.trials import ended_trials, ending_words, studies_in
from vla_rft_trials.records import Outcome, Termination, TrialRecord, TrialStart
from vla_rft_trials.study import Study, lock
from vla_rft_trials.trial_log import RecordLog

PROTOCOL = Path(__file__).parents[3] / "launch" / "protocols" / "grasp_noise.yaml"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two placements, two policies."""
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    content = yaml.safe_load(PROTOCOL.read_text())
    content["placements"]["count"] = content["trials_per_policy"] = 2
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))
    return lock(tmp_path / "protocol.yaml", tmp_path / "studies" / "towel")


def run_one(study: Study, index: int, outcome: Outcome, *, mode: str = "", note: str = "") -> None:
    slot = study.plan.schedule[index]
    start = TrialStart(
        index=index,
        slot=slot.number,
        study=study.digest,
        seed=1,
        placement_id=slot.placement,
        placement="here",
        policy=slot.code,
        policy_stamp="stamp",
        started_ns=1,
    )
    log = RecordLog(study.records)
    log.start(start)
    log.end(
        TrialRecord.of(
            start,
            outcome=outcome,
            termination_reason=Termination.OPERATOR_STOP,
            ended_ns=2,
            seconds=9.5,
            failure_mode=mode,
            note=note,
        )
    )
    log.close()


def test_studies_with_what_is_left_of_them(study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    (view,) = studies_in(folder)
    assert (view.folder, view.settled, view.planned, view.complete, view.problem) == ("towel", 0, 4, False, "")
    run_one(study, 0, Outcome.SUCCESS)
    (view,) = studies_in(folder)
    assert (view.settled, view.title) == (1, "Grasp noise of 2 cm against none")
    protocol = study.folder / "locked" / "protocol.yaml"
    protocol.write_text(protocol.read_text() + "\n")
    (view,) = studies_in(tmp_path)  # one level above
    assert view.folder == "studies/towel" and "changed protocol is a new study" in view.problem
    assert studies_in(tmp_path / "nowhere") == ()


def test_ended_trials_are_blinded(study: Study) -> None:
    assert ended_trials(study) == ()
    run_one(study, 0, Outcome.SUCCESS)
    run_one(study, 1, Outcome.FAILURE, mode="drop", note="slipped")
    newest, first = ended_trials(study)
    assert (newest.number, newest.outcome, newest.failure_mode, newest.note) == (2, "failure", "drop", "slipped")
    assert first.number == 1 and set(asdict(first)) == {"number", "outcome", "failure_mode", "seconds", "note"}
    told = json.dumps(
        [asdict(trial) for trial in ended_trials(study)] + [asdict(s) for s in studies_in(study.folder.parent)]
    )
    names = {sealed.name for sealed in study.mapping().codes.values()}
    assert not any(f'"{name}"' in told for name in names)


def test_how_a_session_of_trials_ended() -> None:
    done = RunTrials.Result(settled=4, planned=4, complete=True)
    assert ending_words(done) == "the study is complete: 4 of 4 places settled"
    assert ending_words(RunTrials.Result(settled=1, planned=4)) == "paused: 1 of 4 places settled"
    refused = RunTrials.Result(error_code=RunTrials.Result.NOT_STARTED, error_msg="the scene is not as required")
    assert ending_words(refused) == "it stopped: the scene is not as required"
