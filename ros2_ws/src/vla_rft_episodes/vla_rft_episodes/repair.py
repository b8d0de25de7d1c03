"""Finish what a recorder could not: recover a truncated attempt into a new episode, or end a whole one.

Never overwrites and never changes a recording: the file that was cut short stays where it is.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from mcap.records import Attachment, Channel, Message, Metadata, Schema
from mcap.writer import CompressionType, Writer

from vla_rft_core import manifest
from vla_rft_core.files import sync
from vla_rft_episodes import layout
from vla_rft_episodes.attempt import REPAIRED_FROM, Attempt, State, examine, read_start
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.output import OutputFile, is_being_written
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.salvage import Salvage
from vla_rft_episodes.verdict import Verdict, judge
from vla_rft_episodes.writer import CHUNK_BYTES, judged

REPAIR_PREFIX = ".repair-"
"""Of the folder that a recovery is written to until it is whole; left over only when the repair itself was killed."""


@dataclass(frozen=True)
class Repair:
    """What was done about one open attempt."""

    attempt: Attempt
    """As it was found."""
    path: Path | None
    """The finished episode; None when there was nothing to do."""

    def describe(self) -> str:
        """One sentence."""
        attempt = self.attempt
        if self.path is None:
            return f"{attempt.folder.name}: {attempt.describe()}; nothing done"
        if attempt.state is State.TRUNCATED:
            return f"{self.path.name}: recovered {attempt.have}; lost are {attempt.lost}"
        return f"{self.path.name}: finished, nothing is lost"


def repair_attempt(folder: Path) -> Repair:
    """Repair the open attempt in `folder` (`.open-ID`); EpisodeError when it cannot be, with nothing changed."""
    if not folder.is_dir() or not folder.name.startswith(layout.OPEN_PREFIX):
        raise EpisodeError(f"{folder}: is not the folder of an open attempt ({layout.OPEN_PREFIX}ID)")
    attempt = examine(folder)
    if attempt.state is State.RECORDING:
        raise EpisodeError(f"{folder}: is being recorded; stop its recorder first")
    if attempt.state in (State.EMPTY, State.REPAIRED):
        return Repair(attempt, None)
    target = folder.with_name(attempt.episode_id)
    if target.exists():
        raise EpisodeError(f"{target}: exists already and is not overwritten; {folder.name} stays as it is")
    if attempt.state is State.TRUNCATED:
        _recover(attempt, target)
    else:
        _finish(attempt, target)
    return Repair(attempt, target)


def _finish(attempt: Attempt, target: Path) -> None:
    """The last steps of a recording that is whole: manifest, rename."""
    folder = attempt.folder
    for half_written in folder.glob(f".{manifest.FILE_NAME}.*"):
        half_written.unlink()
    if attempt.state is State.NO_MANIFEST:
        info = read_start(folder)
        if not info.termination_reason:
            info = replace(info, termination_reason="repaired: the recorder died before it said why it stopped")
        info = replace(info, verdict=_verdict(folder / layout.MCAP_NAME))
        manifest.write_manifest(folder, kind=layout.KIND, metadata=info.to_plain())
        sync(folder)
    folder.rename(target)
    sync(target.parent)


def _recover(attempt: Attempt, target: Path) -> None:
    """Every complete message into a new file, then manifest and rename."""
    folder = target.with_name(f"{REPAIR_PREFIX}{target.name}")
    path = folder / layout.MCAP_NAME
    if is_being_written(path):
        raise EpisodeError(f"{folder}: another repair is at work")
    if folder.exists():
        shutil.rmtree(folder)  # a copy that was never finished; what it was made from is still there
    started = read_start(attempt.folder)
    folder.mkdir()
    source = attempt.folder / layout.MCAP_NAME
    info = replace(
        started,
        termination_reason=f"repaired: lost are {attempt.lost}",
        extra={
            **started.extra,
            REPAIRED_FROM: manifest.hash_file(source).sha256,
            "repaired_lost_bytes": attempt.lost_bytes,
            "repaired_lost_s": round(attempt.lost_s, 3),
        },
    )
    info = _copy(source, path, info)
    info = replace(info, verdict=_verdict(path))
    manifest.write_manifest(folder, kind=layout.KIND, metadata=info.to_plain())
    sync(folder)
    folder.rename(target)
    sync(target.parent)


def _copy(source: Path, path: Path, info: EpisodeInfo) -> EpisodeInfo:
    """Copy all complete records and finish the new file; the info with its counts and its end."""
    output = OutputFile(path)
    try:
        writer = Writer(output, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)  # type: ignore[arg-type]
        writer.start(layout.PROFILE, layout.LIBRARY)
        messages: Counter[str] = Counter()
        schemas: dict[int, int] = {}
        known: dict[int, tuple[int, str]] = {}
        ended_ns = info.started_ns
        for record in Salvage(source).records():
            match record:
                case Metadata() if record.name != layout.END_RECORD:
                    writer.add_metadata(record.name, record.metadata)
                case Attachment():
                    writer.add_attachment(
                        record.create_time, record.log_time, record.name, record.media_type, record.data
                    )
                case Schema() if record.id not in schemas:
                    schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
                case Channel() if record.id not in known:
                    schema = schemas.get(record.schema_id, 0)
                    new = writer.register_channel(record.topic, record.message_encoding, schema, record.metadata)
                    known[record.id] = (new, record.topic)
                case Message():
                    new, topic = known[record.channel_id]
                    writer.add_message(new, record.log_time, record.data, record.publish_time, record.sequence)
                    messages[topic] += 1
                    ended_ns = max(ended_ns, record.log_time)
        info = replace(info, ended_ns=ended_ns, messages=dict(messages))
        writer.add_metadata(layout.END_RECORD, layout.end_metadata(info))
        writer.finish()
        output.sync()
    finally:
        output.close()
    return info


def _verdict(path: Path) -> Verdict:
    """The verdict; a recovery is not given up because it cannot be judged."""
    return judged(lambda file: judge(Episode.open(file)), path)
