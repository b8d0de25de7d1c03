"""Running a study, and everything that may go wrong while it runs: each with what is promised then."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import DeviceError
from vla_rft_core.manifest import write_manifest
from vla_rft_trials import running
from vla_rft_trials.identity import PolicyChangedError
from vla_rft_trials.records import Outcome, Termination, TrialStart
from vla_rft_trials.running import Ending, Run, TrialRefusedError, run_serially
from vla_rft_trials.statistics.sequential import Decision
from vla_rft_trials.study import Study, StudyError, open_study, unlock
from vla_rft_trials.trial_log import RecordError, read_log

Make = Callable[..., Any]


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def ending(termination: Termination, outcome: Outcome = Outcome.VOID) -> Callable[[TrialStart], Ending]:
    return lambda start: Ending(outcome=outcome, termination=termination, seconds=2.0, note="because")


def records(study: Study):
    return read_log(study.records).records


def test_a_study_runs_in_the_order_that_was_locked(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        assert run_serially(run, stage).complete
    assert [(r.slot, r.policy, r.placement_id) for r in records(study)] == [
        (s.number, s.code, s.placement) for s in study.plan.schedule
    ]
    assert all(r.study == study.digest and r.preflight == {"camera": "fresh"} for r in records(study))
    assert Counter(r.outcome for r in records(study)) == {Outcome.SUCCESS: 4, Outcome.FAILURE: 4}


def test_a_limit_ends_a_session_and_the_next_goes_on(study: Study, make_stage: Make) -> None:
    for _ in range(4):
        stage = make_stage(study)
        with stage.open() as run:
            run_serially(run, stage, limit=3)
    assert [r.slot for r in records(study)] == list(range(8))
    assert len((study.folder / "sessions.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("rule", ["repeat", "void", "failure"])
def test_a_killed_evaluator_leaves_one_interrupted_trial_and_loses_nothing(
    make_study: Make, make_stage: Make, rule: str
) -> None:
    study = make_study(exclusions={"interrupted": rule})
    stage = make_stage(study, film=True)

    def kill(start: TrialStart) -> Ending:
        if start.index == 3:
            raise KilledError
        return stage.by_policy(start)

    stage.ending = kill
    run = stage.open()
    with pytest.raises(KilledError):
        run_serially(run, stage)
    os.close(run._log._descriptor)  # what the kernel does
    again = make_stage(study, film=True)
    with again.open() as run:
        assert run_serially(run, again).complete
    found = records(study)
    (interrupted,) = [r for r in found if r.termination_reason is Termination.INTERRUPTED]
    assert interrupted.index == 3 and interrupted.ended_ns is None
    by_slot = Counter(r.slot for r in found)
    assert set(by_slot) == set(range(8))
    if rule == "repeat":
        (repeated,) = [r for r in found if r.repeats is not None]
        assert (repeated.slot, repeated.repeats, repeated.index) == (interrupted.slot, 3, 4)
        assert by_slot.pop(interrupted.slot) == 2
    assert interrupted.outcome is (Outcome.FAILURE if rule == "failure" else Outcome.VOID)
    assert set(by_slot.values()) == {1}


@pytest.mark.parametrize(
    ("termination", "field"),
    [
        (Termination.SAFETY_HOLD, "safety_hold"),
        (Termination.DEVICE_FAULT, "device_fault"),
        (Termination.OPERATOR_VOID, "operator_void"),
    ],
)
@pytest.mark.parametrize("rule", ["repeat", "void", "failure"])
def test_void_trials_follow_the_protocol_s_rule(
    make_study: Make, make_stage: Make, termination: Termination, field: str, rule: str
) -> None:
    study = make_study(exclusions={field: rule, "max_repeats": 1})
    stage = make_stage(study)
    stage.ending = lambda start: ending(termination)(start) if start.slot == 0 else stage.by_policy(start)
    with stage.open() as run:
        assert run_serially(run, stage).complete
    first = [r for r in records(study) if r.slot == 0]
    assert len(first) == (2 if rule == "repeat" else 1)  # once more, then the place stays empty
    expected = (Outcome.FAILURE, "protective stop") if rule == "failure" else (Outcome.VOID, "")
    assert {(r.outcome, r.failure_mode) for r in first} == {expected}
    assert all(r.termination_reason is termination and r.note == "because" for r in first)


def test_a_success_is_no_matter_of_rules(make_study: Make, make_stage: Make) -> None:
    study = make_study()
    stage = make_stage(study)
    stage.ending = ending(Termination.OPERATOR_STOP, Outcome.SUCCESS)
    with stage.open() as run:
        run_serially(run, stage, limit=1)
    assert records(study)[0].outcome is Outcome.SUCCESS


def test_two_evaluators_at_once(study: Study, make_stage: Make) -> None:
    with make_stage(study).open(), pytest.raises(RecordError, match="another process is writing"):
        make_stage(study).open()


def test_a_protocol_edited_after_the_lock(study: Study, make_stage: Make) -> None:
    path = study.folder / "locked" / "protocol.yaml"
    path.write_text(path.read_text().replace("time_limit_s: 30.0", "time_limit_s: 60.0"))
    with pytest.raises(StudyError, match=r"protocol\.yaml: was altered .* a changed protocol is a new study"):
        open_study(study.folder)


def test_a_lock_made_anew_over_old_records(study: Study, make_stage: Make, make_study: Make) -> None:
    """Whoever writes a fitting manifest too is found by the records, and by the keeper's share."""
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage, limit=2)
    locked = study.folder / "locked"
    path = locked / "protocol.yaml"
    path.write_text(path.read_text().replace("time_limit_s: 30.0", "time_limit_s: 60.0"))
    (locked / "manifest.json").unlink()
    write_manifest(locked, kind="study", metadata={})
    forged = open_study(study.folder)
    with pytest.raises(StudyError, match="trial 1 is of another study"):
        Run(forged, clock=stage.clock, operator="ada")
    with pytest.raises(StudyError, match="is not what was locked"):
        forged.mapping()


