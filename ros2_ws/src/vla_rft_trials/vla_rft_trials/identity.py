"""What a policy is, as a hash: of its bundle folder, or of the factory and options that make it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vla_rft_core.config import to_mapping
from vla_rft_core.errors import ManifestError, VlaRftError
from vla_rft_core.manifest import verify
from vla_rft_trials.protocol import PolicyEntry

BUNDLE = "bundle"
"""Kind of a bundle's manifest."""


class PolicyChangedError(VlaRftError):
    """A policy is not the one that was locked, or not whole."""


def policy_digest(entry: PolicyEntry) -> str:
    """sha256 that names the policy. A bundle's files are all hashed again; PolicyChangedError when one is not right."""
    if entry.bundle:
        try:
            return verify(Path(entry.bundle), kind=BUNDLE).digest()
        except (ManifestError, OSError) as error:
            raise PolicyChangedError(f"policy {entry.name!r}: {error}") from None
    content = json.dumps({"factory": entry.factory, "options": to_mapping(entry.options)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
