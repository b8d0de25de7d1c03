"""The console in the launch files: on demand, beside everything, required by nothing; and how it refuses to start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vla_rft_nodes.bringup import LaunchError, load


def console_of(name: str, arguments: dict[str, str]) -> Any:
    found = [process for process in load(name, arguments).processes if process.name == "console_node"]
    return found[0] if found else None


@pytest.mark.parametrize("name", ["teleop", "evaluate"])
def test_it_comes_when_asked_for_and_nothing_depends_on_it(name: str) -> None:
    assert console_of(name, {}) is None
    process = console_of(name, {"console": "true", "console_port": "9000", "episodes": "/data/towels"})
    words = " ".join(process.argv)
    assert not process.required
    assert "port:=9000" in words and "/data/towels" in words and "127.0.0.1" in words
    with pytest.raises(LaunchError, match="console"):
        load(name, {"console": "maybe"})


def test_an_attempt_hands_the_arm_over_to_the_expert_alone() -> None:
    assert "hand_over:=true" in " ".join(console_of("teleop", {"console": "true", "device": "expert"}).argv)
    assert "hand_over:=false" in " ".join(console_of("teleop", {"console": "true", "device": "spacemouse"}).argv)


def started(**parameters: object) -> subprocess.CompletedProcess[str]:
    """console_node with these parameters, which are to end it."""
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "vla_rft_nodes.console_node", "--ros-args", "-p", "cell:=vla_rft_sim:towel_cell"]
    return subprocess.run(
        [*command, "-p", "camera:=front", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.ros
def test_a_port_that_is_taken_and_a_token_that_others_may_read(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(port=port)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    token = tmp_path / "token"
    token.write_text("readable by everybody\n")
    token.chmod(0o644)
    ended = started(port=port, host="0.0.0.0", token_file=token)
    assert ended.returncode == 1 and "others may read this token (mode 644); chmod 600 it" in ended.stderr
