"""Every field of every message says what it is; everything that can fail says how it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "ros2_ws" / "src"
DEFINITIONS = sorted(p for ext in ("msg", "srv", "action") for p in SRC.glob(f"*/{ext}/*.{ext}"))
ANSWERS = [p for p in DEFINITIONS if p.suffix in (".srv", ".action")]


def fields(text: str) -> list[tuple[str, str]]:
    """Return (declaration, comment) for every field and constant of a definition or of one part of it."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "---"))]
    return [(declaration.strip(), comment.strip()) for declaration, _, comment in (li.partition("#") for li in lines)]


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def test_there_are_definitions_to_look_at() -> None:
    assert {"ActionChunk.msg", "RobotState.msg", "SetMode.srv"} <= {p.name for p in DEFINITIONS}


@pytest.mark.parametrize("path", DEFINITIONS, ids=name_of)
def test_every_field_carries_a_comment_and_the_file_says_who_publishes_it(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert [declaration for declaration, comment in fields(text) if not comment] == []


@pytest.mark.parametrize("path", DEFINITIONS, ids=name_of)
def test_every_number_states_its_unit(path: Path) -> None:
    numbers = [
        (declaration, comment)
        for declaration, comment in fields(path.read_text())
        if declaration.startswith(("float", "int", "uint")) and "=" not in declaration
    ]
    bare = [d for d, comment in numbers if "[" not in comment and not d.endswith(" error_code")]
    assert bare == [], "give the unit in brackets, [1] for a count"


@pytest.mark.parametrize("path", ANSWERS, ids=name_of)
def test_answers_end_with_an_error_code_and_message(path: Path) -> None:
    answer = path.read_text().split("\n---\n")[1]
    declarations = [declaration for declaration, _ in fields(answer)]
    assert declarations[-2:] == ["uint16 error_code", "string error_msg"]
    assert any(d.startswith("uint16 ") and d.endswith("=0") for d in declarations), "code 0 has a name"


def test_a_trial_result_ends_with_an_error_code_and_message() -> None:
    declarations = [d for d, _ in fields((SRC / "vla_rft_interfaces/msg/TrialResult.msg").read_text())]
    assert declarations[-2:] == ["uint16 error_code", "string error_msg"]
