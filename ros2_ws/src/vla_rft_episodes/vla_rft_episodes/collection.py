"""A collection: the folder in which attempts are recorded, and how far it has come towards the number wanted.

What has no leading dot is finished. It only reads; deciding is `labels`' business and finding damage fsck's.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_rft_core.clock import NS_PER_S, seconds
from vla_rft_episodes import layout
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo, is_episode_id
from vla_rft_episodes.labels import Label, LabelEntry, Labels, Outcome
from vla_rft_episodes.output import is_being_written
from vla_rft_episodes.reader import read_info

PACE_S = 3600.0
"""The pace is that of the last hour's work [s]."""
RATE_ATTEMPTS = 10
"""The disk's filling is judged by so many of the last attempts."""


@dataclass(frozen=True)
class EpisodeRef:
    """One finished attempt, not opened."""

    id: str
    path: Path
    info: EpisodeInfo
    label: LabelEntry | None
    """What was decided; None = nothing yet."""

    @property
    def kept(self) -> bool:
        """It is to be learned from."""
        return self.label is not None and self.label.label == Label.KEEP

    @property
    def discarded(self) -> bool:
        """It is in the trash."""
        return self.label is not None and self.label.label == Label.DISCARD

    @property
    def outcome(self) -> Outcome:
        """Whether the task was done, as far as anybody said."""
        return self.label.outcome if self.label is not None else Outcome.UNKNOWN


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that is being recorded, or whose recorder died."""

    id: str
    path: Path
    recording: bool
    """A live process writes it."""


@dataclass(frozen=True)
class Progress:
    """How far a collection has come."""

    goal: int
    kept: int
    successes: int
    """Of the kept ones."""
    discarded: int
    unlabelled: int
    per_hour: float | None
    """Kept attempts per hour of the last hour's work; None before the second."""
    disk_minutes: float | None
    """Recording time that fits on the disk at the rate of the last attempts [min]; None before the first."""


class Collection:
    """The attempts in one folder; a folder that does not exist yet has none."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise EpisodeError(f"{path}: is not a folder")
        self.path = path
        self.labels = Labels(path)
        self.unreadable: tuple[str, ...] = ()
        """One sentence for every finished attempt that the last listing could not read."""

    def episodes(self, *, kept_only: bool = False) -> list[EpisodeRef]:
        """Finished attempts, oldest first."""
        state, refs, unreadable = self.labels.state(), [], []
        for folder in self._folders(""):
            try:
                refs.append(EpisodeRef(folder.name, folder, read_info(folder), state.get(folder.name)))
            except EpisodeError as error:
                unreadable.append(str(error))
        self.unreadable = tuple(unreadable)
        return [ref for ref in refs if ref.kept or not kept_only]

    def open_attempts(self) -> list[OpenAttempt]:
        """Attempts that are not finished, oldest first."""
        return [
            OpenAttempt(
                id=folder.name.removeprefix(layout.OPEN_PREFIX),
                path=folder,
                recording=is_being_written(folder / layout.MCAP_NAME),
            )
            for folder in self._folders(layout.OPEN_PREFIX)
        ]

    def progress(self, goal: int) -> Progress:
        """Counts, pace and room left."""
        refs = self.episodes()
        kept = [ref for ref in refs if ref.kept]
        discarded = sum(ref.discarded for ref in refs)
        return Progress(
            goal=goal,
            kept=len(kept),
            successes=sum(ref.outcome == Outcome.SUCCESS for ref in kept),
            discarded=discarded,
            unlabelled=len(refs) - len(kept) - discarded,
            per_hour=_pace([ref.info for ref in kept]),
            disk_minutes=self._disk_minutes(refs[-RATE_ATTEMPTS:]),
        )

    def _folders(self, prefix: str) -> list[Path]:
        found = self.path.glob(f"{prefix}*") if self.path.is_dir() else ()
        return sorted(p for p in found if is_episode_id(p.name.removeprefix(prefix)) and p.is_dir())

    def _disk_minutes(self, refs: Sequence[EpisodeRef]) -> float | None:
        recorded_s = sum(ref.info.duration_s for ref in refs)
        size = sum((ref.path / layout.MCAP_NAME).stat().st_size for ref in refs)
        if recorded_s == 0.0 or size == 0:
            return None
        return shutil.disk_usage(self.path).free / (size / recorded_s) / 60.0


def _pace(kept: Sequence[EpisodeInfo]) -> float | None:
    """From end to end of the attempts within the last hour's work: what lies between them counts, too."""
    ends = sorted(info.ended_ns for info in kept)
    recent = [end for end in ends if end >= ends[-1] - round(PACE_S * NS_PER_S)]
    if len(recent) < 2 or recent[0] == recent[-1]:
        return None
    return (len(recent) - 1) / seconds(recent[-1] - recent[0]) * 3600.0
