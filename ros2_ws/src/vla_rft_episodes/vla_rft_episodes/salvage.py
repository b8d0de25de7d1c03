"""Reads an MCAP file that may end anywhere: every complete message, also those of a chunk cut short, and what is lost.

Knows MCAP's framing only; what an episode needs to be finished is `repair`'s business.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, McapRecord, Message, Metadata, Schema

from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.mcap_file import MAGIC

_FRAME = struct.Struct("<BQ")
"""Opcode and length before every record."""
_CHUNK = struct.Struct("<QQQII")
"""Start, end, uncompressed size, its crc, length of the compression's name."""
_DATA_SECTION = {
    Opcode.HEADER: Header,
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.ATTACHMENT: Attachment,
    Opcode.METADATA: Metadata,
}


class Salvage:
    """One pass over a file; when `records` is exhausted the other attributes say what was found.

    Example: `salvage = Salvage(path); records = list(salvage.records()); salvage.lost_bytes`
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        """Bytes of the file."""
        self.lost_bytes = 0
        """Bytes whose messages could not be recovered."""
        self.complete = False
        """The file has its footer and closing magic: it was finished."""
        self._channels: set[int] = set()

    def records(self) -> Iterator[McapRecord]:
        """Header, schemas, channels, messages, attachments and metadata in file order; EpisodeError when not MCAP."""
        with self.path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC[: len(magic)]:
                raise EpisodeError(f"{self.path}: is not an MCAP file")
            while True:
                start = file.tell()
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    self.lost_bytes += len(frame)
                    return
                opcode, length = _FRAME.unpack(frame)
                if opcode == Opcode.DATA_END:
                    self.complete = self._has_end(file)
                    return
                if not Opcode.HEADER <= opcode <= Opcode.DATA_END:
                    self.lost_bytes += self.size - start  # not a record: the framing is lost from here on
                    return
                content = file.read(min(length, self.size - start))
                yield from self._record(opcode, content, length)
                if len(content) < length:
                    return

    def _record(self, opcode: int, content: bytes, length: int) -> Iterator[McapRecord]:
        if opcode == Opcode.CHUNK:
            yield from self._chunk(content, length)
        elif len(content) < length:
            self.lost_bytes += _FRAME.size + len(content)
        else:
            yield from self._parse(opcode, content)

    def _chunk(self, content: bytes, length: int) -> Iterator[McapRecord]:
        """The records of a chunk, all or as many as are whole."""
        data = _decompressed(content)
        whole = len(content) == length and _crc_fits(content, data)
        if len(content) == length and not whole:
            self.lost_bytes += length  # altered on the disk: none of it can be trusted
            return
        used = 0
        for opcode, body, end in _inner(data):
            used = end
            yield from self._parse(opcode, body)
        if not whole and data:
            self.lost_bytes += round(len(content) * (1.0 - used / len(data)))
        elif not whole:
            self.lost_bytes += len(content)

    def _parse(self, opcode: int, content: bytes) -> Iterator[McapRecord]:
        stream = ReadDataStream(BytesIO(content))
        if opcode == Opcode.MESSAGE:
            message = Message.read(stream, len(content))
            if message.channel_id in self._channels:
                yield message
            else:
                self.lost_bytes += len(content)  # the chunk that says what it is was altered
        elif opcode in _DATA_SECTION:
            record = _DATA_SECTION[opcode].read(stream)
            if isinstance(record, Channel):
                self._channels.add(record.id)
            yield record

    def _has_end(self, file: BinaryIO) -> bool:
        file.seek(max(0, self.size - len(MAGIC)))
        return file.read() == MAGIC


def _inner(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(opcode, content, where it ends) of the whole records in a chunk's data."""
    position = 0
    while position + _FRAME.size <= len(data):
        opcode, length = _FRAME.unpack_from(data, position)
        end = position + _FRAME.size + length
        if end > len(data):
            return
        yield opcode, data[position + _FRAME.size : end], end
        position = end


def _decompressed(content: bytes) -> bytes:
    """As much of a chunk's data as its bytes give."""
    if len(content) < _CHUNK.size:
        return b""
    *_, name_length = _CHUNK.unpack_from(content)
    begin = _CHUNK.size + name_length + 8
    compression, packed = content[_CHUNK.size : _CHUNK.size + name_length], content[begin:]
    if compression == b"":
        return packed
    if compression != b"zstd":
        raise EpisodeError(f"a chunk is compressed by {compression.decode(errors='replace')!r}; zstd is known")
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError:
        return b""


def _crc_fits(content: bytes, data: bytes) -> bool:
    _, _, size, crc, _ = _CHUNK.unpack_from(content)
    return len(data) == size and (crc == 0 or zlib.crc32(data) == crc)
