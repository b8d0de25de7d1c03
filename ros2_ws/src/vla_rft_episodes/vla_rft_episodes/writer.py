"""EpisodeWriter: one attempt into one MCAP file, finished by one rename.

Whatever ends the process, what was flushed can be recovered, and a folder without a leading dot is complete. Same
calls, same bytes: chunks end by size and by the messages' own times (and in `flush_if_due`, for live recorders only).
It does not know where messages come from, and never looks inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mcap.writer import CompressionType, Writer

from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import sync
from vla_rft_core.manifest import write_manifest
from vla_rft_episodes import layout
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo
from vla_rft_episodes.messages import message_class, schema_text, type_hash
from vla_rft_episodes.output import OutputFile, write_error
from vla_rft_episodes.verdict import Quality, Verdict

CHUNK_BYTES = 1 << 20
FLUSH_NS = 500_000_000
"""No message waits longer for its chunk to be written."""
SYNC_NS = 1_000_000_000
"""Shortest time between two waits for the disk."""


class EpisodeWriter:
    """Writes one attempt. One thread at a time.

    Example: `writer = EpisodeWriter.create(collection, info, cell=cell)`, many `write`, then `finish` or `abandon`.
    """

    def __init__(self, folder: Path, output: OutputFile, info: EpisodeInfo, clock: Clock) -> None:
        self._folder, self._output, self._info, self._clock = folder, output, info, clock
        self._writer = Writer(output, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)  # type: ignore[arg-type]
        self._channels: dict[Channel, int] = {}
        self._messages: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._chunk_began_ns: int | None = None
        """Receive time of the first message since the last flush."""
        self._flushed_ns = self._synced_ns = clock.monotonic_ns()
        self._synced_bytes = 0
        self._refusal = ""
        """Why nothing more can be written; empty while it can."""

    @classmethod
    def create(
        cls, collection: Path, info: EpisodeInfo, *, cell: CellFolder | Mapping[str, bytes], clock: Clock | None = None
    ) -> EpisodeWriter:
        """Begin an attempt in a collection, which is made when there is none; `cell` gives the attachments, or is them.

        EpisodeError when the id is taken or nothing can be written there.
        """
        folder = collection / f"{layout.OPEN_PREFIX}{info.id}"
        if (collection / info.id).exists():
            raise EpisodeError(f"{collection}: episode {info.id} exists already")
        try:
            collection.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            raise EpisodeError(
                f"{folder}: an attempt of that id is open already, or the collection is a file"
            ) from None
        except OSError as error:
            raise write_error(folder, error) from None
        attachments = layout.cell_attachments(cell) if isinstance(cell, CellFolder) else cell
        writer = cls(folder, OutputFile(folder / layout.MCAP_NAME), info, clock or SystemClock())
        writer._guarded(lambda: writer._begin(attachments))
        return writer

    @property
    def path(self) -> Path:
        """The folder of the open attempt."""
        return self._folder

    @property
    def info(self) -> EpisodeInfo:
        """What is known of the attempt, with the counts so far."""
        return replace(self._info, messages=dict(self._messages), dropped=dict(self._dropped))

    @property
    def bytes_written(self) -> int:
        """Size of the file so far."""
        return self._output.tell()

    def write(self, channel: Channel, data: bytes, *, stamp_ns: int, received_ns: int) -> None:
        """One message: CDR bytes, the stamp of its header and when it arrived (both CLOCK_REALTIME).

        EpisodeError when it cannot be written; from then on every call is refused.
        """
        if min(stamp_ns, received_ns) < 0:
            raise EpisodeError(f"{channel.topic}: stamps must not be negative, got {stamp_ns} and {received_ns} ns")
        if channel not in self._channels:
            self._check(channel)
        if self._chunk_began_ns is not None and abs(received_ns - self._chunk_began_ns) >= FLUSH_NS:
            self._flush()
        self._guarded(lambda: self._add(channel, data, stamp_ns, received_ns))

    def dropped(self, channel: Channel, count: int) -> None:
        """`count` messages came and were not recorded."""
        if count:
            self._dropped[channel.topic] = self._dropped.get(channel.topic, 0) + count

    def flush_if_due(self) -> None:
        """For a live recorder, several times a second: no message stays in memory longer than FLUSH_NS."""
        if self._clock.monotonic_ns() - self._flushed_ns >= FLUSH_NS:
            self._flush()

    def finish(
        self,
        *,
        ended_ns: int,
        termination_reason: str,
        verdict: Verdict | Callable[[Path], Verdict] | None = None,
    ) -> Path:
        """End the attempt: the folder it now has. A callable is given the closed MCAP file and judges it.

        EpisodeError when it cannot be finished; what was written stays as an open attempt, to be repaired.
        """
        self._info = replace(self.info, ended_ns=ended_ns, termination_reason=termination_reason)
        self._guarded(self._end)
        self._refusal = f"{self._folder}: is finished, nothing more can be written"
        try:  # the file stays open, and so locked, until it is in its place: nobody may repair it meanwhile
            if callable(verdict):
                verdict = judged(verdict, self._folder / layout.MCAP_NAME)
            return self._put_in_place(replace(self._info, verdict=verdict))
        finally:
            self._output.close()

    def abandon(self) -> None:
        """Close the file as it is; the open attempt stays, to be repaired."""
        self._close(f"{self._folder}: was abandoned, nothing more can be written")

    # --- inside -----------------------------------------------------------------------------------------------

    def _put_in_place(self, info: EpisodeInfo) -> Path:
        target = self._folder.with_name(info.id)
        try:
            write_manifest(self._folder, kind=layout.KIND, metadata=info.to_plain())
            sync(self._folder)
            self._folder.rename(target)
            sync(target.parent)
        except OSError as error:
            raise write_error(self._folder, error) from None
        self._info = info
        return target

    def _begin(self, attachments: Mapping[str, bytes]) -> None:
        self._writer.start(layout.PROFILE, layout.LIBRARY)
        self._writer.add_metadata(layout.START_RECORD, layout.start_metadata(self._info))
        for name, content in attachments.items():
            started_ns = self._info.started_ns
            self._writer.add_attachment(started_ns, started_ns, name, "application/yaml", content)
        self._sync()
        sync(self._folder)
        sync(self._folder.parent)

    def _add(self, channel: Channel, data: bytes, stamp_ns: int, received_ns: int) -> None:
        count = self._messages.get(channel.topic, 0)
        if channel not in self._channels:
            self._channels[channel] = self._register(channel)
        if self._chunk_began_ns is None:
            self._chunk_began_ns = received_ns
        self._writer.add_message(
            self._channels[channel], log_time=received_ns, data=data, publish_time=stamp_ns, sequence=count
        )
        self._messages[channel.topic] = count + 1

    def _check(self, channel: Channel) -> None:
        for other in self._channels:
            if other.topic == channel.topic:
                raise EpisodeError(f"{channel.topic}: was recorded as {other.type}, now comes as {channel.type}")
        message_class(channel.type)

    def _register(self, channel: Channel) -> int:
        text, hashed = schema_text(channel.type), type_hash(channel.type)
        schema = self._writer.register_schema(channel.type, layout.SCHEMA_ENCODING, text.encode())
        metadata = layout.channel_metadata(channel, hashed)
        return self._writer.register_channel(channel.topic, layout.MESSAGE_ENCODING, schema, metadata)

    def _flush(self) -> None:
        self._guarded(self._writer.flush)
        self._chunk_began_ns = None
        self._flushed_ns = now_ns = self._clock.monotonic_ns()
        if now_ns - self._synced_ns >= SYNC_NS and self._output.tell() > self._synced_bytes:
            self._guarded(self._sync)

    def _sync(self) -> None:
        self._output.sync()
        self._synced_ns, self._synced_bytes = self._clock.monotonic_ns(), self._output.tell()

    def _end(self) -> None:
        self._writer.flush()
        self._writer.add_metadata(layout.END_RECORD, layout.end_metadata(self._info))
        self._writer.finish()
        self._output.sync()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it unless something failed before: a chunk half written must stay the last thing in the file."""
        if self._refusal:
            raise EpisodeError(self._refusal)
        try:
            action()
        except EpisodeError as error:
            self._refusal = f"nothing more is written after: {error}"
            self._output.close()
            raise

    def _close(self, refusal: str) -> None:
        if not self._refusal:
            self._output.close()
        self._refusal = refusal


def judged(judge: Callable[[Path], Verdict], path: Path) -> Verdict:
    """The verdict; an attempt is not lost because it cannot be judged."""
    try:
        return judge(path)
    except (VlaRftError, ValueError) as error:
        return Verdict(Quality.SUSPECT, (f"could not be judged: {error}",))
