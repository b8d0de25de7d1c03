"""What a person sees of a running stage: a line with rate and time left, curves in TensorBoard, the same as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch.utils.tensorboard import SummaryWriter

from vla_rft_train.loop.config import LoopConfig

LOG = "log.jsonl"
"""One line per log step in the run folder; a resumed run appends."""


class Progress:
    """Shows and keeps the figures of one run; silent where `shown` is False (the other ranks)."""

    def __init__(self, name: str, run: Path, config: LoopConfig, *, shown: bool) -> None:
        self._config, self._shown = config, shown
        self._bar = Bar(
            TextColumn(f"[bold]{name}[/]"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]} {task.fields[figures]}"),
            disable=not shown,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(name, total=config.steps, rate="", figures="")
        self._board: SummaryWriter | None = None
        self._run = run
        self._first, self._began_s = 0, 0.0

    def __enter__(self) -> Progress:
        if self._shown:
            self._run.mkdir(parents=True, exist_ok=True)
            self._board = SummaryWriter(str(self._run / "tensorboard"))
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def start(self, step: int) -> None:
        """Training goes on from here."""
        self._first, self._began_s = step, time.monotonic()
        self._bar.update(self._task, completed=step)

    def advance(self, step: int) -> None:
        """So many steps are done."""
        rate = (step - self._first) / max(1e-9, time.monotonic() - self._began_s)
        text = f"{rate:.2f} steps/s, {rate * self._config.batch:.0f} samples/s"
        self._bar.update(self._task, completed=step, rate=text)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step."""
        if not self._shown:
            return
        self._bar.update(self._task, figures=" ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        line = {"step": step, "seconds": round(time.monotonic() - self._began_s, 2)} | dict(figures)
        with (self._run / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
