"""The stand-in looks like the vendor's library, and the comparison sees it when it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla_rft_sim import conformance
from vla_rft_sim.rdk_api import compare, from_dump, from_module, from_table, notation


def test_no_differences_to_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["table"] == [] and report["differences"] == 0
    assert not {"Robot", "Gripper", "Tool"} & set(report["not_implemented"])


@pytest.mark.parametrize("name", ["Robot.Stop", "Robot.SendCartesianMotionForce", "RobotInfo.DoF", "Mode.IDLE"])
@pytest.mark.parametrize("changed", [["(x: int) -> None"], 99, None])
def test_any_changed_fact_is_a_difference(name: str, changed: Any) -> None:
    table = from_table()
    facts = {key: value for key, value in table.facts.items() if key != name}
    if changed is not None:
        facts[name] = changed
    found = from_module(conformance.stand_in())
    differences = compare(replace(table, facts=facts), found, left_out=table.left_out)
    assert [difference.name for difference in differences] == [name]


def test_a_class_that_is_left_out_must_be_listed() -> None:
    table = from_table()
    differences = compare(table, from_module(conformance.stand_in()), left_out=frozenset())
    assert {difference.name for difference in differences} == table.left_out


def test_a_dump_reads_as_the_same_facts(tmp_path: Path) -> None:
    line = "Stop(self: flexivrdk._flexivrdk.Robot) -> None"
    getter = '(self: flexivrdk._flexivrdk.X) -> typing.Annotated[list[float], "FixedSize(3)"]'
    dump = {
        "classes": {"Robot": {"methods": {"Stop": {"signatures": [line]}, "__repr__": {}}, "fields": {}}},
        "structs": {"X": {"methods": {}, "fields": {"v": {"getter": getter, "default": "[0.0, 0.0, 0.0]"}}}},
        "enums": {"Mode": {"members": {"IDLE": 1}}},
    }
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(dump))
    assert from_dump(path).facts == {
        "Robot.Stop": ["() -> None"],
        "X.v": ("float[3]", "[0.0, 0.0, 0.0]"),
        "Mode.IDLE": 1,
    }


def test_notation() -> None:
    real = "typing.SupportsFloat | typing.SupportsIndex"
    assert notation(f"collections.abc.Sequence[collections.abc.Sequence[{real}]]") == "float[][]"
    assert notation(f'typing.Annotated[collections.abc.Sequence[{real}], "FixedSize(7)"]') == "float[7]"


def test_a_different_answer_is_a_difference() -> None:
    ours, other = conformance.stand_in(), conformance.stand_in()
    assert conformance.compare_behaviour(ours, ours) == []
    other.__version__ = "2.0"
    assert [difference.name for difference in conformance.compare_behaviour(other, ours)] == ["__version__"]
