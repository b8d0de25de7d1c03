"""Is everything in a collection as it was written? Every file is hashed again; nothing is changed.

Says what is wrong and with which file; what can be mended, `repair` mends.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vla_rft_core import manifest
from vla_rft_core.errors import ManifestError, SpecMismatchError
from vla_rft_episodes import layout
from vla_rft_episodes.attempt import State, attempt_id, examine
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.info import EpisodeInfo, is_episode_id
from vla_rft_episodes.labels import FILE_NAME as LABELS_NAME
from vla_rft_episodes.labels import Labels
from vla_rft_episodes.repair import REPAIR_PREFIX


class Kind(StrEnum):
    """What is the matter. The first three are no fault."""

    RECORDING = "recording"
    REPAIRED = "repaired"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNFINISHED = "unfinished"
    FOREIGN = "foreign"
    ALTERED = "altered"
    MISSING = "missing"
    SPEC = "other spec"
    ORPHANED = "orphaned"
    DUPLICATE = "duplicate"
    VERSION = "other version"
    TORN = "torn label"


HARMLESS = frozenset({Kind.RECORDING, Kind.REPAIRED, Kind.EMPTY})
_OF_ATTEMPT = {
    State.RECORDING: Kind.RECORDING,
    State.REPAIRED: Kind.REPAIRED,
    State.EMPTY: Kind.EMPTY,
    State.TRUNCATED: Kind.TRUNCATED,
    State.NO_MANIFEST: Kind.UNFINISHED,
    State.NOT_RENAMED: Kind.UNFINISHED,
}


@dataclass(frozen=True)
class Finding:
    """One thing to know about one file or folder."""

    kind: Kind
    path: str
    """Relative to the collection."""
    sentence: str

    @property
    def wrong(self) -> bool:
        """Whether something must be done about it."""
        return self.kind not in HARMLESS


@dataclass(frozen=True)
class Report:
    """What a check found."""

    collection: Path
    intact: tuple[str, ...]
    """Ids of the finished episodes with nothing wrong, oldest first."""
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)

    def to_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        findings = [{"kind": f.kind, "path": f.path, "wrong": f.wrong, "sentence": f.sentence} for f in self.findings]
        return {"collection": str(self.collection), "clean": self.clean, "intact": self.intact, "findings": findings}


def fsck(collection: Path) -> Report:
    """Check every file of a collection; EpisodeError when there is none."""
    if not collection.is_dir():
        raise EpisodeError(f"{collection}: no such collection")
    findings: list[Finding] = []
    finished: dict[str, EpisodeInfo] = {}
    seen: set[str] = set()
    for entry in sorted(collection.iterdir()):
        if entry.name == LABELS_NAME and entry.is_file():
            continue
        if entry.is_dir() and entry.name.startswith(layout.OPEN_PREFIX):
            findings.append(_check_attempt(entry))
            seen.add(attempt_id(entry))
        elif entry.is_dir() and entry.name.startswith(REPAIR_PREFIX):
            findings.append(Finding(Kind.UNFINISHED, entry.name, "a repair was interrupted; repair does it again"))
        elif entry.is_dir():
            info = _check_finished(entry, findings)
            seen.add(entry.name)
            if info is not None:
                finished[entry.name] = info
        elif entry.suffix == ".mcap":
            findings.append(Finding(Kind.ORPHANED, entry.name, "an MCAP file without a manifest"))
        else:
            findings.append(Finding(Kind.FOREIGN, entry.name, "does not belong to a collection"))
    findings += _check_specs(finished)
    findings += _check_labels(collection, seen)
    wrong = {finding.path.partition("/")[0] for finding in findings if finding.wrong}
    return Report(collection, tuple(name for name in finished if name not in wrong), tuple(findings))


def _check_attempt(folder: Path) -> Finding:
    if not is_episode_id(attempt_id(folder)):
        return Finding(Kind.FOREIGN, folder.name, "is no open attempt: what follows the prefix is no episode id")
    try:
        attempt = examine(folder)
    except EpisodeError as error:
        return Finding(Kind.FOREIGN, folder.name, str(error))
    if attempt.state is not State.REPAIRED and folder.with_name(attempt.episode_id).exists():
        return Finding(Kind.DUPLICATE, folder.name, "is open, but a finished episode has its id and is not its repair")
    return Finding(_OF_ATTEMPT[attempt.state], folder.name, attempt.describe())


def _check_finished(folder: Path, findings: list[Finding]) -> EpisodeInfo | None:
    """The episode's info, None when it has none; what is wrong is added to the findings."""

    def found(kind: Kind, sentence: str, name: str = "") -> None:
        findings.append(Finding(kind, f"{folder.name}/{name}" if name else folder.name, sentence))

    path = folder / manifest.FILE_NAME
    if not path.exists():
        if (folder / layout.MCAP_NAME).exists():
            found(Kind.ORPHANED, "holds an MCAP file without a manifest")
        else:
            found(Kind.FOREIGN, "is no episode: it has neither manifest nor MCAP file")
        return None
    refusal = _refusal(path)
    if refusal is not None:
        found(*refusal, manifest.FILE_NAME)
        return None
    try:
        listed = manifest.read_manifest(folder, kind=layout.KIND)
    except ManifestError as error:
        found(Kind.ALTERED, str(error), manifest.FILE_NAME)
        return None
    for kind, name, sentence in _check_files(folder, listed):
        found(kind, sentence, name)
    try:
        info = EpisodeInfo.from_plain(listed.metadata, f"{folder.name}/{manifest.FILE_NAME}")
    except ValueError as error:
        found(Kind.VERSION, f"what it says of the episode cannot be read: {error}", manifest.FILE_NAME)
        return None
    if info.id != folder.name:
        twin = folder.with_name(info.id).exists()
        what_then = "which is here already" if twin else "and must have its name"
        sentence = f"holds episode {info.id}, {what_then}"
        found(Kind.DUPLICATE if twin else Kind.FOREIGN, sentence)
        return None
    return info


