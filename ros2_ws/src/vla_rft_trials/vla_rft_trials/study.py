"""A study's folder: locked once, then only added to. Names of what lies in it, locking, opening, unlocking.

towels-20261128/
  locked/             manifest.json over it is the study's identity; nothing in it changes again
    protocol.yaml     as it was given
    plan.json         placements, order, what this n can detect: code names only
    sealed.bin        one share of the mapping from code names to policies
    coverage.json     a copy, where the protocol names one
  sessions.jsonl      who ran it when, with which software, on which machine
  records.jsonl       the trial log (`records`)
  ratings.jsonl       second raters (`ratings`)
  videos/trial_001.mp4 ...
  unlocked.json       the mapping, once the study is over
  report.html report.md trials.csv contact_sheet.png    made from the above, again at any time
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vla_rft_core import config
from vla_rft_core.errors import ManifestError, VlaRftError
from vla_rft_core.files import sync, write_atomic
from vla_rft_core.manifest import read_manifest, verify, write_manifest
from vla_rft_trials import seal
from vla_rft_trials.placements import Coverage, Placement, draw_placements
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.schedule import Slot, draw_schedule
from vla_rft_trials.seal import Mapped, SealError
from vla_rft_trials.statistics.comparison import describe_detectable

KIND = "study"
LOCKED, PROTOCOL, PLAN, SEALED, COVERAGE = "locked", "protocol.yaml", "plan.json", "sealed.bin", "coverage.json"
RECORDS, RATINGS, SESSIONS = "records.jsonl", "ratings.jsonl", "sessions.jsonl"
UNLOCKED, VIDEOS = "unlocked.json", "videos"
REPORT, MARKDOWN, TABLE, CONTACT_SHEET = "report.html", "report.md", "trials.csv", "contact_sheet.png"


class StudyError(VlaRftError):
    """The folder is no study, or not one that this can be done with; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the lock drew."""

    study: str
    """Id: random, so that no two locks are the same study."""
    locked_ns: int
    """Stamp, CLOCK_REALTIME [ns]."""
    codes: tuple[str, ...]
    placements: tuple[Placement, ...]
    schedule: tuple[Slot, ...]
    human_times_s: tuple[float, ...] = ()
    """Of the operator's own demonstrations [s]: the protocol's, else those that its coverage file brings."""
    detectable: tuple[str, ...]
    """What so many trials can find at all, in words, as printed before the first one."""

    def placement(self, name: str) -> Placement:
        """By its id."""
        return next(placement for placement in self.placements if placement.id == name)


@dataclass(frozen=True, kw_only=True)
class Unlocked:
    """The mapping, in the open."""

    mapping: Mapped
    unlocked_ns: int
    """Stamp, CLOCK_REALTIME [ns]."""
    early: str
    """Why it was opened before all trials were done; empty when they were."""


@dataclass(frozen=True)
class Study:
    """A locked study, verified."""

    folder: Path
    protocol: Protocol
    plan: Plan
    digest: str
    """Of everything locked: what each trial's record names."""

    @property
    def records(self) -> Path:
        """The trial log; it may not exist yet."""
        return self.folder / RECORDS

    def unlocked(self) -> Unlocked | None:
        """The mapping, if the study has been unlocked."""
        path = self.folder / UNLOCKED
        if not path.exists():
            return None
        try:
            return config.from_mapping(Unlocked, json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError) as error:
            raise StudyError(f"{path}: cannot be read ({error})") from None

    def require_unlocked(self) -> Unlocked:
        """The mapping; StudyError while policies go by code names."""
        unlocked = self.unlocked()
        if unlocked is None:
            raise StudyError(f"{self.folder}: is not unlocked; python -m vla_rft_trials unlock {self.folder}")
        return unlocked

    def codes(self) -> tuple[str, ...]:
        """Code names in the order to show them: the protocol's once unlocked, the alphabet's until then."""
        unlocked = self.unlocked()
        if unlocked is None:
            return self.plan.codes
        order = [policy.name for policy in self.protocol.policies]
        return tuple(sorted(self.plan.codes, key=lambda code: order.index(unlocked.mapping.codes[code].name)))

    def mapping(self) -> Mapped:
        """The sealed mapping, for whoever runs the policies. SealError when the keeper's share is not here."""
        share = (self.folder / LOCKED / SEALED).read_bytes()
        if not self.protocol.blinded:
            return seal.join(share, bytes(len(share)), study=self.plan.study)
        theirs, locked = seal.kept(self.plan.study)
        if locked != self.digest:
            raise StudyError(f"{self.folder / LOCKED}: is not what was locked as study {self.plan.study}")
        return seal.join(share, theirs, study=self.plan.study)


