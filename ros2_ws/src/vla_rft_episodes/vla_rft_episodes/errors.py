"""What can go wrong with an episode file: one sentence each, fit for an operator."""

from __future__ import annotations

from vla_rft_core.errors import VlaRftError


class EpisodeError(VlaRftError):
    """An episode cannot be written, read or found; the message names the file and the cause."""


class DiskFullError(EpisodeError):
    """Nothing more fits on the disk (or below the file-size limit); what was written before can be repaired."""


class TruncatedError(EpisodeError):
    """The file has no proper end: its recorder died, or it is being written; `repair` recovers what is there."""
