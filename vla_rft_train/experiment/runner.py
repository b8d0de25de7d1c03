"""Running a plan: what is not there yet, some steps at once, each with its log. SIGINT lets commands save and end.

Commands run in sessions of their own, so that Ctrl-C reaches them once and through here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from tqdm import tqdm

from vla_rft_core.errors import VlaRftError
from vla_rft_train.experiment.steps import Command, Plan, State, Step

REFRESH_S = 1.0
TAIL_BYTES, TAIL_LINES = 4000, 12
GRACE_S = 120.0
"""A command that was told to end is waited for so long."""


class StepFailedError(VlaRftError):
    """A step's command ended with another exit code than 0; one sentence, and the end of its log."""


class Runner:
    """One run of a plan."""

    def __init__(self, plan: Plan, *, jobs: int, git: str) -> None:
        if jobs < 1:
            raise ValueError(f"jobs: at least 1 step at a time, got {jobs}")
        self._plan, self._jobs, self._git = plan, jobs, git
        self._stop = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, names: Sequence[str]) -> None:
        """All of these that are not done, each after what it reads. StepFailedError for the first that fails; what
        runs beside it is let end. KeyboardInterrupt once everything has ended.
        """
        plan = self._plan
        left = [name for name in names if plan.state(name) is not State.DONE]
        done = set(names) - set(left)
        futures: dict[Future[None], str] = {}
        failed: StepFailedError | None = None
        with (
            ThreadPoolExecutor(self._jobs) as pool,
            tqdm(total=len(names), initial=len(done), unit="step", file=sys.stderr) as bar,
        ):
            try:
                while futures or (left and failed is None):
                    for name in [n for n in left if done >= set(plan.steps[n].inputs) & set(names)]:
                        if failed is None and len(futures) < self._jobs:
                            left.remove(name)
                            futures[pool.submit(self._perform, plan.steps[name])] = name
                    ended, _ = wait(futures, timeout=REFRESH_S, return_when=FIRST_COMPLETED)
                    for future in ended:
                        name = futures.pop(future)
                        try:
                            future.result()
                        except StepFailedError as error:
                            failed = failed or error
                            continue
                        done.add(name)
                        bar.update()
                        bar.write(f"{name}: {plan.record(name).seconds / 60:.1f} min", file=sys.stderr)
                    bar.set_description("; ".join(f"{name}: {self._last_words(name)}" for name in futures.values()))
            except KeyboardInterrupt:
                self._stop.set()
                for process in list(self._running.values()):
                    process.send_signal(signal.SIGINT)
                wait(futures, timeout=GRACE_S)
                for process in list(self._running.values()):
                    process.kill()
                raise
        if failed is not None:
            raise failed

    def _perform(self, step: Step) -> None:
        plan, began_s, code = self._plan, time.time(), 0
        plan.log(step.name).parent.mkdir(parents=True, exist_ok=True)
        folder = plan.folder(step.name)
        (folder.parent if step.makes_its_folder else folder).mkdir(parents=True, exist_ok=True)
        for command in step.commands:
            if command.makes and (folder / command.makes).exists():
                continue
            code = 130 if self._stop.is_set() else self._command(step, command)
            if code:
                break
        plan.note(step.name, began_s=began_s, exit_code=code, git=self._git)
        if code:
            end = "\n".join(self._tail(step.name).splitlines()[-TAIL_LINES:])
            raise StepFailedError(f"{end}\nstep {step.name!r} ended with exit code {code}; see {plan.log(step.name)}")

    def _command(self, step: Step, command: Command) -> int:
        words = self._plan.argv(step, command)
        with self._plan.log(step.name).open("ab") as log:
            log.write(f"\n$ python -m {' '.join(words)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[step.name] = process
            try:
                return process.wait()
            finally:
                del self._running[step.name]

    def _tail(self, name: str) -> str:
        with self._plan.log(name).open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            return log.read().decode(errors="replace").replace("\r", "\n")

    def _last_words(self, name: str) -> str:
        """What a command last showed of its progress."""
        path = self._plan.log(name)
        lines = [line.strip() for line in self._tail(name).splitlines() if line.strip()] if path.is_file() else []
        return "".join(c for c in (lines[-1] if lines else "") if c.isprintable())[:48]
