"""The report of a study with a success, a failure, an interrupted trial and later words; and when it is refused."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from vla_rft_core.manifest import write_manifest
from vla_rft_trials.__main__ import main
from vla_rft_trials.contact_sheet import contact_sheet
from vla_rft_trials.ratings import Rating, rate
from vla_rft_trials.records import Amendment, Outcome, Termination
from vla_rft_trials.report import render
from vla_rft_trials.running import Ending, run_serially
from vla_rft_trials.study import Study, unlock
from vla_rft_trials.table import print_table
from vla_rft_trials.trial_log import RecordLog, read_log

Make = Callable[..., Any]
ONE_POLICY = {"policies": [{"name": "expert", "factory": "x:y"}], "blinded": False}


class Page(HTMLParser):
    """The page's references and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.add(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def folder(make_study: Make, make_stage: Make) -> Path:
    """One policy, four planned: a success, a failure, and one that was killed; all filmed."""
    study = make_study(**ONE_POLICY)
    stage = make_stage(study, film=True)

    def ending(start: Any) -> Ending:
        if start.index == 1:
            return Ending(
                outcome=Outcome.FAILURE,
                termination=Termination.TIME_LIMIT,
                seconds=30.0,
                failure_mode="no grasp",
                frames_dropped=3,
                latencies_ms={"p50": 4.1, "p99": 9.25},
            )
        if start.index == 2:
            raise KeyboardInterrupt
        return Ending(
            outcome=Outcome.SUCCESS, termination=Termination.SUCCESS_HELD, seconds=6.0, edge_gap=0.021, note="<&>"
        )

    stage.ending = ending
    with stage.open() as run, pytest.raises(KeyboardInterrupt):
        run_serially(run, stage)
    return study.folder


@pytest.fixture
def compared(make_study: Make, make_stage: Make) -> Study:
    """Two policies, complete and unlocked: 4/4 against 0/4."""
    study = make_study(human_times_s=[4.0, 5.0])
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    unlock(study, complete=True)
    return study


def test_the_page_refers_only_to_what_lies_beside_it(folder: Path) -> None:
    html = render(folder).read_text()
    page = Page(html)
    files = [r for r in page.references if not r.startswith(("data:", "#"))]
    videos = {f"videos/trial_00{i}.mp4" for i in (1, 2, 3)}
    assert set(files) == {*videos, "contact_sheet.png", "trials.csv"}
    assert all((folder / unquote(name)).is_file() for name in files)
    assert {r[1:] for r in page.references if r.startswith("#")} <= page.ids
    links = html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons", "")
    assert "http" not in links and "@import" not in html and "<script" not in html
    for name in ("report.html", "report.md", "trials.csv"):
        assert str(folder) not in (folder / name).read_text()


def test_the_page_says_what_happened(folder: Path) -> None:
    (folder / "videos" / "trial_002.mp4").unlink()
    text = Page(render(folder).read_text()).text
    for part in (
        "1/2 successful trials",
        "2 trials cannot tell apart true success rates between 1 % and 99 %",
        "2 of 4 planned trials are done",
        "1 void or repeated, not counted",
        "✓ success",
        "✗ failure",
        "○ void",
        "time limit: no grasp",
        "success held: <&>",
        "2.1 cm",
        "below 4.5 cm",
        "9.25 ms",
        "3 camera frames are missing",
        "videos/trial_002.mp4 is missing",
        "Towel & noise",
    ):
        assert part in text, part


def test_a_comparison_says_what_it_can_and_cannot(compared: Study) -> None:
    text = Page(render(compared.folder).read_text()).text
    for part in (
        "steady with 4/4 supports at least 39 %; it cannot be told apart from shaky with 0/4, p = 0.12 (McNemar)",
        "so few trials do not carry the claim",
        "steady against shaky",
        "Barnard, unpaired p = 0.0",
        "McNemar, paired p = 0.1250 (4:0 pairs differ)",
        "Said before the first trial",
        "restricted mean time",
        "time over the operator's own",
        "no grasp",
        "ran as",
        "factory somewhere:steady",
    ):
        assert part in text, part
    markdown = (compared.folder / "report.md").read_text()
    assert "| placement | steady | shaky |" in markdown and "| success rate | 4/4 | 0/4 |" in markdown


def test_the_csv_holds_every_trial(compared: Study) -> None:
    render(compared.folder)
    rows = list(csv.DictReader(io.StringIO((compared.folder / "trials.csv").read_text())))
    assert len(rows) == 8
    assert {(row["policy"], row["outcome"]) for row in rows} == {("steady", "success"), ("shaky", "failure")}
    assert all(row["counted"] == "yes" and row["placement"].startswith("P0") for row in rows)


