"""Blind until unlocked: nothing in a study's folder says which policy a code name stands for; and locks hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla_rft_trials import seal
from vla_rft_trials.__main__ import main
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.report import render
from vla_rft_trials.running import run_serially
from vla_rft_trials.seal import Mapped, SealError
from vla_rft_trials.study import Study, StudyError, open_study, unlock

Make = Callable[..., Any]
STATED = {"protocol.yaml"}
"""Says which policies take part, as it must; not which is which."""


def swapped(mapped: Mapped) -> Mapped:
    """The same secret, the two policies exchanged."""
    a, b = mapped.codes
    return replace(mapped, codes={a: mapped.codes[b], b: mapped.codes[a]})


def run_through(study: Study, stage: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """All trials, all tools that an operator has, and what those printed."""
    with stage.open() as run:
        run_serially(run, stage)
    render(study.folder)
    for command in (["status", str(study.folder)], ["report", str(study.folder)]):
        assert main(command) == 0
    return capsys.readouterr().out.splitlines()


def test_a_blind_operator_finds_the_mapping_nowhere(
    study: Study, make_stage: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run_through(study, make_stage(study, film=True), capsys)
    mapped = study.mapping()
    telling = [word for sealed in mapped.codes.values() for word in (sealed.name, sealed.digest)]
    telling += [mapped.secret, "noise_m", "0.02"]
    files = [path for path in study.folder.rglob("*") if path.is_file() and path.name not in STATED]
    assert {"plan.json", "sealed.bin", "records.jsonl", "report.html", "trials.csv"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for word in telling:
            if word != "0.02" or path.suffix not in (".html", ".png", ".mp4", ".csv", ".md", ".bin"):
                assert word.encode() not in content, f"{path.name} holds {word!r}"
        assert not any(word in path.name for word in telling)
    assert not any(word in line for line in printed for word in telling[:-1])


def test_the_study_s_share_fits_either_mapping(study: Study) -> None:
    """Whoever has the study alone has nothing: for the exchanged mapping a keeper's share would fit as well."""
    share = (study.folder / "locked" / "sealed.bin").read_bytes()
    mapped = study.mapping()
    plain = json.dumps({**vars(swapped(mapped)), "codes": {c: vars(s) for c, s in swapped(mapped).codes.items()}})
    other = seal._xor(share, plain.encode().ljust(len(share)))
    assert seal.join(share, other, study=study.plan.study) == swapped(mapped)


def test_what_the_records_say_of_a_policy_cannot_be_computed_without_the_secret(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    stamps = {start.policy: start.policy_stamp for start in stage.performed}
    assert len(set(stamps.values())) == 2
    digests = [sealed.digest for sealed in stage.mapping.codes.values()]
    guesses = {replace(stage.mapping, secret=s).stamp(c, d) for s in ("", "0" * 64) for c in stamps for d in digests}
    assert not guesses & set(stamps.values())


def test_codes_are_drawn_by_chance_and_by_no_seed(make_study: Make) -> None:
    studies = [make_study() for _ in range(30)]
    first = Counter(study.mapping().codes["A"].name for study in studies)
    assert set(first) == {"steady", "shaky"}
    assert len({study.plan.schedule for study in studies}) == 1  # the order is the seed's and says nothing
    assert len({(study.folder / "locked" / "sealed.bin").stat().st_size for study in studies}) == 1
    assert len({study.digest for study in studies}) == 30


def test_without_the_keeper_s_share_nothing_opens(study: Study, keeper: Path) -> None:
    (share,) = keeper.iterdir()
    assert share.stat().st_mode & 0o077 == 0 and keeper not in study.folder.parents
    share.unlink()
    with pytest.raises(SealError, match=r"the keeper's share of study \w+ is not in"):
        study.mapping()


def test_a_share_of_another_study_does_not_fit(make_study: Make, keeper: Path) -> None:
    one, other = make_study(), make_study()
    paths = {study.plan.study: keeper / f"{study.plan.study}.json" for study in (one, other)}
    content = json.loads(paths[other.plan.study].read_text())
    paths[one.plan.study].write_text(json.dumps({**content, "locked": one.digest}))
    with pytest.raises(SealError, match="do not belong together"):
        one.mapping()
    paths[one.plan.study].write_text("{}")
    with pytest.raises(SealError, match="is not a keeper's share"):
        one.mapping()


def test_a_study_that_is_not_blinded_needs_no_keeper(make_study: Make, keeper: Path) -> None:
    study = make_study(blinded=False)
    assert list(keeper.iterdir()) == []
    assert study.plan.codes == ("shaky", "steady")
    assert study.mapping().codes["shaky"].name == "shaky"


def test_after_unlocking_names_are_in_the_open(study: Study, make_stage: Make) -> None:
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    unlocked = unlock(study, complete=True)
    assert unlocked.mapping == stage.mapping and study.unlocked() == unlocked
    assert unlock(study, complete=True) == unlocked
    assert [unlocked.mapping.codes[code].name for code in study.codes()] == ["steady", "shaky"]


def test_a_study_is_locked_into_a_new_folder_only(
    study: Study, protocol_file: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lock", str(protocol_file(tmp_path)), str(study.folder)]) == 2
    assert "exists; a study is locked into a new folder" in capsys.readouterr().err
    assert open_study(study.folder) == study


def test_a_lock_that_fails_leaves_nothing(tmp_path: Path, protocol_file: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "file" / "keeper"))
    assert main(["lock", str(protocol_file(tmp_path)), str(tmp_path / "study")]) == 2
    assert not (tmp_path / "study" / "locked").exists()
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    assert main(["lock", str(protocol_file(tmp_path)), str(tmp_path / "study")]) == 0


def test_what_n_can_detect_is_said_at_the_lock(
    tmp_path: Path, protocol_file: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lock", str(protocol_file(tmp_path)), str(tmp_path / "study")]) == 0
    printed = capsys.readouterr().out
    assert "With 4 trials per policy, alpha 0.05 (McNemar, paired)" in printed
    assert "not even 100 %" in printed


def test_a_bundle_that_is_not_whole_cannot_be_locked(
    tmp_path: Path, protocol_file: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = [{"name": "trained", "bundle": str(tmp_path / "none")}]
    assert main(["lock", str(protocol_file(tmp_path, policies=policies)), str(tmp_path / "study")]) == 2
    assert "is not a finished bundle" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plan.json", "sealed.bin", "protocol.yaml"])
def test_every_locked_file_is_guarded(study: Study, name: str) -> None:
    with (study.folder / "locked" / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(StudyError, match=f"{name}: was altered"):
        open_study(study.folder)


def test_a_file_added_to_the_lock_is_noticed(study: Study) -> None:
    (study.folder / "locked" / "note.txt").write_text("hello")
    with pytest.raises(StudyError, match="is not in the manifest"):
        open_study(study.folder)


def test_the_mapping_is_of_the_protocol_s_policies(study: Study, protocol: Protocol) -> None:
    with pytest.raises(SealError, match="has no policy 'C'; it has A, B"):
        study.mapping().checked("C", protocol.policies)
