"""A study in-process: the same lock, order and records as on the robot; stopped, it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy import stand_in
from vla_rft_core.cell import find_cell
from vla_rft_core.clock import ManualClock, SystemClock
from vla_rft_core.types import SetPoint
from vla_rft_sim import study as studies
from vla_rft_sim.expert import ExpertConfig
from vla_rft_sim.trial_policies import expert
from vla_rft_trials.identity import PolicyChangedError
from vla_rft_trials.records import Outcome, TrialStart
from vla_rft_trials.running import Ending, Run, Scene
from vla_rft_trials.study import lock, open_study
from vla_rft_trials.trial_log import read_log
from vla_rft_trials.video import frames_at

PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "grasp_noise.yaml"


@pytest.fixture
def protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two placements, two policies."""
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    content = yaml.safe_load(PROTOCOL.read_text())
    content["placements"]["count"] = content["trials_per_policy"] = 2
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", ["demo.yaml", "grasp_noise.yaml"])
def test_the_protocols_that_ship_can_be_locked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    study = lock(PROTOCOL.with_name(name), tmp_path / "study")
    assert study.protocol.time_limit_s == 30.0
    assert study.protocol.success.keys() == {"area", "edge gap", "mirrored gap", "height", "let go"}


def test_a_study_runs_stops_and_goes_on(protocol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    assert studies.main(["--protocol", str(protocol), "--out", str(folder), "--limit", "1", "--workers", "1"]) == 0
    assert "not complete yet" in capsys.readouterr().out
    assert studies.main(["--out", str(folder)]) == 0
    records = read_log(folder / "records.jsonl").records
    assert Counter(record.slot for record in records) == {0: 1, 1: 1, 2: 1, 3: 1}
    study = open_study(folder)
    unlocked = study.unlocked()
    assert unlocked is not None
    steady = [r for r in records if unlocked.mapping.codes[r.policy].name == "expert"]
    assert [r.outcome for r in steady] == [Outcome.SUCCESS] * 2
    assert all(4.0 < (r.seconds or 0.0) < 8.0 and r.labelled_by == "simulator" for r in steady)
    assert all(r.similarity is None and "scene" in r.preflight for r in records)
    for record in records:
        ((seconds, frame),) = frames_at(folder / record.video, [1.0])
        assert frame.shape[1] == 640 and seconds > 4.0
    assert (folder / "report.html").exists()
    assert studies.main(["--out", str(folder)]) == 2  # unlocked
    assert "is unlocked" in capsys.readouterr().err


def test_a_folder_that_is_no_study_needs_a_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert studies.main(["--out", str(tmp_path / "none")]) == 2
    assert "--protocol FILE locks one" in capsys.readouterr().err


def test_the_shaky_expert_s_error_follows_from_the_trial() -> None:
    shaky = expert(clock=ManualClock(), grasp_noise_m=0.02)
    errors = []
    for trial in range(300):
        shaky.begin_trial(trial)
        plain, config = ExpertConfig(), shaky.config
        errors.append((config.inset - plain.inset, config.along - plain.along))
        # Laid down as if it had been taken where it was meant to be.
        assert config.overshoot - config.inset == pytest.approx(plain.overshoot - plain.inset)
        assert config.along + config.release_along == pytest.approx(plain.along + plain.release_along)
    np.testing.assert_allclose(np.std(errors, axis=0), 0.02, rtol=0.15)
    shaky.begin_trial(7)
    assert (shaky.config.inset - ExpertConfig().inset, shaky.config.along) == pytest.approx(errors[7])
    steady = expert(clock=ManualClock())
    steady.begin_trial(3)
    assert steady.config == ExpertConfig()
    with pytest.raises(ValueError, match="must not be negative"):
        expert(clock=ManualClock(), grasp_noise_m=-1.0)


def test_bundles_are_compared_in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds against one that goes aside: chunks of source policy, through executor and filter."""
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    spec = find_cell("vla_rft_sim:towel_cell").spec
    home = spec.home.T_base_tcp
    way = [SetPoint(home.moved((0.0, 0.002 * i, 0.0), (0, 0, 0)), spec.home.width) for i in range(20)]
    stand_in.make_hold(tmp_path / "hold", spec)
    stand_in.make_replay(tmp_path / "aside", spec, way, source="made up")
    content = yaml.safe_load(PROTOCOL.read_text())
    content |= {"policies": [{"name": n, "bundle": str(tmp_path / n)} for n in ("hold", "aside")], "time_limit_s": 4.0}
    content["placements"]["count"] = content["trials_per_policy"] = 1
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))
    study = lock(tmp_path / "protocol.yaml", tmp_path / "study")
    ends = {}
    perform = studies.SimStage.perform

    def watched(stage: studies.SimStage, start: TrialStart) -> Ending:
        ending = perform(stage, start)
        ends[study.mapping().codes[start.policy].name] = stage.cell.state().arm.T_base_tcp.position - home.position
        return ending

    monkeypatch.setattr(studies.SimStage, "perform", watched)
    stage = studies.SimStage(study, study.mapping())
    for index, code in enumerate(study.codes()):
        slot = next(s for s in study.plan.schedule if s.code == code)
        with Run(study, clock=SystemClock(), operator="test") as run:
            start = run.start(slot, Scene(policy_stamp=study.mapping().checked(code, study.protocol.policies)[1]))
            record = run.end(start, stage.perform(start))
        assert (record.outcome, record.failure_mode, index) == (Outcome.FAILURE, "no grasp", index)
    assert np.abs(ends["hold"]).max() < 0.002
    assert ends["aside"] == pytest.approx([0.0, 0.038, 0.0], abs=0.003)
    (tmp_path / "hold" / "spec.yaml").write_text("changed")
    with pytest.raises(PolicyChangedError, match="was changed"):
        studies.SimStage(study, study.mapping())._policy(
            next(code for code, sealed in study.mapping().codes.items() if sealed.name == "hold")
        )
