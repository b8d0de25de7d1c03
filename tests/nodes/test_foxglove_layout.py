"""The Foxglove layout in docs/: every panel is shown once, and every topic and field in it is one of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vla_rft_interfaces.msg import ChunkVerdict, RobotState, SafetyStatus, ServoReport
from vla_rft_nodes import topics
from vla_rft_nodes.transforms import ROBOT_DESCRIPTION

LAYOUT = json.loads((Path(__file__).parents[2] / "docs" / "foxglove_layout.json").read_text())
FIELDS = {
    topics.ROBOT_STATE: RobotState,
    topics.SAFETY_STATUS: SafetyStatus,
    topics.SERVO_REPORT: ServoReport,
    topics.CHUNK_VERDICT: ChunkVerdict,
}
OTHERS = {
    topics.color_image("front"),
    topics.color_info("front"),
    topics.aligned_depth("front"),
    topics.DIAGNOSTICS.lstrip("/"),
    ROBOT_DESCRIPTION,
}


def strings(value):
    """Yield every string in the layout, keys included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def leaves(node):
    return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])


def test_every_panel_is_shown_once():
    assert sorted(leaves(LAYOUT["layout"])) == sorted(LAYOUT["configById"])


def test_every_topic_is_published_and_every_field_exists():
    named = [text[1:] for text in strings(LAYOUT["configById"]) if text.startswith("/")]
    assert len(named) > 20
    for text in named:
        topic, *path = re.sub(r"\[\d+\]", "", text).split(".")
        assert topic in OTHERS or topic in FIELDS, text
        value = FIELDS[topic]() if path else None
        for field in path:
            value = getattr(value, field)


def test_it_shows_picture_state_safety_and_diagnostics():
    named = set(strings(LAYOUT["configById"]))
    for topic in (topics.color_image("front"), topics.SAFETY_STATUS, ROBOT_DESCRIPTION):
        assert f"/{topic}" in named
    assert topics.DIAGNOSTICS in named
    assert any(text.startswith(f"/{topics.ROBOT_STATE}.") for text in named)
