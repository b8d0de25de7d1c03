"""DoctorCard: the doctor, asked beside the running cell in a process of its own, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vla_rft_nodes.console.snapshot import CheckView, DoctorView
from vla_rft_nodes.console.words import doctor_words

LONGEST_S = 60.0
NICENESS = 10


def command(*, backend: str, cell: str, disk: Path) -> list[str]:
    """The doctor's command line: devices are left to the nodes that hold them."""
    words = ["--running", "--json", "--backend", backend, "--cell", cell, "--disk", str(disk)]
    return [sys.executable, "-m", "vla_rft_nodes.doctor", *words]


class DoctorCard:
    """Ask with `ask`; it returns at once."""

    def __init__(self, words: Sequence[str], *, on_change: Callable[[], None]) -> None:
        """`words`: the command line of a doctor that prints JSON."""
        self._command, self._on_change = list(words), on_change
        self._thread: threading.Thread | None = None
        self._words, self._checks, self._at = "not asked yet", (), -1.0

    def ask(self) -> None:
        """Look again; ValueError while it looks."""
        if self._running:
            raise ValueError("the doctor is looking already")
        self._thread = threading.Thread(target=self._look, name="doctor", daemon=True)
        self._thread.start()

    def view(self) -> DoctorView:
        """For the page."""
        age_s = time.monotonic() - self._at if self._at >= 0.0 else None
        return DoctorView(running=self._running, words=self._words, age_s=age_s, checks=self._checks)

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _look(self) -> None:
        try:
            done = subprocess.run(
                self._command, capture_output=True, text=True, timeout=LONGEST_S, preexec_fn=_be_nice, check=False
            )
            checks = json.loads(done.stdout)["checks"]
        except subprocess.TimeoutExpired:
            self._words, self._checks = f"the doctor gave no answer within {LONGEST_S:g} s", ()
        except (OSError, ValueError, KeyError) as error:
            said = done.stderr.strip().splitlines() if "done" in locals() else []
            self._words, self._checks = f"the doctor could not look: {said[-1] if said else error}", ()
        else:
            self._checks = tuple(
                CheckView(name=c["name"], status=c["status"], words=c["words"], remedy=c["remedy"]) for c in checks
            )
            states = [check.status for check in self._checks]
            self._words = doctor_words(states.count("red"), states.count("yellow"), states.count("green"))
        self._at = time.monotonic()
        self._on_change()


def _be_nice() -> None:
    os.nice(NICENESS)
