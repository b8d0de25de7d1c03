"""The socket side of `sim_world`: one thread per client, which can do nothing to the world but ask.

A client may vanish or send garbage at any byte: its own connection ends, nothing else does. Knows nothing of worlds;
requests are answered by the function it is given.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_sim.protocol import ROLES, VERSION, MessageStream, ProtocolError

Answer = Callable[[str, dict[str, Any]], Any]
"""(operation, its fields) -> what goes into the reply; VlaRftError and ValueError become the reply's error."""

REST_TIMEOUT_S = 1.0
"""For the rest of a message whose first byte came, and for a client to take its reply."""
_MAX_PATH = 100


class WorldServer:
    """Listens on a Unix socket and passes permitted requests to `answer`, each in its client's own thread."""

    def __init__(self, address: str, answer: Answer, *, max_clients: int = 16) -> None:
        self._path = Path(address)
        self._answer = answer
        self._max_clients = max_clients
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener = _listen(self._path, backlog=max_clients)
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Accept clients from now on."""
        self._acceptor.start()

    @property
    def clients(self) -> int:
        """Connections now open."""
        return len(self._connections)

    def close(self) -> None:
        """Drop all clients and remove the socket."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor.ident is not None:
            self._acceptor.join()
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                full = len(self._connections) >= self._max_clients
                if not full:
                    thread = threading.Thread(target=self._serve, args=(connection,), name="client", daemon=True)
                    self._connections[connection] = thread
                    thread.start()
            if full:
                with connection, contextlib.suppress(OSError):
                    stream = MessageStream(connection, wait_s=REST_TIMEOUT_S)
                    stream.send({"error": f"the world already has {self._max_clients} clients"})

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self._converse(MessageStream(connection, wait_s=REST_TIMEOUT_S))
        finally:
            with self._lock:
                del self._connections[connection]

    def _converse(self, stream: MessageStream) -> None:
        """Answer requests until the client closes or breaks the protocol."""
        role = ""
        while True:
            try:
                request = stream.receive()
                if request is None:
                    return
                role, reply = self._reply(role, request)
            except ProtocolError as error:
                stream.send({"error": str(error)})
                return
            stream.send(reply)

    def _reply(self, role: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The connection's role from now on, and the reply."""
        operation = request.pop("op", None)
        if not role:
            return _greet(operation, request)
        if not isinstance(operation, str) or operation not in ROLES[role]:
            permitted = ", ".join(sorted(ROLES[role]))
            return role, {"error": f"a {role} connection may ask for {permitted}; got {operation!r}"}
        try:
            return role, {"ok": self._answer(operation, request)}
        except (VlaRftError, ValueError) as error:
            return role, {"error": str(error)}


def _greet(operation: Any, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    role, version = request.get("role"), request.get("version")
    if operation != "hello" or not isinstance(role, str) or role not in ROLES:
        raise ProtocolError(f"a connection starts with hello and a role of {', '.join(ROLES)}")
    if version != VERSION:
        raise ProtocolError(f"this world speaks version {VERSION} of its protocol, the client {version!r}")
    return role, {"ok": None}


def _listen(path: Path, *, backlog: int) -> socket.socket:
    """A listening socket at `path`; a dead process's left-over is replaced, a living one's refused."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise DeviceError(f"the socket path {path} is longer than {_MAX_PATH} bytes")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked_directory(path.parent):
            _clear(path)
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise DeviceError(f"cannot listen at {path}: {error.strerror}") from None
    except DeviceError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _locked_directory(directory: Path) -> Iterator[None]:
    """Two worlds that start at once look at the same left-over one after the other."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _clear(path: Path) -> None:
    """Remove the socket of a dead process; DeviceError when it is alive or no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise DeviceError(f"{path} exists and is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # alive, with clients waiting
            pass
    raise DeviceError(f"a sim_world already serves {path}; stop it or choose another --socket")