def test_a_bundle_swapped(tmp_path: Path, make_study: Make, make_stage: Make) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "policy.onnx").write_bytes(b"weights")
    write_manifest(bundle, kind="bundle", metadata={"checkpoint": "abc"})
    study = make_study(
        policies=[{"name": "steady", "factory": "x:y"}, {"name": "secret-bundle", "bundle": str(bundle)}]
    )
    stage = make_stage(study)
    (code,) = [c for c, sealed in stage.mapping.codes.items() if sealed.name == "secret-bundle"]
    with stage.open() as run:
        run_serially(run, stage, limit=2)
        (bundle / "policy.onnx").write_bytes(b"others")
        with pytest.raises(PolicyChangedError, match=f"policy behind {code} is not the one that was locked") as caught:
            run_serially(run, stage)
        (bundle / "manifest.json").unlink()
        write_manifest(bundle, kind="bundle", metadata={"checkpoint": "def"})  # a whole bundle, and another one
        with pytest.raises(PolicyChangedError):
            run_serially(run, stage)
    assert "secret-bundle" not in str(caught.value) and str(bundle) not in str(caught.value)
    with pytest.raises(PolicyChangedError):
        unlock(study, complete=False, early="to see")


def test_records_cut_off_at_a_line(study: Study, make_stage: Make) -> None:
    stage = make_stage(study, film=True)
    with stage.open() as run:
        run_serially(run, stage, limit=3)
    lines = study.records.read_text().splitlines(keepends=True)
    study.records.write_text("".join(lines[:-2]))
    with pytest.raises(StudyError, match=r"does not name videos/trial_003\.mp4, so records have been cut off"):
        make_stage(study).open()


