"""The server over real sockets, with a desk that only remembers: who is turned away, who is heard, what arrives."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.client import connect

from vla_rft_nodes.console.access import Token
from vla_rft_nodes.console.lease import OperatorLease
from vla_rft_nodes.console.pictures import HEADER
from vla_rft_nodes.console.server import FOREIGN, NO_TOKEN, STATIC, Bell, Console
from vla_rft_nodes.console.snapshot import Snapshot

SECRET = "a token that is long enough"
ELSEWHERE = {"X-Forwarded-For": "10.0.0.9"}
"""What makes a connection from this computer count as one from another."""


class Desk:
    """Remembers words; refuses "home"."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, bool]] = []
        self.operators: list[str] = []

    def say(self, word: str, speaker: Any, more: Any) -> str:
        if word == "home":
            raise ValueError("the arm is being moved already")
        self.said.append((word, speaker.name, speaker.loopback))
        return f"{word} done"

    def operator_changed(self, name: str) -> None:
        self.operators.append(name)


class Camera:
    """A new picture of four bytes whenever `number` is raised; the ghost has none."""

    number = 0

    def newest(self, view: int) -> Any:
        return self if view == 0 else None

    def packet(self, view: int) -> tuple[int, bytes]:
        return self.number, HEADER.pack(view, self.number, 0.25) + b"jpeg"


class Served:
    """The running server."""

    def __init__(self, snapshot: Snapshot, port: int) -> None:
        self.desk, self.camera, self.lease = Desk(), Camera(), OperatorLease(time.monotonic)
        self.port, self.pictured, self._snapshot = port, Bell(), snapshot
        console = Console(
            self.desk,  # type: ignore[arg-type]
            self.camera,  # type: ignore[arg-type]
            self.lease,
            snapshot=lambda: replace(self._snapshot, holder=self.lease.holder, viewers=self.lease.viewers),
            token=Token(SECRET),
            changed=Bell(),
            pictured=self.pictured,
        )
        self.server = uvicorn.Server(
            uvicorn.Config(console.app, port=port, log_level="warning", proxy_headers=False, ws="websockets-sansio")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    @contextmanager
    def page(self, path: str = "/ws/state", headers: dict[str, str] | None = None, **hello: str) -> Iterator[Any]:
        """A connection that has said hello."""
        with connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=headers) as socket:
            with suppress(ConnectionClosed):  # turned away before it has said anything
                socket.send(json.dumps(hello))
            yield socket


@pytest.fixture
def served(snapshot: Snapshot, port: int) -> Iterator[Served]:
    running = Served(snapshot, port)
    running.thread.start()
    deadline = time.monotonic() + 10.0
    while not running.server.started:
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    yield running
    running.server.should_exit = True
    running.thread.join(5.0)


def state_of(page: Any) -> dict[str, Any]:
    """The next snapshot."""
    while (message := json.loads(page.recv(2.0)))["type"] != "state":
        pass
    return dict(message)


def ask(page: Any, word: str, **more: Any) -> tuple[bool, str]:
    """(heard, what was said)."""
    page.send(json.dumps({"do": word, "id": 7, **more}))
    while (message := json.loads(page.recv(2.0)))["type"] != "answer":
        pass
    assert message["id"] == 7
    return message["ok"], message["words"]


def closed_with(page: Any) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        page.recv(3.0)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize("path", ["/ws/state", "/ws/video"])
def test_from_elsewhere_the_token_is_asked_for(served: Served, path: str) -> None:
    for hello in ({}, {"token": ""}, {"token": SECRET + "x"}, {"token": SECRET[:-1]}):
        with served.page(path, ELSEWHERE, **hello) as page:
            assert closed_with(page) == NO_TOKEN
    with served.page(headers=ELSEWHERE, token=SECRET) as page:
        assert state_of(page)["you"] == {"has_lease": False, "loopback": False}
    assert served.desk.said == []


def test_another_sites_page_is_turned_away_on_the_workstation_itself(served: Served) -> None:
    with served.page(headers={"Origin": "http://evil.example"}) as page:
        assert closed_with(page) == FOREIGN


