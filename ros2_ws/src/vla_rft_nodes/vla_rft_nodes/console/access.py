"""Who may look, and who may ask for what: loopback or a token, the lease, and the workstation's own page.

Pure rules; they know neither sockets nor ROS. What the arm itself permits is robot_node's business, behind them.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers of a proxy: who speaks through one is not at the workstation, whatever the address says."""
TOKEN_BYTES = 32


class Need(Flag):
    """What a word asks of the page that says it."""

    NOTHING = 0
    """Whoever may look may say it."""
    LEASE = auto()
    """It moves the arm, or decides about an attempt or a trial."""
    LOOPBACK = auto()
    """Only from the workstation itself."""


NEEDS: Mapping[str, Need] = {
    "hold": Need.NOTHING,
    "take": Need.NOTHING,
    "give": Need.LEASE,
    "take over": Need.LOOPBACK,
    "rearm": Need.LEASE | Need.LOOPBACK,
    "ready": Need.LEASE,
    "maintenance": Need.LEASE,
    "home": Need.LEASE,
    "session": Need.LEASE,
    "key": Need.LEASE,
    "trials": Need.LEASE,
    "pause": Need.LEASE,
    "judge": Need.LEASE,
    "doctor": Need.LEASE,
}
"""Every word that a page may say -> what it takes."""


@dataclass(frozen=True)
class Peer:
    """The other end of a connection."""

    loopback: bool
    """It is the workstation itself, directly."""
    origin_is_ours: bool
    """The page that opened it came from this server; a page of somebody else's site did not."""

    @classmethod
    def of(cls, address: str, headers: Mapping[str, str]) -> Peer:
        """From the address of the socket's other end and the request's headers (names in lower case)."""
        try:
            near = ipaddress.ip_address(address).is_loopback
        except ValueError:
            near = False
        host = headers.get("host", "")
        # A name that somebody's DNS points at 127.0.0.1 is not the workstation's own page.
        near = near and _name_of(host) in LOOPBACK_NAMES and not any(name in headers for name in FORWARDED)
        origin = headers.get("origin", "")
        ours = not origin or origin in (f"http://{host}", f"https://{host}")
        return cls(loopback=near, origin_is_ours=ours)


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def refusal(word: str, *, loopback: bool, has_lease: bool, holder: str) -> str:
    """Why this page may not say `word`, in one sentence; empty when it may. `holder`: who has the lease, or ""."""
    if word not in NEEDS:
        return f"there is no {word!r} here"
    need = NEEDS[word]
    if Need.LOOPBACK in need and not loopback:
        return f"{word} is done at the cell: on the workstation's own page, the pedal or the terminal"
    if Need.LEASE in need and not has_lease:
        who = f"{holder} has control" if holder else "nobody has control yet"
        return f"{who}; take control first"
    return ""


class Token:
    """The secret that pages from other machines show. Kept in a file that only its owner may read."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def from_file(cls, path: Path) -> Token:
        """Read it, or make it (mode 600) when there is none; ValueError when others may read the file."""
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise ValueError(f"{path}: others may read this token (mode {mode:o}); chmod 600 it") from None
        except OSError as error:
            raise ValueError(f"{path}: cannot hold a token ({error.strerror})") from None
        else:
            with os.fdopen(made, "w") as file:
                file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        secret = path.read_text().strip()
        if len(secret) < 16:
            raise ValueError(f"{path}: holds {len(secret)} characters, and a token has at least 16; remove the file")
        return cls(secret)

    def fits(self, offered: object) -> bool:
        """Compared in constant time."""
        return isinstance(offered, str) and hmac.compare_digest(offered.encode(), self._secret)
