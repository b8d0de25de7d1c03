"""Finished MCAP files: opened by their summary, read by topic or one message at a time. No handle stays open.

Knows MCAP and the two metadata records of an episode, not what messages mean. Truncated files are `salvage`'s work.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Chunk, Message
from mcap.stream_reader import CRCValidationError, breakup_chunk
from mcap.summary import Summary

from vla_rft_episodes import layout
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.errors import EpisodeError, TruncatedError

MAGIC = b"\x89MCAP0\r\n"
_CHUNK_HEAD = 1 + 8
"""Opcode and length before a chunk's content."""
_DAMAGED = (McapError, CRCValidationError, zstandard.ZstdError, struct.error, KeyError, UnicodeDecodeError, EOFError)


@dataclass(frozen=True)
class Recorded:
    """One message of an episode."""

    channel: Channel
    stamp_ns: int
    """Of its header: when what it tells was so."""
    received_ns: int
    """When the recorder got it."""
    data: bytes
    """CDR."""


@dataclass(frozen=True)
class MessageRef:
    """Where in the file one message is."""

    stamp_ns: int
    received_ns: int
    chunk_offset: int
    index: int
    """Among the records of its chunk."""


class McapFile:
    """An episode's MCAP file. EpisodeError in one sentence when it is truncated, foreign or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reader() as reader:
            header, summary = reader.get_header(), reader.get_summary()
            if summary is None or summary.statistics is None:
                raise TruncatedError(
                    f"{path}: has no summary, so it was not finished by a recorder; repair recovers it"
                )
            self._summary: Summary = summary
            names = [index.name for index in summary.metadata_indexes]
            if header.profile != layout.PROFILE or layout.START_RECORD not in names:
                raise EpisodeError(
                    f"{path}: is an MCAP file, but no episode (it has no record {layout.START_RECORD!r})"
                )
            records = {record.name: record.metadata for record in reader.iter_metadata()}
        self.start: Mapping[str, str] = records[layout.START_RECORD]
        """What was known at the start, as strings."""
        self.end: Mapping[str, str] | None = records.get(layout.END_RECORD)
        """What was known at the end."""
        version = self.start.get("format_version")
        if version != layout.FORMAT_VERSION:
            raise EpisodeError(f"{path}: has episode format {version!r}, this software reads {layout.FORMAT_VERSION!r}")
        schemas = summary.schemas
        self._channels = {c.id: Channel(c.topic, schemas[c.schema_id].name) for c in summary.channels.values()}
        self._records = lru_cache(maxsize=8)(self._read_chunk)

    @property
    def counts(self) -> Mapping[Channel, int]:
        """Messages of every channel in the file."""
        statistics = self._summary.statistics
        assert statistics is not None
        return {channel: statistics.channel_message_counts.get(n, 0) for n, channel in self._channels.items()}

    def attachments(self) -> Mapping[str, bytes]:
        """Name -> content."""
        with self._reader() as reader:
            return {attachment.name: attachment.data for attachment in reader.iter_attachments()}

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """All messages of the topics (None = all) in the order in which they were received."""
        wanted = None if topics is None else set(topics)
        with self._reader() as reader:
            for _, channel, message in reader.iter_messages(wanted):
                yield Recorded(self._channels[channel.id], message.publish_time, message.log_time, message.data)

    def refs(self, topic: str) -> list[MessageRef]:
        """Where the messages of a topic are, in the order in which they were received; none for an unknown topic."""
        return self._refs.get(topic, [])

    def load(self, ref: MessageRef) -> bytes:
        """The CDR bytes of one message; neighbours in time cost little."""
        message = self._records(ref.chunk_offset)[ref.index]
        assert message is not None
        return message.data

    @cached_property
    def _refs(self) -> dict[str, list[MessageRef]]:
        refs: dict[str, list[MessageRef]] = {}
        for offset in [chunk.chunk_start_offset for chunk in self._summary.chunk_indexes]:
            for index, record in enumerate(self._read_chunk(offset)):
                if record is not None:
                    ref = MessageRef(record.publish_time, record.log_time, offset, index)
                    refs.setdefault(self._channels[record.channel_id].topic, []).append(ref)
        return {topic: sorted(found, key=lambda ref: ref.received_ns) for topic, found in refs.items()}

    def _read_chunk(self, offset: int) -> list[Message | None]:
        with self._open() as file:
            file.seek(offset + _CHUNK_HEAD)
            records = breakup_chunk(Chunk.read(ReadDataStream(file)), validate_crc=True)
        return [record if isinstance(record, Message) else None for record in records]

    @contextmanager
    def _reader(self) -> Iterator[SeekingReader]:
        with self._open() as file:
            _require_ends(self.path, file)
            yield SeekingReader(file, validate_crcs=True)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            raise EpisodeError(f"{self.path}: cannot be read ({error.strerror})") from None
        except _DAMAGED as error:
            raise EpisodeError(f"{self.path}: is damaged ({error or type(error).__name__})") from None


def _require_ends(path: Path, file: BinaryIO) -> None:
    """The magic bytes at both ends."""
    begin = file.read(len(MAGIC))
    if begin != MAGIC[: len(begin)]:
        raise EpisodeError(f"{path}: is not an MCAP file")
    size = file.seek(0, 2)
    file.seek(max(0, size - len(MAGIC)))
    if size < 2 * len(MAGIC) or file.read() != MAGIC:
        raise TruncatedError(f"{path}: is truncated after {size} bytes; repair recovers what is there")
    file.seek(0)
