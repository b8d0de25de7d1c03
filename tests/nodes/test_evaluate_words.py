"""What the terminal of trials understands: words and failure modes cut short, and what is wrong with the rest."""

from __future__ import annotations

import pytest

from vla_rft_nodes.evaluate import main, understood
from vla_rft_trials.protocol import FAILURE_MODES


@pytest.mark.parametrize(
    ("line", "word", "mode", "note"),
    [
        ("scene", "scene", "", ""),
        ("sc", "scene", "", ""),
        ("su", "success", "", ""),
        ("f no g", "failure", "no grasp", ""),
        ("failure poor", "failure", "poor grasp", ""),
        ("f pr", "failure", "protective stop", ""),
        ("v the camera was bumped", "void", "", "the camera was bumped"),
        ("u", "undo", "", ""),
        ("stop", "stop", "", ""),
    ],
)
def test_words(line: str, word: str, mode: str, note: str) -> None:
    assert understood(line, FAILURE_MODES) == (word, mode, note)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("s", "word 's' may be scene or success or stop"),
        ("f", "a failure mode is missing"),
        ("f p", "failure mode 'p' may be poor grasp or protective stop"),
        ("f dorp", "unknown failure mode 'dorp'; did you mean 'drop'?"),
        ("v", "void needs a reason"),
        ("faliure drop", "unknown word 'faliure'; did you mean 'failure'?"),
    ],
)
def test_what_is_not_understood(line: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        understood(line, FAILURE_MODES)
    assert sentence in str(caught.value)


def test_a_folder_that_is_no_study(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--operator", "ada"]) == 1
    assert "is not a study" in capsys.readouterr().err
