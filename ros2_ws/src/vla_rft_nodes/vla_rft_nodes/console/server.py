"""The server behind the page: its files, one WebSocket for state and words, one for pictures. It decides who may what.

Both sockets begin with the page's own words: {"token": ..., "page": ...}; a page from elsewhere without the right token
is closed with 4401, one that somebody else's site opened with 4403.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from vla_rft_core.errors import VlaRftError
from vla_rft_nodes.console.access import Peer, Token, refusal
from vla_rft_nodes.console.desk import Desk, Speaker
from vla_rft_nodes.console.lease import LeaseError, OperatorLease
from vla_rft_nodes.console.pictures import CAMERA, GHOST, Pictures
from vla_rft_nodes.console.snapshot import Snapshot, to_json

STATIC = Path(__file__).parent / "static"
STATE_S = 0.2
"""A page hears something at least so often; it takes a second of silence for a lost connection [s]."""
SOONEST_S = 0.04
HELLO_S = 5.0
WRONG_TOKEN_S = 0.5
UNDERWAY = 2
"""Pictures that a viewer may have been sent and not yet acknowledged."""
NO_TOKEN, FOREIGN = 4401, 4403
POLICY = "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"


class Bell:
    """Wakes coroutines from other threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()

    def bind(self) -> None:
        """To the running event loop."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        """From any thread; before and after the loop's life it does nothing."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    async def wait(self, longest_s: float) -> None:
        """Until it rings, or so long."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), longest_s)
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()


class Console:
    """One server. `snapshot` is called from the event loop and must not block."""

    def __init__(
        self,
        desk: Desk,
        pictures: Pictures,
        lease: OperatorLease,
        *,
        snapshot: Callable[[], Snapshot],
        token: Token | None,
        changed: Bell,
        pictured: Bell,
    ) -> None:
        """`token` is None where only the workstation itself can connect."""
        self._desk, self._pictures, self._lease, self._token = desk, pictures, lease, token
        self._snapshot, self._changed, self._pictured = snapshot, changed, pictured
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._bind)
        self.app.get("/")(self._index)
        self.app.websocket("/ws/state")(self._state)
        self.app.websocket("/ws/video")(self._video)
        self.app.mount("/static", _Files(directory=STATIC))

    @asynccontextmanager
    async def _bind(self, app: FastAPI) -> AsyncIterator[None]:
        self._changed.bind()
        self._pictured.bind()
        yield

    async def _index(self) -> Response:
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return FileResponse(STATIC / "index.html", headers=headers)

    # --- who it is ----------------------------------------------------------------------------------------------

    async def _admit(self, socket: WebSocket) -> tuple[Peer, dict[str, Any]] | None:
        """The other end, and what it said first; None when it was turned away."""
        headers = {name.lower(): value for name, value in socket.headers.items()}
        peer = Peer.of(socket.client.host if socket.client else "", headers)
        await socket.accept()
        if not peer.origin_is_ours:
            await socket.close(FOREIGN, "opened by another site's page")
            return None
        try:
            hello = json.loads(await asyncio.wait_for(socket.receive_text(), HELLO_S))
        except (TimeoutError, ValueError):
            hello = None
        fits = peer.loopback or (
            self._token is not None and isinstance(hello, dict) and self._token.fits(hello.get("token"))
        )
        if not isinstance(hello, dict) or not fits:
            await asyncio.sleep(WRONG_TOKEN_S)
            await socket.close(NO_TOKEN, "the token is missing or wrong")
            return None
        return peer, hello

    # --- state and words ----------------------------------------------------------------------------------------

    async def _state(self, socket: WebSocket) -> None:
        try:
            admitted = await self._admit(socket)
            if admitted is None:
                return
            peer, hello = admitted
            page = self._lease.admit(str(hello.get("page", "")))
            try:
                await self._serve_state(socket, peer, page)
            finally:
                self._lease.leave(page)
                self._changed.ring()
        except WebSocketDisconnect:
            return

    async def _serve_state(self, socket: WebSocket, peer: Peer, page: str) -> None:
        await socket.send_text(json.dumps({"type": "welcome", "page": page, "loopback": peer.loopback}))
        speaking: set[asyncio.Task[None]] = set()
        telling = asyncio.create_task(self._tell(socket, peer, page))
        try:
            while True:
                message = json.loads(await socket.receive_text())
                if isinstance(message, dict):
                    task = asyncio.create_task(self._hear(socket, peer, page, message))
                    speaking.add(task)
                    task.add_done_callback(speaking.discard)
        except ValueError:
            await socket.close(1003, "not JSON")
        finally:
            telling.cancel()
            for task in speaking:  # what was begun goes on in its thread; only the answer is not wanted any more
                task.cancel()

    async def _tell(self, socket: WebSocket, peer: Peer, page: str) -> None:
        while True:
            own = {"has_lease": self._lease.held_by(page), "loopback": peer.loopback}
            await socket.send_text(to_json(self._snapshot(), **own))
            await asyncio.sleep(SOONEST_S)
            await self._changed.wait(STATE_S - SOONEST_S)

    async def _hear(self, socket: WebSocket, peer: Peer, page: str, message: dict[str, Any]) -> None:
        """One word, and its answer with the same id."""
        word = str(message.get("do", ""))
        answer: dict[str, Any] = {"type": "answer", "id": message.get("id"), "do": word, "ok": True}
        try:
            answer["words"] = await self._do(word, peer, page, message)
        except (ValueError, VlaRftError, LeaseError) as error:
            answer |= {"ok": False, "words": str(error)}
        self._changed.ring()
        await socket.send_text(json.dumps(answer))

    async def _do(self, word: str, peer: Peer, page: str, message: dict[str, Any]) -> str:
        if word == "ping":
            return ""
        has_lease, holder = self._lease.held_by(page), self._lease.holder
        refused = refusal(word, loopback=peer.loopback, has_lease=has_lease, holder=holder)
        if refused:
            raise LeaseError(refused)
        if word in ("take", "take over", "give"):
            return self._hand(word, peer, page, str(message.get("name", "")))
        speaker = Speaker(name=holder if has_lease else "a viewer", loopback=peer.loopback)
        return await asyncio.to_thread(self._desk.say, word, speaker, message)

    def _hand(self, word: str, peer: Peer, page: str, name: str) -> str:
        if word == "give":
            self._lease.give(page)
            return "you look on now"
        if word == "take over":
            self._lease.take_over(page, name)
        else:
            self._lease.take(page, name, at_cell=peer.loopback)
        self._desk.operator_changed(self._lease.holder)
        return f"{self._lease.holder} has control"

    # --- pictures -----------------------------------------------------------------------------------------------

    async def _video(self, socket: WebSocket) -> None:
        try:
            if await self._admit(socket) is not None:
                await self._serve_video(socket)
        except (WebSocketDisconnect, RuntimeError):  # closed while a picture was on its way
            return

    async def _serve_video(self, socket: WebSocket) -> None:
        """Until the viewer is gone, whatever is being waited for then."""
        free = asyncio.Semaphore(UNDERWAY)

        async def listen() -> None:
            while True:
                await socket.receive_text()
                free.release()

        tasks = [asyncio.create_task(listen()), asyncio.create_task(self._send_pictures(socket, free))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _send_pictures(self, socket: WebSocket, free: asyncio.Semaphore) -> None:
        """The newest picture of each view that is new, as fast as the viewer acknowledges."""
        shown = {CAMERA: -1, GHOST: -1}
        while True:
            new = [view for view, number in shown.items() if self._is_new(view, number)]
            for view in new:
                await free.acquire()
                packet = await asyncio.to_thread(self._pictures.packet, view)
                if packet is not None:
                    shown[view], data = packet
                    await socket.send_bytes(data)
            if not new:
                await self._pictured.wait(1.0)

    def _is_new(self, view: int, number: int) -> bool:
        newest = self._pictures.newest(view)
        return newest is not None and newest.number != number


class _Files(StaticFiles):
    """Asked for anew each time: a page of yesterday must not talk to the server of today."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
