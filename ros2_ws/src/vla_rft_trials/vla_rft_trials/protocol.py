"""Protocol: what a study will do, written down before its first trial. YAML, checked strictly; see docs/trials.md.

Everything that could be decided afterwards in somebody's favour is decided here: what success is, how many trials,
which of them count, when to stop. Knows nothing of robots, files of a study, or who runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from vla_rft_core import config
from vla_rft_core.config import did_you_mean

PROTECTIVE_STOP = "protective stop"
FAILURE_MODES = ("poor grasp", "no grasp", "drop", "joint limit", "time-out", PROTECTIVE_STOP)
"""The paper's Table 11, and the stop that a safety rule makes."""


class Rule(StrEnum):
    """What becomes of a trial that did not end by success, time or the policy itself."""

    FAILURE = "failure"
    """It counts against the policy."""
    REPEAT = "repeat"
    """It is void, kept, and its place is filled by a new trial that names it."""
    VOID = "void"
    """It is void and kept; its place stays empty."""


@dataclass(frozen=True, kw_only=True)
class PolicyEntry:
    """One policy of a study: a bundle folder, or a factory with its options."""

    name: str
    """As it is called once the study is unlocked."""
    bundle: str = ""
    """Folder of a bundle; its identity is the digest of its manifest. A path, relative to where the study is run."""
    factory: str = ""
    """ "module:function" that makes the policy; its identity is the hash of this and of the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory."""
    method: str = ""
    """Policies of several training seeds of one method share it; empty: the policy is its own."""

    def __post_init__(self) -> None:
        if not self.name or bool(self.bundle) == bool(self.factory):
            raise ValueError(f"policy {self.name!r} needs a name and either a bundle or a factory")
        if self.options and not self.factory:
            raise ValueError(f"policy {self.name!r}: options are a factory's, a bundle has none")


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where an object's middle may lie, in base."""

    x: tuple[float, float]
    """[m]"""
    y: tuple[float, float]
    """[m]"""
    yaw_deg: tuple[float, float]
    """Direction of its long side [deg]."""

    def __post_init__(self) -> None:
        for name in ("x", "y", "yaw_deg"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"region: {name} must rise, got {low:g} to {high:g}")


@dataclass(frozen=True, kw_only=True)
class PlacementRule:
    """How the starts are drawn when the study is locked. Every policy gets every one of them."""

    count: int
    seed: int
    """Equal seeds give equal placements."""
    draw: str = ""
    """Simulation: factory "module:function" that gives the placement of a seed; the study takes seed, seed + 1, ...
    A draw may also say where the hand starts (`hand`, from home): such studies run in-process only."""
    region: Region | None = None
    """Uniform within it; with `draw`, only draws inside of it are taken."""
    coverage: str = ""
    """File of `vla_rft_episodes coverage --json`: which cells of the table the demonstrations began in."""
    unseen: int = 0
    """With `coverage`: so many placements in cells without a demonstration, the rest in cells with one."""
    grasp_offset_m: float = 0.0
    """With `coverage`: from the object's middle to where it is taken, along its long side towards larger y [m]."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(f"need count >= 1 and seed >= 0, got {self.count} and {self.seed}")
        if not self.draw and self.region is None:
            raise ValueError("placements need a region, or in simulation a draw")
        if not 0 <= self.unseen <= self.count or (self.unseen and not self.coverage):
            raise ValueError(f"unseen: 0 to {self.count}, and only with a coverage file, got {self.unseen}")


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a study ends."""

    rule: Literal["fixed", "sequential"] = "fixed"
    """sequential: earlier than after all trials where the test of `statistics.sequential` says so."""
    early_share: float = 0.5
    """Of alpha, for stopping early."""


