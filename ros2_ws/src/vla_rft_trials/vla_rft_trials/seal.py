"""The sealed mapping from code names to policies: two shares, neither of which says anything alone.

One share lies in the study, the other in the keeper's folder (`VLA_RFT_KEEPER`, else the user's state folder): the
mapping is one xor the other, and the keeper's share is random, so that whoever sees the study alone has nothing,
however long they compute. The process that runs the policies reads both. It keeps honest people blind; one who opens
both on purpose is kept out only where the keeper's folder belongs to another account.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_uppercase

from vla_rft_core.config import from_mapping
from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import write_atomic
from vla_rft_trials.identity import PolicyChangedError, policy_digest
from vla_rft_trials.protocol import PolicyEntry

KEEPER_ENVIRONMENT = "VLA_RFT_KEEPER"
_PAD = 4096
"""Shares are multiples of this long [B]."""


class SealError(VlaRftError):
    """The mapping cannot be opened; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """What a code name stands for."""

    name: str
    digest: str
    """`policy_digest` at the time of the lock."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """The opened mapping."""

    study: str
    """Id of the study."""
    codes: Mapping[str, Sealed]
    secret: str
    """Random hex; makes `stamp` say nothing to whoever does not have it."""

    def stamp(self, code: str, digest: str) -> str:
        """What a trial's record says of the policy that really ran: provable later, and until then without meaning."""
        return hashlib.sha256(f"{self.secret} {code} {digest}".encode()).hexdigest()

    def checked(self, code: str, policies: Sequence[PolicyEntry]) -> tuple[PolicyEntry, str]:
        """(policy, stamp) behind a code, once it is what was locked. PolicyChangedError tells no more than the code."""
        sealed = self.codes.get(code)
        entry = next((p for p in policies if sealed is not None and p.name == sealed.name), None)
        if sealed is None or entry is None:
            raise SealError(f"study {self.study} has no policy {code!r}; it has {', '.join(sorted(self.codes))}")
        try:
            digest = policy_digest(entry)
        except PolicyChangedError:
            digest = ""
        if digest != sealed.digest:
            raise PolicyChangedError(f"the policy behind {code} is not the one that was locked: it was changed")
        return entry, self.stamp(code, digest)


def code_names(count: int) -> tuple[str, ...]:
    """A, B, C, ..."""
    if count > len(ascii_uppercase):
        raise ValueError(f"at most {len(ascii_uppercase)} policies have code names, got {count}")
    return tuple(ascii_uppercase[:count])


def draw_mapping(study: str, policies: Sequence[PolicyEntry], *, blinded: bool) -> Mapped:
    """Who gets which code: by the system's own randomness, never a seed; unblinded, each policy's code is its name."""
    names = list(policies)
    if blinded:
        secrets.SystemRandom().shuffle(names)
    codes = code_names(len(names)) if blinded else [p.name for p in names]
    mapped = {c: Sealed(name=p.name, digest=policy_digest(p)) for c, p in zip(codes, names, strict=True)}
    return Mapped(study=study, codes=dict(sorted(mapped.items())), secret=secrets.token_hex(32))


def keeper_folder() -> Path:
    """Where the keeper's shares are: `VLA_RFT_KEEPER`, else the user's state folder."""
    if named := os.environ.get(KEEPER_ENVIRONMENT, ""):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME", "") or Path.home() / ".local" / "state") / "vla_rft" / "keeper"


def split(mapped: Mapped, *, blinded: bool) -> tuple[bytes, bytes]:
    """(the study's share, the keeper's share). Padded, so that lengths say nothing; unblinded, the first is plain."""
    text = json.dumps(asdict(mapped)).encode()
    text = text.ljust(-(-len(text) // _PAD) * _PAD)
    theirs = secrets.token_bytes(len(text)) if blinded else bytes(len(text))
    return _xor(text, theirs), theirs


def join(share: bytes, theirs: bytes, *, study: str) -> Mapped:
    """The mapping; SealError when the shares do not belong together."""
    try:
        mapped = from_mapping(Mapped, json.loads(_xor(share, theirs)), "mapping")
    except ValueError:
        raise SealError(f"the two shares of study {study}'s mapping do not belong together") from None
    if mapped.study != study:
        raise SealError(f"the sealed mapping is of study {mapped.study}, not of {study}")
    return mapped


def keep(study: str, share: bytes, *, locked: str) -> Path:
    """Put the keeper's share away, with the digest of what was locked; SealError when that is not possible."""
    path = keeper_folder() / f"{study}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"study": study, "locked": locked, "share": share.hex()}).encode())
        path.chmod(0o600)
    except OSError as error:
        raise SealError(f"the keeper's share cannot be written to {path}: {error.strerror}") from None
    return path


def kept(study: str) -> tuple[bytes, str]:
    """(the keeper's share, digest of what was locked); SealError when it is not there."""
    path = keeper_folder() / f"{study}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return bytes.fromhex(content["share"]), str(content["locked"])
    except FileNotFoundError:
        raise SealError(
            f"the keeper's share of study {study} is not in {path.parent}; {KEEPER_ENVIRONMENT} names another folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SealError(f"{path}: is not a keeper's share ({error})") from None


def _xor(a: bytes, b: bytes) -> bytes:
    if len(a) != len(b):
        raise ValueError("shares differ in length")
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
