"""What processes print: to their log files, and to the terminal in the way each asked for. Starts and stops nothing."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

TAIL_LINES = 20
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)


class Terminal:
    """Shares one terminal between raw output, such as a progress bar being redrawn, and whole lines from others.

    Raw output keeps its stream; lines go to standard error, so that standard output holds only what was meant for it.
    On a terminal a line steps in front of an unfinished raw line, which is drawn again below it.
    """

    def __init__(self, *, stdout: int = 1, stderr: int = 2) -> None:
        self.stdout, self.stderr = stdout, stderr
        self.is_terminal = os.isatty(stdout) and os.isatty(stderr)
        self._coloured = os.isatty(stderr) and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}
        self._unfinished = b""
        self._lock = threading.Lock()

    def raw(self, data: bytes, *, fd: int) -> None:
        """Bytes as they are."""
        with self._lock:
            _write(fd, data)
            last = (self._unfinished + data).rpartition(b"\n")[2]
            body, _, rest = last.rpartition(b"\r")
            self._unfinished = rest or (body.rpartition(b"\r")[2] + b"\r" if body else b"")

    def line(self, text: str, *, name: str = "bringup") -> None:
        """One line with its author in front."""
        prefix = f"[{name}]"
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        with self._lock:
            before = (b"\r\x1b[K" if self.is_terminal else b"\n") if self._unfinished else b""
            _write(self.stderr, before + f"{prefix} {text}\n".encode(errors="replace"))
            if self.is_terminal:
                _write(self.stdout, self._unfinished)
            else:
                self._unfinished = b""


def _write(fd: int, data: bytes) -> None:
    """All of it; a reader that went away (`| head`, a closed terminal) must not keep us from an orderly end."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]


@dataclass
class Log:
    """One process's log file, shared by its two streams."""

    path: Path
    file: BinaryIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: bytes) -> None:
        with self.lock:
            self.file.write(data)


class Stream:
    """Copies one stream of one process until it ends, in a thread of its own; remembers the last lines."""

    def __init__(self, source: int, log: Log, *, name: str, output: str, terminal: Terminal, fd: int) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._source, self._log, self._name = source, log, name
        self._output, self._terminal, self._fd = output, terminal, fd
        self._thread = threading.Thread(target=self._copy, name=f"output of {name}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the stream's end, which comes once no process holds its other side."""
        self._thread.join(timeout_s)

    def _copy(self) -> None:
        pending = b""
        while data := self._read():
            self._log.write(data)
            if self._output == "screen":
                self._terminal.raw(data, fd=self._fd)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._line(line)
        if pending:
            self._line(pending)
        os.close(self._source)

    def _read(self) -> bytes:
        try:
            return os.read(self._source, 65536)
        except OSError:  # a pseudo-terminal whose last user has gone answers EIO, not an empty read
            return b""

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
        self.tail.append(text)
        if self._output == "both":
            self._terminal.line(text, name=self._name)
