"""What became of an attempt that was not finished: being recorded, cut short, whole but for its last steps, repaired.

Reads only; `repair` acts on it and `fsck` reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mcap.records import Message, Metadata

from vla_rft_core import manifest
from vla_rft_core.clock import seconds
from vla_rft_core.errors import ManifestError
from vla_rft_episodes import layout
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.output import is_being_written
from vla_rft_episodes.salvage import Salvage

REPAIRED_FROM = "repaired_from_sha256"
"""In the `extra` of a repaired episode: hash of the file that was cut short, which stays where it is."""


class State(StrEnum):
    """What an open attempt needs."""

    RECORDING = "recording"
    """Nothing: its recorder lives."""
    TRUNCATED = "truncated"
    """Its messages must be recovered into a new episode."""
    NO_MANIFEST = "no manifest"
    """The MCAP file is whole; manifest and rename are missing."""
    NOT_RENAMED = "not renamed"
    """Only the rename is missing."""
    EMPTY = "empty"
    """Nothing: its recorder died before the first message was whole."""
    REPAIRED = "repaired"
    """Nothing: a finished episode holds what could be recovered."""


@dataclass(frozen=True)
class Attempt:
    """An open attempt and what can be had of it."""

    folder: Path
    state: State
    messages: int = 0
    """Complete messages in the file."""
    duration_s: float = 0.0
    """First to last of them [s]."""
    lost_bytes: int = 0
    """Bytes of the file that belong to no complete message."""
    lost_s: float = 0.0
    """Estimate of the time that these bytes held, at the mean rate of the others [s]."""

    @property
    def episode_id(self) -> str:
        """The id it was given."""
        return attempt_id(self.folder)

    def describe(self) -> str:
        """One sentence."""
        match self.state:
            case State.RECORDING:
                return "is being recorded"
            case State.EMPTY:
                return "its recorder died before the first message was whole; there is nothing to repair"
            case State.REPAIRED:
                return f"was cut short; what could be recovered is in episode {self.episode_id}"
            case State.NO_MANIFEST:
                return f"was recorded whole ({self.have}) but has no manifest; repair finishes it"
            case State.NOT_RENAMED:
                return "is whole and has its manifest; only the last rename is missing, repair does it"
        return f"was cut short: repair can recover {self.have}; lost are {self.lost}"

    @property
    def have(self) -> str:
        """What is there, in words."""
        return f"{self.messages} messages, {self.duration_s:.2f} s"

    @property
    def lost(self) -> str:
        """What is not, in words."""
        return f"{self.lost_bytes} bytes (about {self.lost_s:.2f} s) and what its recorder had not written yet"


def attempt_id(folder: Path) -> str:
    """The episode id in the name of an open attempt's folder."""
    return folder.name.removeprefix(layout.OPEN_PREFIX)


def examine(folder: Path) -> Attempt:
    """Look into an open attempt; EpisodeError when its file is no MCAP."""
    path = folder / layout.MCAP_NAME
    if not path.exists() or not path.stat().st_size:
        return Attempt(folder, State.EMPTY)
    if is_being_written(path):
        return Attempt(folder, State.RECORDING)
    if is_repaired(folder):
        return Attempt(folder, State.REPAIRED)
    if _has_valid_manifest(folder):
        return Attempt(folder, State.NOT_RENAMED)
    salvage = Salvage(path)
    times = [record.log_time for record in salvage.records() if isinstance(record, Message)]
    if not times:
        return Attempt(folder, State.EMPTY)
    duration_s = seconds(max(times) - min(times))
    if salvage.complete and not salvage.lost_bytes:
        return Attempt(folder, State.NO_MANIFEST, len(times), duration_s)
    kept = max(1, salvage.size - salvage.lost_bytes)
    lost_s = duration_s * salvage.lost_bytes / kept
    return Attempt(folder, State.TRUNCATED, len(times), duration_s, salvage.lost_bytes, lost_s)


def is_repaired(folder: Path) -> bool:
    """Whether the finished episode of the same id was recovered from this very file."""
    try:
        finished = manifest.read_manifest(folder.with_name(attempt_id(folder)), kind=layout.KIND)
    except (ManifestError, NotADirectoryError):
        return False
    source = finished.metadata.get("extra", {}).get(REPAIRED_FROM)
    return source is not None and source == manifest.hash_file(folder / layout.MCAP_NAME).sha256


def read_start(folder: Path) -> EpisodeInfo:
    """What the file says of its attempt; EpisodeError when the record is missing or of another version."""
    path = folder / layout.MCAP_NAME
    found = {record.name: record.metadata for record in Salvage(path).records() if isinstance(record, Metadata)}
    if layout.START_RECORD not in found:
        raise EpisodeError(f"{path}: has no record {layout.START_RECORD!r}, so nothing says which episode it is of")
    try:
        return layout.from_metadata(found[layout.START_RECORD], found.get(layout.END_RECORD), str(path))
    except (ValueError, KeyError) as error:
        raise EpisodeError(f"{path}: its record {layout.START_RECORD!r} cannot be read ({error})") from None


def _has_valid_manifest(folder: Path) -> bool:
    try:
        manifest.verify(folder, kind=layout.KIND)
    except ManifestError:
        return False
    return True
