"""Hash and verify a folder: episodes, datasets, checkpoints, bundles, calibrations and studies all use this.

`manifest.json` holds a kind, a format version, free metadata, and sha256 and size of every other file in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla_rft_core.errors import ManifestError

FILE_NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of the folder."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Manifest:
    """What a folder holds. Example: kind "episode", files {"episode.mcap": FileEntry(...)}."""

    kind: str
    files: Mapping[str, FileEntry]
    """Path relative to the folder (posix) -> entry."""
    metadata: Mapping[str, Any]
    version: int = VERSION

    def digest(self) -> str:
        """sha256 over kind, metadata and all file hashes: the identity of the folder."""
        return hashlib.sha256(_dump(self).encode()).hexdigest()


def hash_file(path: Path) -> FileEntry:
    """sha256 and size of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileEntry(sha256=digest.hexdigest(), size=path.stat().st_size)


def write_manifest(folder: Path, *, kind: str, metadata: Mapping[str, Any]) -> Manifest:
    """Hash every file below `folder` and write its manifest atomically; ManifestError when there already is one."""
    target = folder / FILE_NAME
    if target.exists():
        raise ManifestError(f"{target}: exists already and is not overwritten")
    manifest = Manifest(
        kind=kind,
        files={name: hash_file(folder / name) for name in _file_names(folder)},
        metadata=dict(metadata),
    )
    _write(folder, manifest)
    return manifest


def amend_manifest(folder: Path, *, kind: str, metadata: Mapping[str, Any]) -> Manifest:
    """Replace the metadata of a folder whose files are all as they were written, and so its identity; atomic.

    ManifestError when a file is not as it was written; the old manifest stays then.
    """
    manifest = replace(verify(folder, kind=kind), metadata=dict(metadata))
    _write(folder, manifest)
    return manifest


def _write(folder: Path, manifest: Manifest) -> None:
    text = _dump(manifest) + "\n"
    temporary = folder / f".{FILE_NAME}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / FILE_NAME)


def read_manifest(folder: Path, *, kind: str) -> Manifest:
    """The manifest as written, files not checked; ManifestError when missing, malformed, of another kind or version."""
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileEntry(sha256=str(e["sha256"]), size=int(e["size"])) for name, e in content["files"].items()}
        manifest = Manifest(
            kind=content["kind"], files=files, metadata=dict(content["metadata"]), version=content["version"]
        )
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file, so {folder} is not a finished {kind}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ManifestError(f"{path}: malformed ({error})") from None
    if manifest.kind != kind:
        raise ManifestError(f"{path}: is of kind {manifest.kind!r}, expected {kind!r}")
    if manifest.version != VERSION:
        raise ManifestError(f"{path}: has format version {manifest.version}, this software reads {VERSION}")
    return manifest


def verify(folder: Path, *, kind: str) -> Manifest:
    """The manifest after every file was hashed again; ManifestError names the first file missing, added or altered."""
    manifest = read_manifest(folder, kind=kind)
    present = set(_file_names(folder))
    for name in sorted(present - set(manifest.files)):
        raise ManifestError(f"{folder / name}: is not in the manifest")
    for name, entry in manifest.files.items():
        if name not in present:
            raise ManifestError(f"{folder / name}: is in the manifest but missing")
        if hash_file(folder / name) != entry:
            raise ManifestError(f"{folder / name}: was altered since the manifest was written")
    return manifest


def _file_names(folder: Path) -> list[str]:
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if not name.startswith(f".{FILE_NAME}.") and name != FILE_NAME)


def _dump(manifest: Manifest) -> str:
    content = {
        "kind": manifest.kind,
        "version": manifest.version,
        "metadata": dict(manifest.metadata),
        "files": {name: {"sha256": e.sha256, "size": e.size} for name, e in sorted(manifest.files.items())},
    }
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
