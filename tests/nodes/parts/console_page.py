"""A page of the console as a program: its connection, what it was told last, and since when it hears nothing."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SILENCE_S = 0.75
"""After so long without a word the page says that its connection is lost (static/link.js)."""
LOST_WORDS = "HOLD cannot be sent: use the e-stop."
"""What it says then (static/banner.js)."""
CONNECT_S = 30.0


class Page:
    """Open once made."""

    def __init__(self, port: int) -> None:
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(_connection(f"ws://127.0.0.1:{port}/ws/state"))
        self._socket.send(json.dumps({"page": ""}))
        self.state: dict[str, Any] = {}
        self.closed = False
        self._heard = time.monotonic()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    @property
    def lost(self) -> bool:
        """What a person would be told: no connection."""
        return self.closed or time.monotonic() - self._heard > SILENCE_S

    def say(self, word: str, **more: str) -> None:
        """One word to the desk; its answer is not waited for."""
        self._socket.send(json.dumps({"id": 1, "do": word, **more}))

    def close(self) -> None:
        """As a browser's tab is closed."""
        self._open.close()
        self._listening.join(5.0)

    def _listen(self) -> None:
        try:
            for text in self._socket:
                self._heard, heard = time.monotonic(), json.loads(text)
                if heard.get("type") == "state":
                    self.state = heard
        except ConnectionClosed:
            pass
        self.closed = True


def _connection(address: str) -> Any:
    """The console takes some seconds to start."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return connect(address, max_size=None, proxy=None)
        except OSError:
            assert time.monotonic() < deadline, f"nobody answers at {address}"
            time.sleep(0.2)