def test_records_cut_off_within_a_line(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage, limit=3)
    content = study.records.read_bytes()
    study.records.write_bytes(content[:-30])  # the third trial's end
    again = make_stage(study)
    with again.open() as run:
        assert run_serially(run, again).complete
    found = records(study)
    assert [r.termination_reason is Termination.INTERRUPTED for r in found].index(True) == 2
    assert '"dropped"' in study.records.read_text()
    assert Counter(r.slot for r in found if r.outcome is not Outcome.VOID) == {i: 1 for i in range(8)}


def test_a_line_changed_by_hand(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    text = study.records.read_text()
    study.records.write_text(text.replace('"outcome": "failure"', '"outcome": "success"', 1).replace("no grasp", "", 1))
    with pytest.raises(RecordError, match="the chain of hashes breaks here"):
        make_stage(study).open()


def test_a_full_disk_starts_nothing(study: Study, make_stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "DISK_NEEDED_BYTES", 10**18)
    stage = make_stage(study)
    with stage.open() as run, pytest.raises(TrialRefusedError, match="the disk is nearly full"):
        run_serially(run, stage)
    assert stage.performed == [] and records(study) == ()


def test_a_disk_that_fills_during_a_trial(study: Study, make_stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, write, full = make_stage(study), os.write, False

    def write_if_room(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    def fill(start: TrialStart) -> Ending:
        nonlocal full
        full = start.index == 1
        return stage.by_policy(start)

    monkeypatch.setattr(os, "write", write_if_room)
    stage.ending = fill
    with stage.open() as run, pytest.raises(RecordError, match="No space left on device"):
        run_serially(run, stage)
    full = False
    assert [start.index for start in read_log(study.records).open] == [1]
    again = make_stage(study)
    with again.open() as run:
        assert run_serially(run, again).complete
    assert [r.index for r in records(study) if r.termination_reason is Termination.INTERRUPTED] == [1]


def test_a_clock_that_jumps_voids_the_trial_and_spares_its_duration(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)

    def jump(start: TrialStart) -> Ending:
        if start.index == 0:
            stage.clock.realtime_offset_ns -= 3600 * NS_PER_S
        return stage.by_policy(start)

    stage.ending = jump
    with stage.open() as run:
        assert run_serially(run, stage).complete
    first, second, *_ = records(study)
    assert (first.outcome, first.termination_reason) == (Outcome.VOID, Termination.CLOCK_JUMP)
    assert "the clock jumped by -3600.000 s" in first.note
    assert first.seconds == pytest.approx(stage.by_policy(stage.performed[0]).seconds)
    assert second.repeats == 0 and second.slot == 0


def test_a_scene_that_cannot_be_reset_starts_no_trial(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)

    def refuse(slot: object) -> None:
        raise DeviceError("the scene cannot be reset: the world does not answer")

    stage.before = refuse
    with stage.open() as run, pytest.raises(DeviceError, match="the scene cannot be reset"):
        run_serially(run, stage)
    assert records(study) == () and stage.performed == []


def test_no_trial_after_the_unlocking(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage, limit=1)
    with pytest.raises(StudyError, match="trials are missing"):
        unlock(study, complete=False)
    unlock(study, complete=False, early="a visitor")
    with pytest.raises(StudyError, match="is unlocked"):
        stage.open()


def test_the_stopping_rule_ends_a_study_early(make_study: Make, make_stage: Make) -> None:
    study = make_study(
        placements={"count": 20, "seed": 7, "region": {"x": [0.4, 0.6], "y": [-0.1, 0.1], "yaw_deg": [75.0, 105.0]}},
        trials_per_policy=20,
        stopping={"rule": "sequential"},
    )
    stage = make_stage(study)
    with stage.open() as run:
        state = run_serially(run, stage)
    assert state.decision is Decision.DIFFERENT and state.complete
    assert len(records(study)) == 2 * 8  # eight wins of eight: see statistics.sequential
    assert state.settled < state.planned


def test_records_hold_no_path_of_this_machine(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    assert str(study.folder) not in study.records.read_text()
    assert json.loads(study.records.read_text().splitlines()[0])["version"] == 2
