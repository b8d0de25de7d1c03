"""Starts the processes of a plan and sees to it that none outlives it. Decides nothing about when to stop.

Each process leads a session of its own, dies with this one (PR_SET_PDEATHSIG: call `start` from a thread that lives as
long as the processes should, normally the main one), and carries the run's mark that `guard` looks for.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import signal
import subprocess
import sys
import termios
import time
import tty
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import find, guard
from .model import LaunchError, alternatives
from .output import Log, Stream, Terminal
from .plan import Plan, ProcessSpec

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A process that ended; `returncode` is negative for a signal, `tail` its last lines (stderr's if it had any)."""

    spec: ProcessSpec
    returncode: int
    tail: tuple[str, ...]
    log: Path

    @property
    def code(self) -> int:
        """As a shell reports it: 128 + signal number for a signal."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def cause(self) -> str:
        """`exit code 3` or `signal SIGKILL`."""
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        return f"signal {signal.Signals(-self.returncode).name}"


@dataclass(frozen=True, kw_only=True)
class Grace:
    """Seconds from the first SIGINT until SIGTERM, and until SIGKILL, go to whatever is still there."""

    sigterm_s: float = 5.0
    sigkill_s: float = 10.0


@dataclass
class _Running:
    spec: ProcessSpec
    popen: subprocess.Popen[bytes]
    stdout: Stream
    stderr: Stream
    log: Log
    reported: bool = False

    def close(self) -> None:
        """Once it has ended: the rest of its output, then its log file."""
        self.stdout.join(1.0)
        self.stderr.join(1.0)
        self.log.file.close()


class Supervisor:
    """Processes of one plan: all at once or by name; as a context manager it stops them at the end.

    `required` of a process is left to the caller: nothing here stops because something ended. `show_all` prints the
    output of processes that only asked for their log file, too.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        log_dir: Path,
        terminal: Terminal | None = None,
        show_all: bool = False,
        grace: Grace | None = None,
    ) -> None:
        self.plan, self.log_dir = plan, log_dir
        self.run_id = uuid.uuid4().hex
        self.forced: list[str] = []
        self._terminal = terminal or Terminal()
        self._show_all = show_all
        self._grace = grace or Grace()
        self._running: dict[str, _Running] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *names: str) -> None:
        """Start the named processes, or all of the plan in its order; one that is running already is an error."""
        by_name = {spec.name: spec for spec in self.plan.processes}
        for name in names or by_name:
            if name not in by_name:
                raise LaunchError(f"no process '{name}' in {self.plan.name}{alternatives(name, by_name)}")
            if self.returncode(name) is None and name in self._running:
                raise LaunchError(f"process '{name}' of {self.plan.name} is running already")
            self._start(by_name[name])

    def pid(self, name: str) -> int:
        """Process id of a process that was started."""
        return self._running[name].popen.pid

    def returncode(self, name: str) -> int | None:
        """None while it runs or before it was started; negative for a signal."""
        return self._running[name].popen.poll() if name in self._running else None

    def running(self) -> list[str]:
        """Names of the processes that have not ended."""
        return [name for name, process in self._running.items() if process.popen.poll() is None]

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to one process, not to its descendants."""
        self._running[name].popen.send_signal(number)

    def poll(self) -> list[Exit]:
        """Processes that ended since the last call, each reported once."""
        ended = []
        for process in self._running.values():
            returncode = process.popen.poll()
            if returncode is not None and not process.reported:
                process.reported = True
                ended.append(self._exit(process, returncode))
        return ended

    def stop(self, hurry: Callable[[], int] = lambda: 0) -> None:
        """SIGINT to everything, SIGTERM and SIGKILL to what remains after the grace; returns when all are gone.

        `hurry` says how many of the later two signals to bring forward, for an operator who asks again.
        """
        began, sent = time.monotonic(), 0
        while self._alive():
            waited = time.monotonic() - began
            due = (waited >= self._grace.sigterm_s) + (waited >= self._grace.sigkill_s)
            stage = 1 + min(2, max(hurry(), due))
            while sent < stage:
                self._send_all(STOP_SIGNALS[sent])
                sent += 1
            if sent == len(STOP_SIGNALS):
                self._send_all(signal.SIGKILL)  # again: something may have forked in between
            time.sleep(0.02)
        for process in self._running.values():
            process.close()
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _start(self, spec: ProcessSpec) -> None:
        if spec.name in self._running:
            self._running[spec.name].close()
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._guard = self._guard or subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, self.run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        as_terminal = spec.emulate_tty and self._terminal.is_terminal
        size_from = self._terminal.stdout if as_terminal else None
        (out, child_out), (err, child_err) = _channel(size_from), _channel(size_from)
        try:
            popen = subprocess.Popen(
                spec.argv,
                env=self._environment(spec),
                stdin=subprocess.DEVNULL,
                stdout=child_out,
                stderr=child_err,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        except OSError as error:
            os.close(out)
            os.close(err)
            raise LaunchError(f"cannot start '{spec.name}': {spec.argv[0]}: {error.strerror}") from None
        finally:
            os.close(child_out)
            os.close(child_err)
        path = self.log_dir / f"{spec.name}.log"
        log = Log(path, path.open("ab", buffering=0))
        output = "both" if self._show_all and spec.output == "log" else spec.output

        def stream(source: int, fd: int) -> Stream:
            return Stream(source, log, name=spec.name, output=output, terminal=self._terminal, fd=fd)

        self._running[spec.name] = _Running(
            spec, popen, stream(out, self._terminal.stdout), stream(err, self._terminal.stderr), log
        )

    def _environment(self, spec: ProcessSpec) -> dict[str, str]:
        """Ours, so arranged that programs and packages beside this Python are found without activating anything."""
        environment = dict(os.environ)
        programs = str(Path(sys.executable).parent)
        path = environment.get("PATH", os.defpath)
        if programs not in path.split(os.pathsep):
            environment["PATH"] = os.pathsep.join([programs, path])
        if ament := find.prefixes():
            environment["AMENT_PREFIX_PATH"] = os.pathsep.join(map(str, ament))
        environment |= {"PYTHONUNBUFFERED": "1", "ROS_LOG_DIR": str(self.log_dir / "ros")}
        return environment | dict(spec.env) | {f"{guard.PREFIX}{self.run_id}": spec.name}

    def _exit(self, process: _Running, returncode: int) -> Exit:
        for stream in (process.stdout, process.stderr):
            stream.join(0.5)  # a descendant may keep it open
        tail = tuple(process.stderr.tail or process.stdout.tail)
        return Exit(spec=process.spec, returncode=returncode, tail=tail, log=process.log.path)

    def _alive(self) -> bool:
        return bool(self.running() or guard.marked(self.run_id))

    def _send_all(self, number: int) -> None:
        """To the process groups of running processes, and to descendants that left their group."""
        groups = {self._running[name].popen.pid for name in self.running()}
        if number != signal.SIGINT:
            self.forced = sorted({*self.forced, *self.running()})
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        for pid in guard.marked(self.run_id):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) not in groups:
                    os.kill(pid, number)


def _channel(size_from: int | None) -> tuple[int, int]:
    """(our end, the child's end) of a pipe, or of a pseudo-terminal with that terminal's size that alters nothing."""
    if size_from is None:
        return os.pipe()
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    termios.tcsetwinsize(theirs, termios.tcgetwinsize(size_from))
    return ours, theirs


def _die_with(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job is started with SIGINT ignored
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child
