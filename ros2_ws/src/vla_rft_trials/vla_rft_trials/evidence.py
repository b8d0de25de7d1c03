"""Is what a report is made from still what was recorded? Lock, records, policies and videos, each by its hash.

Raises where a hash breaks; what is merely missing is listed, so that the report can say it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_rft_core.errors import ManifestError, VlaRftError
from vla_rft_core.manifest import read_manifest
from vla_rft_trials.identity import BUNDLE, PolicyChangedError, policy_digest
from vla_rft_trials.progress import check_log, file_sha256
from vla_rft_trials.protocol import PolicyEntry
from vla_rft_trials.study import SESSIONS, Study, StudyError, Unlocked
from vla_rft_trials.trial_log import LogContents

_CHAIN = ("dataset", "checkpoint")
"""What a bundle's manifest says of its origin comes in this order, then the rest."""


@dataclass(frozen=True)
class Link:
    """Where one policy came from, from its dataset to its trials."""

    code: str
    policy: str
    steps: tuple[tuple[str, str], ...]
    """(what, which), nearest to the trial last."""


def verify_evidence(study: Study, contents: LogContents) -> list[str]:
    """What is missing, in words; StudyError when a hash breaks."""
    check_log(study, contents)
    missing = []
    for record in contents.original:
        found = file_sha256(study.folder / record.video) if record.video else ""
        if record.video_sha256 and found and found != record.video_sha256:
            raise StudyError(f"{study.folder / record.video}: is not the video that was recorded with its trial")
        if record.video_sha256 and not found:
            missing.append(f"{record.video} is missing.")
    unlocked = study.unlocked()
    if unlocked is not None:
        missing += _verify_policies(study, contents, unlocked)
    return missing


def _verify_policies(study: Study, contents: LogContents, unlocked: Unlocked) -> list[str]:
    mapping, missing = unlocked.mapping, []
    if mapping.study != study.plan.study or set(mapping.codes) != set(study.plan.codes):
        raise StudyError(f"{study.folder}: unlocked.json is not of this study")
    for record in contents.original:
        if record.policy_stamp != mapping.stamp(record.policy, mapping.codes[record.policy].digest):
            raise StudyError(
                f"{study.folder}: trial {record.index + 1} did not run the policy that {record.policy} names"
            )
    for code, sealed in mapping.codes.items():
        entry = entry_of(study, sealed.name)
        try:
            digest = policy_digest(entry)
        except PolicyChangedError:
            if (Path(entry.bundle) / "manifest.json").exists():
                raise
            missing.append(f"The bundle of {sealed.name} is not here, so it was not hashed again.")
            continue
        if digest != sealed.digest:
            raise StudyError(f"{study.folder}: {sealed.name} ({code}) is not the policy that was locked any more")
    return missing


def entry_of(study: Study, name: str) -> PolicyEntry:
    """The protocol's policy of that name."""
    found = next((entry for entry in study.protocol.policies if entry.name == name), None)
    if found is None:
        raise StudyError(f"{study.folder}: unlocked.json names {name!r}, which the protocol does not have")
    return found


def provenance(study: Study) -> tuple[Link, ...]:
    """The chain behind each code; as long as the study is sealed, its end only."""
    unlocked = study.unlocked()
    if unlocked is None:
        return tuple(Link(code, code, (("policy", "sealed"),)) for code in study.plan.codes)
    links = []
    for code, sealed in unlocked.mapping.codes.items():
        entry = entry_of(study, sealed.name)
        steps = [(f"option {name}", str(value)) for name, value in entry.options.items()]
        steps = [("factory", entry.factory), *steps] if entry.factory else _bundle_steps(entry)
        links.append(Link(code, sealed.name, (*steps, ("policy, sha256", sealed.digest))))
    return tuple(links)


def _bundle_steps(entry: PolicyEntry) -> list[tuple[str, str]]:
    """What the bundle says of dataset, checkpoint and export, as far as it says anything."""
    try:
        metadata = read_manifest(Path(entry.bundle), kind=BUNDLE).metadata
    except ManifestError:
        return [("bundle", entry.bundle)]
    plain = [(name, str(value)) for name, value in metadata.items() if isinstance(value, str | int | float)]
    order = [name for name in _CHAIN if name in metadata]
    plain.sort(key=lambda step: order.index(step[0]) if step[0] in order else len(order))
    return [*plain, ("bundle", entry.bundle)]


def sessions(study: Study) -> list[Mapping[str, object]]:
    """Who ran the study, when, with what; oldest first."""
    path = study.folder / SESSIONS
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise SessionError(f"{path}, line {number}: not JSON ({error})") from None
    return found


class SessionError(VlaRftError):
    """The sessions cannot be read; one sentence."""