def _refusal(path: Path) -> tuple[Kind, str] | None:
    """Why a manifest is not one of ours, before its fields are looked at."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, version = content["kind"], content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Kind.ALTERED, f"the manifest cannot be read ({error})"
    if kind != layout.KIND:
        return Kind.FOREIGN, f"is the manifest of kind {kind!r}, expected {layout.KIND!r}"
    if version != manifest.VERSION:
        return Kind.VERSION, f"has format version {version!r}, this software reads {manifest.VERSION}"
    return None


def _check_files(folder: Path, listed: manifest.Manifest) -> Iterator[tuple[Kind, str, str]]:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted(present - set(listed.files) - {manifest.FILE_NAME}):
        yield Kind.FOREIGN, name, "is not in the manifest"
    for name, entry in sorted(listed.files.items()):
        if name not in present:
            yield Kind.MISSING, name, "is in the manifest but missing"
            continue
        actual = manifest.hash_file(folder / name)
        if actual.size != entry.size:
            yield Kind.ALTERED, name, f"has {actual.size} bytes, the manifest says {entry.size}"
        elif actual != entry:
            yield Kind.ALTERED, name, "its content was altered since the manifest was written (sha256 differs)"


def _check_specs(finished: dict[str, EpisodeInfo]) -> Iterator[Finding]:
    """Episodes whose spec is not that of the most; of equally many, that of the oldest."""
    texts = {name: json.dumps(info.spec, sort_keys=True) for name, info in finished.items()}
    if len(set(texts.values())) < 2:
        return
    common = Counter(texts.values()).most_common(1)[0][0]
    reference = next(name for name, text in texts.items() if text == common)
    for name, text in texts.items():
        if text == common:
            continue
        try:
            spec = finished[name].robot_spec
            spec.require_same(finished[reference].robot_spec, ours="it", theirs=f"episode {reference}")
        except (SpecMismatchError, ValueError) as error:
            yield Finding(Kind.SPEC, name, str(error))


def _check_labels(collection: Path, known: set[str]) -> Iterator[Finding]:
    labels = Labels(collection)
    try:
        named = {entry.episode for entry in labels.history()}
    except (OSError, EpisodeError) as error:
        yield Finding(Kind.ALTERED, LABELS_NAME, f"cannot be read ({error})")
        return
    for episode_id in sorted(named - known):
        yield Finding(Kind.ORPHANED, LABELS_NAME, f"labels episode {episode_id!r}, which is not here")
    for number in labels.torn:
        yield Finding(Kind.TORN, LABELS_NAME, f"line {number + 1} was cut short while being written and does not count")
