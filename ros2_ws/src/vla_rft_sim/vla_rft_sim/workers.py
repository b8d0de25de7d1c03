"""Several processes that simulate at once: tasks are handed out one by one, results come back as they are done.

SIGINT hands out no more and lets what runs be finished. Workers end when their parent does, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import FrameType, TracebackType
from typing import Any

import cv2

from vla_rft_core.errors import VlaRftError


class WorkerError(VlaRftError):
    """A worker process died."""


class Workers:
    """A context: inside, `results` works; on leaving, running tasks are waited for and the processes end.

    Example: `with Workers(2, prepare, config) as workers: for result in workers.results(task, next_argument): ...`
    where `prepare(config)` runs once in every process.
    """

    def __init__(self, count: int, prepare: Callable[..., None], *arguments: Any) -> None:
        if count < 1:
            raise ValueError(f"workers must be at least 1, got {count}")
        self.count = count
        self.interrupted = False
        """SIGINT came."""
        context = multiprocessing.get_context("spawn")  # a fork would share OpenGL and locks
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(prepare, arguments))

    def __enter__(self) -> Workers:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGINT, self._before)

    def results(self, task: Callable[[Any], Any], next_argument: Callable[[int], Any]) -> Iterator[Any]:
        """What `task` returns for each argument. WorkerError when a process died; a task's own errors come as they are.

        next_argument: asked whenever a process is free, with the number of tasks that run; None for "not now".
        """
        running: set[Future[Any]] = set()
        while True:
            while not self.interrupted and len(running) < self.count:
                argument = next_argument(len(running))
                if argument is None:
                    break
                running.add(self._pool.submit(task, argument))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield future.result()
                except BrokenProcessPool:
                    raise WorkerError("a worker process died; what it worked on is left unfinished") from None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True


def _begin(prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