def test_a_sealed_study_is_reported_by_code_names(make_study: Make, make_stage: Make) -> None:
    study = make_study()
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    text = Page(render(study.folder).read_text()).text
    assert "still sealed" in text and "A against B" in text
    assert "steady" not in text.replace("somewhere:steady", "")


def test_training_seeds_of_a_method_are_taken_together(make_study: Make, make_stage: Make) -> None:
    entries = [
        {"name": f"{method}-{seed}", "factory": "x:y", "options": {"seed": seed, "m": method}, "method": method}
        for method in ("rft", "sft")
        for seed in (0, 1)
    ]
    study = make_study(policies=entries)
    stage = make_stage(study)

    def ending(start: Any) -> Ending:
        won = stage.mapping.codes[start.policy].name.startswith("rft")
        outcome = Outcome.SUCCESS if won else Outcome.FAILURE
        return Ending(outcome=outcome, termination=Termination.OPERATOR_STOP, seconds=5.0)

    stage.ending = ending
    with stage.open() as run:
        run_serially(run, stage)
    unlock(study, complete=True)
    text = Page(render(study.folder).read_text()).text
    assert "Over training seeds, rft against sft: p = 0.12 (permutation by placement, seeds as trained)" in text
    assert "the deciding p, Holm-adjusted" in text


def test_a_study_that_was_stopped_early_is_judged_by_its_rule(make_study: Make, make_stage: Make) -> None:
    placements = {"count": 20, "seed": 7, "region": {"x": [0.4, 0.6], "y": [-0.1, 0.1], "yaw_deg": [75.0, 105.0]}}
    study = make_study(placements=placements, trials_per_policy=20, stopping={"rule": "sequential"})
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    unlock(study, complete=True)
    text = Page(render(study.folder).read_text()).text
    assert (
        "steady with 8/8 supports at least 63 %; it differs from shaky with 0/8, sequential test at alpha 0.05" in text
    )
    assert "The stopping rule ended the study after 16 of 40: stop: the policies differ." in text


def test_repeats_at_a_placement_are_taken_together(make_study: Make, make_stage: Make) -> None:
    study = make_study(trials_per_policy=12)
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    text = Page(render(study.folder).read_text()).text
    assert "p = 0.12 (permutation by placement)" in text and "Barnard, unpaired p = 0.0000" in text


def test_later_words_and_second_raters_are_told(compared: Study) -> None:
    word = Amendment(index=0, outcome=Outcome.VOID, by="ada", note="the lamp fell", stamp_ns=1)
    with RecordLog(compared.records) as log:
        log.amend(word)
    for record in read_log(compared.records).original[1:5]:
        seen = Outcome.SUCCESS if record.index != 4 else Outcome.FAILURE
        rate(
            compared.folder / "ratings.jsonl",
            Rating(index=record.index, rater="ben", outcome=seen, blind=True, stamp_ns=1),
        )
    text = Page(render(compared.folder).read_text()).text
    assert "the lamp fell" in text and "ben" in text and "1 later words about trials" in text


