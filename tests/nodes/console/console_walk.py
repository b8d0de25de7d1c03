"""What a test does with the page: as an operator would, by buttons and keys, and what it then shows."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOTS = os.environ.get("CONSOLE_SHOTS")
"""Folder that gets screenshots of the walk; docs/console.md shows them."""
DESKTOP, PHONE = {"width": 1920, "height": 1080}, {"width": 390, "height": 844}
PATIENCE_S = 90.0


class Operator:
    """One page in a browser of its own profile, from a workstation or a phone."""

    Late: type[Exception]
    """What `press` raises when the button is not there any more."""

    def __init__(self, browser: Any, address: str, *, phone: bool = False, dark: bool = True) -> None:
        self.context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=2 if phone else 1,
        )
        self.page = self.context.new_page()
        self.Late = sys.modules["playwright.sync_api"].TimeoutError
        self.patient = False
        """While it waits, it puts right what a busy computer, which misses deadlines, does to the cell."""
        self.heading = ""
        """Of the trial that was judged last."""
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)

    def close(self) -> None:
        """The tab is closed; a script error in it fails the test."""
        self.context.close()
        assert not self.problems, self.problems

    def text(self, what: str) -> str:
        """What an element says."""
        return str(self.page.locator(what).text_content())

    def sees(self, what: str) -> bool:
        """Whether an element is shown."""
        return bool(self.page.locator(what).is_visible())

    def can(self, what: str) -> bool:
        """Whether a button is there to be pressed."""
        return self.sees(what) and bool(self.page.locator(what).is_enabled())

    def press(self, what: str) -> None:
        """A button."""
        self.page.locator(what).click(timeout=5_000)

    def until(self, condition: Callable[[], bool], otherwise: str, timeout_s: float = PATIENCE_S) -> float:
        """Seconds that it took; fails with what the page shows."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                raise AssertionError(
                    f"{otherwise} within {timeout_s:g} s; the page says:\n{self.page.inner_text('body')}"
                )
            if self.patient:
                self.put_right()
            self.page.wait_for_timeout(50)
        return time.monotonic() - began

    def live(self, timeout_s: float = PATIENCE_S) -> float:
        """Connected, with a fresh picture."""
        return self.until(
            lambda: self.page.get_attribute(".frame", "data-live") == "yes" and self.text("#age").startswith("●"),
            "no live picture",
            timeout_s,
        )

    def take(self, name: str) -> None:
        """Control."""
        self.page.fill("#name", name)
        self.press("#take")
        self.until(lambda: self.sees("#give"), "control is not given")

    def put_right(self) -> None:
        """Re-arm, or make ready, where the arm is held or had to be stopped; go on with a study that gave up."""
        ready, study = self.page.locator("#arm-actions button").first, self.page.locator("#studies button").first
        held = self.text("#headline") in ("HELD", "STANDING")
        gave_up = study.is_visible()
        for wanted, button in ((held, ready), (gave_up, study)):
            if wanted and button.is_visible() and button.is_enabled(timeout=1_000):
                with contextlib.suppress(self.Late):
                    button.click(timeout=1_000)
                self.page.wait_for_timeout(500)

    def shot(self, name: str) -> None:
        """A screenshot, where they are wanted."""
        if SHOTS:
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(SHOTS) / f"console-{name}.jpg", type="jpeg", quality=85)


def go_on(operator: Operator) -> None:
    """→ as often as something is asked, until an attempt is being recorded."""
    keep = "#keys [data-key=keep]"

    def recording() -> bool:
        if not operator.sees("#rec") and operator.can(keep):
            operator.page.keyboard.press("ArrowRight")
            operator.page.wait_for_timeout(300)
        return operator.sees("#rec")

    operator.until(recording, "nothing is recorded")


def attempt(operator: Operator, key: str, decision: str, *, lasting_s: float) -> str:
    """Record one and end it with a key; its id, once the page says what was decided."""
    before = operator.text("#last .id") if operator.sees("#last .id") else ""
    go_on(operator)
    operator.page.wait_for_timeout(1000 * lasting_s)
    operator.page.keyboard.press(key)
    operator.until(lambda: operator.sees("#last .id") and operator.text("#last .id") != before, "no verdict")
    operator.until(lambda: operator.text("#last .decision") == decision, f"it is not {decision}")
    return operator.text("#last .id")


def wait_for_port(port: int) -> None:
    """Until somebody listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.1)