@dataclass(frozen=True, kw_only=True)
class Exclusions:
    """What becomes of a trial that something outside of the policy may have ended."""

    safety_hold: Rule = Rule.FAILURE
    """A safety rule latched a hold; a failure of this kind is a protective stop."""
    device_fault: Rule = Rule.REPEAT
    """A device failed or vanished, or the clock jumped."""
    interrupted: Rule = Rule.REPEAT
    """The evaluator was killed in the middle."""
    operator_void: Rule = Rule.REPEAT
    """The operator declared it void, with a reason."""
    max_repeats: int = 3
    """Per place; after that the place stays empty."""

    def __post_init__(self) -> None:
        if self.max_repeats < 0:
            raise ValueError(f"max_repeats must not be negative, got {self.max_repeats}")


@dataclass(frozen=True, kw_only=True)
class SceneRule:
    """How alike the scene must be to the required start before a trial may begin."""

    min_similarity: float = 0.0
    """Overlap (IoU) of the object as seen with where it has to be, 0..1; 0: not checked."""
    size_m: tuple[float, float] = (0.28, 0.196)
    """Of the object, along and across its long side [m]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_similarity <= 1.0 or not all(side > 0.0 for side in self.size_m):
            raise ValueError(f"min_similarity is 0..1 and sizes are positive, got {self.min_similarity}, {self.size_m}")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One study."""

    title: str
    task: str
    prompt: str
    spec: str
    """Name of the robot spec."""
    success: Mapping[str, str]
    """Each condition of success by name, in words with its threshold: {"edge gap": "below 4.5 cm"}."""
    policies: tuple[PolicyEntry, ...]
    placements: PlacementRule
    trials_per_policy: int
    time_limit_s: float = 180.0
    success_hold_s: float = 1.0
    """In simulation: success must last this long."""
    comparisons: tuple[tuple[str, str], ...] = ()
    """Which policies are compared with which, by name; empty: each with each. More comparisons, stricter tests."""
    blinded: bool = True
    """Policies go by code names until the study is unlocked."""
    alpha: float = 0.05
    stopping: Stopping = Stopping()
    exclusions: Exclusions = Exclusions()
    scene: SceneRule = SceneRule()
    failure_modes: tuple[str, ...] = FAILURE_MODES
    human_times_s: tuple[float, ...] = ()
    """Durations of the operator's own demonstrations [s]: what the policies' times are measured against; a coverage
    file brings them, too."""

    def __post_init__(self) -> None:
        names = [policy.name for policy in self.policies]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"policies need different names, got {names or 'none'}")
        for name in (name for pair in self.comparisons for name in pair):
            if name not in names:
                raise ValueError(f"comparisons: no policy {name!r}{did_you_mean(name, names)}")
        if self.trials_per_policy < 1 or self.trials_per_policy % self.placements.count:
            raise ValueError(
                f"trials_per_policy must be a multiple of the {self.placements.count} placements, "
                f"got {self.trials_per_policy}"
            )
        if not self.time_limit_s > 0.0 or not self.success_hold_s >= 0.0 or not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"need time_limit_s > 0, success_hold_s >= 0, 0 < alpha < 1, got {self.time_limit_s}, "
                f"{self.success_hold_s}, {self.alpha}"
            )
        if self.stopping.rule == "sequential" and len(names) != 2:
            raise ValueError(f"sequential stopping compares two policies, got {len(names)}")
        if PROTECTIVE_STOP not in self.failure_modes:
            raise ValueError(f"failure_modes must have {PROTECTIVE_STOP!r}, got {', '.join(self.failure_modes)}")
        if any(not seconds > 0.0 for seconds in self.human_times_s):
            raise ValueError(f"human_times_s must be positive, got {self.human_times_s}")

    @classmethod
    def load(cls, path: Path) -> Protocol:
        """From YAML; ValueError with one sentence naming the file and the field."""
        return config.load(cls, path)

    @property
    def repeats(self) -> int:
        """Trials per policy at each placement."""
        return self.trials_per_policy // self.placements.count

    def failure_mode(self, word: str) -> str:
        """`word` if it is one of the protocol's failure modes; ValueError with the alternatives otherwise."""
        if word not in self.failure_modes:
            raise ValueError(f"unknown failure mode {word!r}{did_you_mean(word, list(self.failure_modes))}")
        return word
