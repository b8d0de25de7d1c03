"""What a recording session shows its operator, and how the terminal does it: lines, a bell, a voice, a map beside it.

`Session` speaks to a `SessionView`; the console has another one (`console.recording`).
"""

from __future__ import annotations

import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from rich.console import Console

from vla_rft_core.cell import CellFolder
from vla_rft_episodes.collection import Collection, Progress
from vla_rft_interfaces.action import RecordEpisode

COVERAGE_CELL_M = 0.05
STYLE = {"good": "green", "suspect": "yellow", "bad": "red"}


class Moment(StrEnum):
    """What the operator's keys are about just now."""

    BUSY = "busy"
    """The arm goes home, or the towel is being laid out: only stop is heard."""
    ASKING = "asking"
    """→ goes on; ← and u are about the attempt before."""
    RECORDING = "recording"
    """→ ends and keeps, ← ends and discards."""
    JUDGING = "judging"
    """The attempt is written out and judged."""
    DECIDING = "deciding"
    """It ended by itself: → keeps it, ← discards it."""
    ENDED = "ended"
    """The session is over."""


class SessionView(Protocol):
    """Called from the session's thread."""

    def tell(self, text: str) -> None:
        """One more line of what happens."""

    def cue(self, text: str) -> None:
        """The same, said so that it is noticed: the operator looks at the arm."""

    def moment(self, moment: Moment) -> None:
        """What keys are about from now on."""

    def judged(self, result: RecordEpisode.Result) -> None:
        """An attempt has ended; its verdict."""

    def counted(self, collection: Collection, progress: Progress) -> None:
        """The collection after a decision."""


class TerminalView:
    """Lines with the time; cues ring the bell and are spoken by `say` (a command, its last argument is the text)."""

    def __init__(self, folder: CellFolder, *, task: str, say: tuple[str, ...] = ()) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._folder, self._task, self._say = folder, task, say
        self._voice: subprocess.Popen[bytes] | None = None

    def tell(self, text: str) -> None:
        """A line."""
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}")

    def cue(self, text: str) -> None:
        """A line, the bell, the voice."""
        self._console.bell()
        self.tell(text)
        if self._say:
            if self._voice is not None:
                self._voice.kill()  # what it still says is past
                self._voice.wait()
            self._voice = subprocess.Popen([*self._say, text], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def moment(self, moment: Moment) -> None:
        """The lines say it."""

    def judged(self, result: RecordEpisode.Result) -> None:
        """The verdict, with a line per reason."""
        quality = result.quality or "not judged"
        style = STYLE.get(quality, "bold")
        counts = f"{result.frames} pictures, {result.dropped} missed"
        self.tell(f"{result.episode}  {result.duration:.1f} s  {counts}  [{style}]{quality}[/{style}]")
        for reason in result.reasons:
            self.tell(f"  - {reason}")
        if result.error_code:
            self.tell(f"  - {result.error_msg}")

    def counted(self, collection: Collection, progress: Progress) -> None:
        """The running count, and the map of towel starts beside the collection."""
        disk = f"{progress.disk_minutes:.0f} min of disk" if progress.disk_minutes is not None else ""
        parts = [
            f"kept {progress.kept} of {progress.goal} ({progress.successes} successes)",
            f"{progress.discarded} discarded",
            f"{progress.unlabelled} undecided",
            f"{progress.per_hour:.0f} per hour" if progress.per_hour is not None else "",
            disk,
            f"map {self._draw_map(collection)}",
        ]
        self.tell(" · ".join(part for part in parts if part))

    def _draw_map(self, collection: Collection) -> Path:
        from vla_rft_episodes import coverage  # matplotlib takes a second: not while somebody waits for the first cue

        low, high = self._folder.safety.workspace_low, self._folder.safety.workspace_high
        region = coverage.Region((low[0], low[1]), (high[0], high[1]), COVERAGE_CELL_M)
        target = collection.path.with_name(f"{collection.path.name}-coverage.png")
        target.write_bytes(coverage.draw(coverage.starts(collection), region, title=f"Towel starts: {self._task}"))
        return target
