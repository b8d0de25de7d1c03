"""What is said of the arm, and what JSON may carry."""

from __future__ import annotations

import json
import math

import pytest

from vla_rft_nodes.console.snapshot import Vital, _finite
from vla_rft_nodes.console.words import Tone, arm_words, disk_words, doctor_words


@pytest.mark.parametrize(
    ("mode", "source", "reason", "headline", "tone", "said"),
    [
        ("MAINTENANCE", "", "", "STANDING", Tone.CALM, "nothing can move"),
        ("READY", "", "", "READY", Tone.GOOD, "nobody moves"),
        ("ACTIVE", "policy", "", "MOVING", Tone.MOVING, "the policy moves"),
        ("ACTIVE", "crane", "", "MOVING", Tone.MOVING, "crane moves"),
        ("HOLD_LATCHED", "", "camera: 'front' silent", "HELD", Tone.HELD, "camera: 'front' silent"),
        ("SOMETHING", "", "", "ARM UNKNOWN", Tone.LOST, "SOMETHING"),
    ],
)
def test_every_mode_has_words(mode: str, source: str, reason: str, headline: str, tone: Tone, said: str) -> None:
    words = arm_words(mode=mode, source=source, reason=reason, age_s=0.1)
    assert (words.headline, words.tone) == (headline, tone) and said in words.detail


def test_a_mover_that_is_known_by_name() -> None:
    words = arm_words(mode="ACTIVE", source="teleop", reason="", age_s=0.1, mover="policy B")
    assert words.detail == "policy B moves the arm"


@pytest.mark.parametrize("age_s", [1.01, 30.0, math.inf, math.nan])
def test_an_old_status_says_nothing_about_now(age_s: float) -> None:
    words = arm_words(mode="READY", source="", reason="", age_s=age_s)
    assert words.tone is Tone.LOST and words.headline == "ARM UNKNOWN" and "robot_node is silent" in words.detail


def test_disk_and_doctor() -> None:
    assert [disk_words(m) for m in (None, math.nan, -1.0, 386.2, 900.0)] == ["", "", "", "386 min", "15 h"]
    assert doctor_words(1, 2, 10) == "1 wrong · 2 worth knowing · 10 fine"
    assert doctor_words(0, 0, 13) == "13 fine"


def test_json_has_no_nan() -> None:
    clean = _finite({"a": math.nan, "b": [1.23456789, math.inf], "c": (Vital.__name__, 3)})
    assert json.loads(json.dumps(clean, allow_nan=False)) == {"a": None, "b": [1.2346, None], "c": ["Vital", 3]}
