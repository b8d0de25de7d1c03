"""Nothing but the servo loop sends targets to an arm: the source is searched for calls of `send` on one."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRIVING = ("vla_rft_hardware", "vla_rft_nodes", "vla_rft_trials", "vla_rft_episodes")
"""Rooms that drive an arm or could; the simulator is the arm's other side."""


def senders() -> set[str]:
    """Files in which something called `…arm.send(…)` stands."""
    found = set()
    for path in (path for room in DRIVING for path in (ROOT / "ros2_ws" / "src" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "send"
                and ast.unparse(node.func.value).endswith("arm")
            ):
                found.add(path.name)
    return found


def test_only_the_servo_loop_sends():
    assert senders() == {"servo_loop.py"}