def lock(protocol_file: Path, folder: Path) -> Study:
    """Draw placements, order and code names, and lock them with the protocol into a new folder.

    ValueError for a protocol that is none, StudyError when the folder exists, SealError when the keeper's share cannot
    be put away.
    """
    return lock_protocol(Protocol.load(protocol_file), protocol_file.read_bytes(), folder, beside=protocol_file.parent)


def lock_protocol(protocol: Protocol, text: bytes, folder: Path, *, beside: Path = Path()) -> Study:
    """`lock` for a protocol that was made, not read; `text` is its YAML. Coverage files are looked for in `beside`."""
    rule = protocol.placements
    coverage_file = beside / rule.coverage if rule.coverage else None
    coverage = Coverage.load(coverage_file) if coverage_file else None
    placements = draw_placements(rule, coverage=coverage)
    study = secrets.token_hex(8)
    mapped = seal.draw_mapping(study, protocol.policies, blinded=protocol.blinded)
    plan = Plan(
        study=study,
        locked_ns=time.time_ns(),
        codes=tuple(mapped.codes),
        placements=placements,
        schedule=draw_schedule(
            [p.id for p in placements], sorted(mapped.codes), repeats=protocol.repeats, seed=rule.seed
        ),
        human_times_s=protocol.human_times_s or (coverage.seconds if coverage else ()),
        detectable=_detectable(protocol),
    )
    ours, theirs = seal.split(mapped, blinded=protocol.blinded)
    locked = folder / LOCKED
    taken = next((name for name in (LOCKED, RECORDS, VIDEOS) if (folder / name).exists()), None)
    if taken:
        raise StudyError(f"{folder / taken} exists; a study is locked into a new folder")
    try:
        locked.mkdir(parents=True)
        (folder / VIDEOS).mkdir()
        (locked / PROTOCOL).write_bytes(text)
        (locked / PLAN).write_text(json.dumps(config.to_mapping(plan), indent=1) + "\n", encoding="utf-8")
        (locked / SEALED).write_bytes(ours)
        if coverage_file:
            shutil.copyfile(coverage_file, locked / COVERAGE)
        digest = write_manifest(locked, kind=KIND, metadata={"study": study, "title": protocol.title}).digest()
        if protocol.blinded:
            seal.keep(study, theirs, locked=digest)
        sync(folder)
    except (OSError, SealError) as error:
        for half in (locked, folder / VIDEOS):  # half a lock is none
            shutil.rmtree(half, ignore_errors=True)
        if isinstance(error, SealError):
            raise
        raise StudyError(f"cannot lock a study into {folder}: {error.strerror}") from None
    return open_study(folder)


def open_study(folder: Path) -> Study:
    """A study whose locked part is as it was locked; StudyError names the first file that is not."""
    locked = folder / LOCKED
    if not (locked / "manifest.json").is_file():
        raise StudyError(f"{folder} is not a study: it has no {LOCKED}/manifest.json")
    try:
        read_manifest(locked, kind=KIND)
        digest = verify(locked, kind=KIND).digest()
    except ManifestError as error:
        raise StudyError(f"{error}; a changed protocol is a new study: lock it into another folder") from None
    try:
        content = json.loads((locked / PLAN).read_text(encoding="utf-8"))
        plan = config.from_mapping(Plan, content, str(locked / PLAN))
        protocol = Protocol.load(locked / PROTOCOL)
    except (OSError, ValueError) as error:
        raise StudyError(f"{locked}: of another version ({error})") from None
    return Study(folder, protocol, plan, digest)


def unlock(study: Study, *, complete: bool, early: str = "") -> Unlocked:
    """Open the mapping for good; no trial is run afterwards. StudyError when trials are missing and `early` says no
    reason, or when a policy is no longer what was locked.
    """
    done = study.unlocked()
    if done is not None:
        return done
    if not complete and not early:
        raise StudyError(f"{study.folder}: trials are missing; --early REASON unlocks it all the same, and is reported")
    mapped = study.mapping()
    for code in mapped.codes:
        mapped.checked(code, study.protocol.policies)
    unlocked = Unlocked(mapping=mapped, unlocked_ns=time.time_ns(), early="" if complete else early)
    write_atomic(study.folder / UNLOCKED, (json.dumps(asdict(unlocked), indent=1) + "\n").encode())
    return unlocked


def names_of(unlocked: Unlocked | None, plan: Plan) -> Mapping[str, str]:
    """Code -> what to call it in a report: its policy's name once that is known."""
    if unlocked is None:
        return {code: code for code in plan.codes}
    return {code: sealed.name for code, sealed in unlocked.mapping.codes.items()}


def _detectable(protocol: Protocol) -> tuple[str, ...]:
    if len(protocol.policies) == 1:
        return ()
    paired = protocol.repeats == 1
    return tuple(describe_detectable(protocol.trials_per_policy, alpha=protocol.alpha, paired=paired))
