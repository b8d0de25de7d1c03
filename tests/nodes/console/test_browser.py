"""The console in a browser, in the simulated cell: a recording, a lost connection, a killed console. The short form.

`test_walk.py` is the long one. The arm is not driven here: an attempt is what the camera sees of a standing arm.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import console_walk as walk
import pytest

from vla_rft_episodes.collection import Collection
from vla_rft_episodes.labels import Label
from vla_rft_nodes.bringup import Supervisor, load

pytestmark = [pytest.mark.ros, pytest.mark.realtime]


@pytest.fixture
def cell(tmp_path: Path, port: int, browser: Any) -> Iterator[Supervisor]:
    """Cell, recorder and console of the launch file; nobody drives."""
    arguments = {"device": "none", "episodes": str(tmp_path / "episodes"), "console": "true"}
    with Supervisor(load("teleop", arguments | {"console_port": str(port)}), log_dir=tmp_path / "log") as running:
        running.start(*(process.name for process in running.plan.processes))
        yield running


def test_a_recording_and_a_killed_console(cell: Supervisor, browser: Any, tmp_path: Path, port: int) -> None:
    walk.wait_for_port(port)
    ada = walk.Operator(browser, f"http://localhost:{port}/")
    ada.live()
    assert ada.page.evaluate("performance.getEntriesByName('first-contentful-paint').length") == 1
    assert not ada.can("#arm-actions [data-word=ready]"), "the arm can be asked for without control"
    ada.take("ada")
    ada.until(lambda: ada.can("#session-form button"), "no session can be started")
    ada.press("#session-form button")
    kept = walk.attempt(ada, "ArrowRight", "kept", lasting_s=1.0)
    discarded = walk.attempt(ada, "ArrowLeft", "discarded", lasting_s=0.5)
    ada.until(lambda: ada.can("#keys [data-key=undo]"), "nothing can be undone")
    ada.page.keyboard.press("u")
    ada.until(lambda: "nothing decided" in ada.text("#last .decision"), "it was not undone")

    cell.send_signal("console_node", signal.SIGKILL)
    began = time.monotonic()
    ada.until(lambda: ada.text("#headline") == "NO CONNECTION", "a lost connection is not said", 5.0)
    noticed_s = time.monotonic() - began
    ada.until(lambda: ada.page.get_attribute(".frame", "data-live") == "no", "an old picture looks live", 1.0)
    assert noticed_s < 2.0 and not ada.can("#hold") and "e-stop" in ada.text("#todo")  # 1 s, on a computer with time
    cell.start("console_node")
    ada.live()
    ada.until(lambda: ada.text("#headline") in ("READY", "HELD"), "the arm's state is not known again")
    ada.close()

    states = {ref.id: ref.label for ref in Collection(tmp_path / "episodes").episodes()}
    assert states[kept] is not None and (states[kept].label, states[kept].by) == (Label.KEEP, "ada")
    assert states[discarded] is None, "its label was taken back"
