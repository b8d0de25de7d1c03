"""EpisodeInfo: what is to be known about an attempt beside its messages; plain data in manifest and MCAP metadata."""

from __future__ import annotations

import datetime
import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vla_rft_core import config
from vla_rft_core.clock import NS_PER_S, seconds
from vla_rft_core.spec import RobotSpec
from vla_rft_episodes.verdict import Verdict

_ID = re.compile(r"\d{8}T\d{6}\.\d{3}-[0-9a-f]{4}")
_suffixes = itertools.count(secrets.randbits(16))


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """One attempt. Example: id "20261121T034512.123-4f2a", task "fold_towel", prompt "fold the towel in half"."""

    id: str
    """UTC start with milliseconds, and four hex digits: see `new_episode_id`."""
    task: str
    """The named job."""
    prompt: str
    """The sentence given to the policy."""
    operator: str
    source: str
    """Who moved the arm: teleop, policy, ..."""
    policy_id: str = ""
    """Hash of the bundle or name of the expert; empty for teleoperation."""
    spec_name: str
    spec: Mapping[str, Any]
    """The RobotSpec as plain data."""
    calibration_id: str
    safety_profile: str
    simulated: bool
    seed: int | None = None
    """Of the simulated scene."""
    started_ns: int
    """Stamp (CLOCK_REALTIME)."""
    ended_ns: int = 0
    """0 while the attempt is open."""
    termination_reason: str = ""
    """What ended it: "operator stop", "time limit", "disk full", "signal", ...; empty while it is open."""
    software: Mapping[str, str] = field(default_factory=dict)
    """Name -> version."""
    expected_hz: Mapping[str, float] = field(default_factory=dict)
    """Topic -> messages per second that should come [Hz]."""
    messages: Mapping[str, int] = field(default_factory=dict)
    """Topic -> messages in the file."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Topic -> messages that came and were not recorded."""
    extra: Mapping[str, str | float | int] = field(default_factory=dict)
    """Whatever else is worth keeping, for example what was randomised."""
    verdict: Verdict | None = None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: expected one like '20261121T034512.123-4f2a', got {self.id!r}")
        if self.started_ns <= 0:
            raise ValueError(f"started_ns: expected a stamp in ns, got {self.started_ns}")

    @property
    def duration_s(self) -> float:
        """Start to end [s]; 0 while it is open."""
        return seconds(max(self.ended_ns - self.started_ns, 0))

    @property
    def robot_spec(self) -> RobotSpec:
        """The spec; ValueError when the plain data is none."""
        return config.from_mapping(RobotSpec, self.spec, f"episode {self.id}: spec")

    def to_plain(self) -> dict[str, Any]:
        """As dicts, lists and scalars that JSON can hold."""
        return config.to_mapping(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], where: str) -> EpisodeInfo:
        """From plain data; ValueError names `where` and the field."""
        return config.from_mapping(cls, plain, where)


def new_episode_id(now_ns: int) -> str:
    """An id for an attempt that starts at `now_ns` (stamp); sorts by time, differs for 65536 calls of one process.

    Two processes may draw the same one; `EpisodeWriter.create` refuses it then.
    """
    return episode_id(now_ns, next(_suffixes))


def episode_id(started_ns: int, number: int) -> str:
    """The id of an attempt that started at a stamp; `number` (lowest 16 bits) tells those of one millisecond apart."""
    second = datetime.datetime.fromtimestamp(started_ns // NS_PER_S, tz=datetime.UTC)
    return f"{second:%Y%m%dT%H%M%S}.{started_ns % NS_PER_S // 1_000_000:03d}-{number & 0xFFFF:04x}"


def is_episode_id(text: str) -> bool:
    """The name of a finished attempt's folder."""
    return _ID.fullmatch(text) is not None