def test_one_operator_and_viewers(served: Served) -> None:
    with served.page() as ada, served.page(headers=ELSEWHERE, token=SECRET) as bob:
        assert ask(ada, "ready") == (False, "nobody has control yet; take control first")
        assert ask(ada, "take", name="ada") == (True, "ada has control")
        assert ask(bob, "take", name="bob") == (False, "ada has control; ask for it to be handed over")
        assert ask(bob, "take over", name="bob")[0] is False
        assert ask(bob, "key", key="keep") == (False, "ada has control; take control first")
        assert ask(ada, "key", key="keep") == (True, "key done")
        assert ask(ada, "home") == (False, "the arm is being moved already")
        assert ask(bob, "hold") == (True, "hold done")  # whoever looks may stop the arm
        assert ask(bob, "rearm")[0] is False and ask(ada, "rearm")[0] is True
        assert ask(ada, "format disk") == (False, "there is no 'format disk' here")
        seen = state_of(bob)
        assert (seen["holder"], seen["viewers"], seen["you"]["has_lease"]) == ("ada", 2, False)
        assert seen["trials"]["limit_s"] is None  # NaN is not JSON
    assert served.desk.said == [("key", "ada", True), ("hold", "a viewer", False), ("rearm", "ada", True)]
    assert served.desk.operators == ["ada"]


def test_a_reloaded_page_is_still_the_operators(served: Served) -> None:
    with served.page() as page:
        secret = json.loads(page.recv(2.0))["page"]
        ask(page, "take", name="ada")
    with served.page() as stranger:
        assert ask(stranger, "ready")[0] is False
    with served.page(page=secret) as page:
        assert state_of(page)["you"]["has_lease"] is True and ask(page, "ready")[0] is True
    with served.page() as stranger:
        assert secret not in json.dumps(state_of(stranger))


def test_a_page_hears_something_five_times_a_second(served: Served) -> None:
    with served.page() as page:
        state_of(page)
        began = time.monotonic()
        for _ in range(10):
            state_of(page)
        assert time.monotonic() - began < 10 * 0.45, "a page would take the connection for lost"


def test_nonsense_ends_one_page_only(served: Served) -> None:
    with served.page() as good, served.page() as bad:
        bad.send("not json")
        with pytest.raises(ConnectionClosedError):
            while True:
                bad.recv(2.0)
        good.send(json.dumps(["a list"]))
        good.send(json.dumps({"do": None, "id": None}))
        assert state_of(good)["viewers"] >= 1


def test_pictures_come_as_they_are_acknowledged(served: Served) -> None:
    with served.page(path="/ws/video") as page:
        numbers = []
        for _ in range(2):  # two may be underway
            numbers.append(HEADER.unpack(page.recv(2.0)[: HEADER.size])[1])
            served.camera.number += 1
            served.pictured.ring()
        served.camera.number += 5
        served.pictured.ring()
        with pytest.raises(TimeoutError):
            page.recv(0.3)
        page.send("1")
        view, number, age_s = HEADER.unpack(page.recv(2.0)[: HEADER.size])
        assert numbers == [0, 1] and (view, number, age_s) == (0, served.camera.number, 0.25)


def test_a_viewer_who_leaves_without_a_word_is_not_waited_for(served: Served) -> None:
    with served.page("/ws/video") as page:
        for _ in range(2):
            page.recv(2.0)
            served.camera.number += 1
            served.pictured.ring()
    served.server.should_exit = True
    served.thread.join(3.0)
    assert not served.thread.is_alive()


def test_the_page_is_small_and_asks_nobody_else(served: Served) -> None:
    files = sorted(path for path in STATIC.iterdir())
    total = 0
    for path in files:
        address = f"http://127.0.0.1:{served.port}/" + ("" if path.name == "index.html" else f"static/{path.name}")
        with urllib.request.urlopen(address, timeout=5.0) as answer:
            body = answer.read()
            assert answer.headers["Cache-Control"] == "no-cache"
        assert body == path.read_bytes()
        total += len(body)
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "@import" not in text, path.name
    assert total <= 200_000
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/static/../server.py", timeout=5.0)
    assert {Path(path).suffix for path in files} == {".css", ".html", ".js", ".svg"}