def test_rendering_again_changes_only_its_own_files(folder: Path) -> None:
    render(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    inode = os.stat(folder / "report.html").st_ino
    assert main(["report", str(folder)]) == 0
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before
    assert os.stat(folder / "report.html").st_ino != inode


def test_a_torn_log_is_told_to_the_reader(folder: Path) -> None:
    with (folder / "records.jsonl").open("a") as stream:
        stream.write('{"event": "en')
    assert "was cut short" in render(folder).read_text()


def test_a_study_without_trials_has_a_report(study: Study) -> None:
    text = Page(render(study.folder).read_text()).text
    assert "0/0" in text and "No trial was started." in text and "0 of 8 planned" in text


def forge_a_policy(folder: Path) -> None:
    path = folder / "unlocked.json"
    text = path.read_text()
    path.write_text(text.replace('"steady"', '"x"').replace('"shaky"', '"steady"').replace('"x"', '"shaky"'))


def change_a_locked_file(folder: Path) -> None:
    (folder / "locked" / "plan.json").write_text("{}")


def change_a_record(folder: Path) -> None:
    path = folder / "records.jsonl"
    path.write_text(path.read_text().replace('"outcome": "failure"', '"outcome": "void"', 1))


@pytest.mark.parametrize(
    ("forge", "sentence"),
    [
        (forge_a_policy, "is not the policy that was locked any more"),
        (change_a_locked_file, "plan.json: was altered since the manifest was written"),
        (change_a_record, "the chain of hashes breaks here"),
        (lambda folder: (folder / "records.jsonl").write_text("x\n"), "records.jsonl, line 1: not JSON"),
        (lambda folder: (folder / "locked" / "manifest.json").unlink(), "is not a study"),
        (lambda folder: (folder / "unlocked.json").write_text("{"), "unlocked.json: cannot be read"),
        (lambda folder: (folder / "ratings.jsonl").write_text("{}\n"), "ratings.jsonl, line 1: field"),
        (lambda folder: (folder / "sessions.jsonl").write_text("{\n"), "sessions.jsonl, line 1: not JSON"),
    ],
)
def test_a_broken_hash_is_refused(
    compared: Study, forge: Callable[[Path], Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    render(compared.folder)
    report = (compared.folder / "report.html").read_bytes()
    forge(compared.folder)
    assert main(["report", str(compared.folder)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert (compared.folder / "report.html").read_bytes() == report


def test_another_video_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "videos/trial_001.mp4").write_bytes((folder / "videos/trial_002.mp4").read_bytes() + b"x")
    assert main(["report", str(folder)]) == 2
    assert "trial_001.mp4: is not the video that was recorded with its trial" in capsys.readouterr().err


def test_a_policy_that_ran_and_was_not_the_locked_one_is_refused(make_study: Make, make_stage: Make) -> None:
    study = make_study()
    stage = make_stage(study)
    prepare = stage.prepare
    stage.prepare = lambda slot, index: replace(prepare(slot, index), policy_stamp="0" * 64)
    with stage.open() as run:
        run_serially(run, stage, limit=1)
    unlock(study, complete=False, early="test")
    assert main(["report", str(study.folder)]) == 2


def test_a_bundle_that_is_not_here_is_told_and_one_that_changed_is_refused(
    tmp_path: Path, make_study: Make, make_stage: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "policy.onnx").write_bytes(b"weights")
    write_manifest(bundle, kind="bundle", metadata={"dataset": "d" * 8, "checkpoint": "c" * 8})
    study = make_study(policies=[{"name": "trained", "bundle": str(bundle)}], blinded=False)
    stage = make_stage(study)
    stage.ending = lambda start: Ending(
        outcome=Outcome.SUCCESS, termination=Termination.OPERATOR_STOP, seconds=50.0, labelled_by="ada"
    )
    with stage.open() as run:
        run_serially(run, stage)
    unlock(study, complete=True)
    text = Page(render(study.folder).read_text()).text
    assert "dataset dddddddd checkpoint cccccccc" in text
    (bundle / "policy.onnx").write_bytes(b"others")
    assert main(["report", str(study.folder)]) == 2
    assert "policy.onnx: was altered" in capsys.readouterr().err
    bundle.rename(tmp_path / "away")
    assert "is not here, so it was not hashed again" in Page(render(study.folder).read_text()).text


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "none is not a study" in capsys.readouterr().err


def test_the_sheet_has_a_row_per_trial(folder: Path) -> None:
    records = read_log(folder / "records.jsonl").records
    png = contact_sheet(folder, records, title="Towel demo")
    one = contact_sheet(folder, records[:1], title="Towel demo")
    image, single = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (png, one))
    assert image.shape[1] == single.shape[1]
    assert image.shape[0] - single.shape[0] == 2 * 168
    reds = (image[:, :, 2].astype(int) - image[:, :, 1] > 150).sum(axis=0)
    assert (reds[240:] > 0).sum() > 5 * 20


def test_the_sheet_holds_fifty_trials(tmp_path: Path, trial: Make, success: Make) -> None:
    records = tuple(success(trial(i, video="")) for i in range(50))
    png = contact_sheet(tmp_path, records, title="Fifty")
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape[0] == 40 + 44 + 50 * 168 - 8


def test_the_table_is_plain_text_and_ends_with_the_score(folder: Path) -> None:
    output = io.StringIO()
    print_table(read_log(folder / "records.jsonl").records, file=output)
    lines = output.getvalue().splitlines()
    assert lines[-1] == "success 1/2"
    assert lines[-2] == "1 void, not counted"
    assert lines[0].split("  ")[0] == "trial"
    for part in ("yaw", "✓ success", "6.0 s", "2.1 cm", "success held"):
        assert part in lines[1]
    assert "time limit: no grasp" in lines[2] and "interrupted" in lines[3]
    assert "\x1b" not in output.getvalue()
