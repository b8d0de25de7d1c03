"""The commands an evaluator types: what they print, what they refuse, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_rft_trials import commands
from vla_rft_trials.__main__ import main, parser
from vla_rft_trials.progress import counted
from vla_rft_trials.ratings import order_for, read_ratings
from vla_rft_trials.records import Outcome
from vla_rft_trials.running import run_serially
from vla_rft_trials.study import Study
from vla_rft_trials.trial_log import read_log

Make = Callable[..., Any]


@pytest.fixture
def done(study: Study, make_stage: Make) -> Study:
    """All eight trials, still sealed."""
    stage = make_stage(study)
    with stage.open() as run:
        run_serially(run, stage)
    return study


def test_compare_prints_the_paper_s_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "10/10", "5/10"]) == 0
    printed = capsys.readouterr().out
    for part in ("69.2–100.0 %", "Barnard p                     0.0128", "Fisher p                      0.0325"):
        assert part in printed
    assert "10/10 supports at least 69 %; it differs from 5/10, p = 0.013 (Barnard)." in printed


def test_compare_of_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "10/10", "5/10", "--discordant", "5:0"]) == 0
    assert "McNemar, paired p             0.0625" in capsys.readouterr().out
    assert main(["compare", "10/10", "5/10", "--discordant", "4:0"]) == 2
    assert "are not 10 pairs of which 4:0 differ" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["compare", "11/10", "5/10"], ["compare", "x", "5/10"], ["compare", "5/10"], []])
def test_a_mistake_on_the_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_status_speaks_code_names(done: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(done.folder)]) == 0
    printed = capsys.readouterr().out
    assert "8 of 8 places settled" in printed
    assert "A: success" in printed and "steady" not in printed


def test_unlock_says_who_is_who(done: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unlock", str(done.folder)]) == 0
    printed = capsys.readouterr().out
    assert "= steady" in printed and "= shaky" in printed


def test_void_and_undo_keep_history(done: Study, capsys: pytest.CaptureFixture[str]) -> None:
    void = ["void", str(done.folder), "3", "--by", "ada", "--reason", "the camera was bumped"]
    assert main(void) == 0
    assert read_log(done.records).records[2].outcome is Outcome.VOID
    assert main(["status", str(done.folder)]) == 0
    assert "7 of 8 places settled" in capsys.readouterr().out  # its place is to be filled again
    assert main(["undo", str(done.folder), "--by", "ada"]) == 0
    assert read_log(done.records).records == read_log(done.records).original
    assert len(read_log(done.records).amendments) == 2
    assert main(["undo", str(done.folder), "--by", "ada"]) == 2
    assert main([*void[:2], "99", *void[3:]]) == 2
    assert "has no trial 99; it has 8" in capsys.readouterr().err


def test_a_trial_declared_void_is_run_again(done: Study, make_stage: Make) -> None:
    assert main(["void", str(done.folder), "3", "--by", "ada", "--reason", "the camera was bumped"]) == 0
    stage = make_stage(done)
    with stage.open() as run:
        assert run_serially(run, stage).complete
    (again,) = stage.performed
    assert (again.slot, again.repeats) == (2, 2)


def test_a_second_rater_sees_videos_and_nothing_else(done: Study, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = parser().parse_args(["rate", str(done.folder), "--rater", "ben"])
    assert commands.rate_videos(chosen, answers=["s", "what", "f 9", "f 2", "q"]) == 0
    ratings = read_ratings(done.folder / "ratings.jsonl")
    records = list(counted(read_log(done.records)).values())
    order = order_for("ben", done.plan.study, 8)
    assert [r.index for r in ratings] == [records[i].index for i in order[:2]]
    assert [(r.outcome, r.failure_mode, r.blind) for r in ratings] == [
        (Outcome.SUCCESS, "", True),
        (Outcome.FAILURE, "no grasp", True),
    ]
    printed = capsys.readouterr().out
    assert f"1/8: {done.folder / records[order[0]].video}" in printed
    assert not any(word in printed for word in ("placement", "P0", "A:", "B:", "steady"))


def test_a_folder_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "unlock", "report"):
        assert main([command, str(tmp_path)]) == 2
        assert "is not a study" in capsys.readouterr().err
