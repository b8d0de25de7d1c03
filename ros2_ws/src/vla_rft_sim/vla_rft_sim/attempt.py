"""One simulated demonstration from a seed to a finished episode: the same plan and number give the same bytes.

Scene, looks, physics, the hand's variation and even the stamps follow from the plan's seed and the attempt's number.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from vla_rft_core import config
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import DeviceError
from vla_rft_core.software import versions
from vla_rft_episodes import layout
from vla_rft_episodes.info import EpisodeInfo, episode_id
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.verdict import Verdict, judge
from vla_rft_episodes.writer import EpisodeWriter
from vla_rft_sim import randomize, variation
from vla_rft_sim.cell import SimCell, towel_cell
from vla_rft_sim.demonstrate import demonstrate
from vla_rft_sim.episode_tape import EpisodeTape, expected_hz
from vla_rft_sim.expert import ExpertConfig, ScriptedExpert
from vla_rft_sim.randomize import Randomization, RandomizationConfig, Randomizer
from vla_rft_sim.variation import VariationConfig
from vla_rft_sim.world import TowelWorld

TASK = "fold_towel"
POLICY_ID = "scripted-expert"
OPERATOR = "simulator"
ATTEMPT, SEED, STRENGTH = "collect.attempt", "collect.seed", "collect.strength"
"""Where an episode's `info.extra` says which attempt of which plan it is."""
_FIRST_NS = 1_767_225_600 * NS_PER_S
"""2026-01-01: simulated attempts are stamped from here on."""
_YEAR_S = 365 * 86_400
_ATTEMPT_S = 120
"""Between the starts of two attempts of one plan."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is collected, whatever the number. Example: Plan(seed=0, strength=1.0)."""

    seed: int
    strength: float = 1.0
    """Of the randomised looks and physics, and of the hand's variation; 0 is the plain expert in the plain world."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        RandomizationConfig(strength=self.strength)

    def scene_seed(self, attempt: int) -> int:
        """Everything in the attempt is drawn from it; far from the small seeds that evaluations use."""
        return int(np.random.SeedSequence([self.seed, attempt]).generate_state(1)[0])

    def started_ns(self, attempt: int) -> int:
        """The stamp at which the attempt starts; plans of different seeds start on different days."""
        start_s = self._hash("start") % _YEAR_S + attempt * _ATTEMPT_S
        return _FIRST_NS + start_s * NS_PER_S

    def episode_id(self, attempt: int, retry: int) -> str:
        """The attempt's name; `retry` counts earlier starts of it that were cut short."""
        return episode_id(self.started_ns(attempt), self._hash(f"{attempt} {retry}"))

    def _hash(self, text: str) -> int:
        digest = hashlib.sha256(f"{self.seed} {self.strength!r} {text}".encode()).digest()
        return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt."""

    number: int
    episode: str
    success: bool
    duration_s: float
    """Simulated [s]."""
    quality: str
    """The verdict's."""


class Stage:
    """A cell that attempts follow one another in; one per process."""

    def __init__(self) -> None:
        self.cell: SimCell = towel_cell()
        assert isinstance(self.cell.world, TowelWorld)
        self.world: TowelWorld = self.cell.world
        self.randomizer = Randomizer(self.world)

    def perform(self, plan: Plan, number: int, collection: Path) -> Attempt:
        """Fold one towel and leave the episode in the collection. EpisodeError when it cannot be written."""
        cell, seed = self.cell, plan.scene_seed(number)
        drawn = randomize.draw(seed, RandomizationConfig(strength=plan.strength))
        hand = VariationConfig(strength=plan.strength)
        varied = variation.vary(seed, hand)
        self.randomizer.apply(drawn)
        cell.clock.realtime_offset_ns = plan.started_ns(number) - cell.clock.monotonic_ns()
        info = self._info(plan, number, _free_id(plan, number, collection), drawn=drawn, varied=varied)
        writer = EpisodeWriter.create(collection, info, cell=cell.folder)
        tape = EpisodeTape(cell, writer, seed=seed)
        expert = ScriptedExpert(cell.clock, varied, drift=variation.drift(seed, hand))
        try:
            fold = demonstrate(cell, seed, expert=expert, onlooker=tape)
            success, reason = fold.truth.success, f"hold: {fold.interrupted}" if fold.interrupted else "expert done"
        except DeviceError as error:
            success, reason = False, f"device fault: {error}"
        finally:
            tape.ended()
        outcome = "success" if success else "failure"
        ended_ns = cell.clock.realtime_ns()
        writer.finish(ended_ns=ended_ns, termination_reason=reason, verdict=partial(_judged, outcome=outcome))
        verdict = writer.info.verdict
        quality = verdict.quality if verdict else ""
        return Attempt(number, info.id, success, (ended_ns - info.started_ns) / NS_PER_S, quality)

    def _info(self, plan: Plan, number: int, name: str, *, drawn: Randomization, varied: ExpertConfig) -> EpisodeInfo:
        folder = self.cell.folder
        return EpisodeInfo(
            id=name,
            task=TASK,
            prompt=self.cell.prompt,
            operator=OPERATOR,
            source="teleop",
            policy_id=POLICY_ID,
            spec_name=folder.spec.name,
            spec=config.to_mapping(folder.spec),
            calibration_id=folder.calibration.id,
            safety_profile=folder.safety.name,
            simulated=True,
            seed=plan.scene_seed(number),
            started_ns=plan.started_ns(number),
            software=versions(("vla-rft", "mujoco", "numpy")),
            expected_hz=expected_hz(self.cell),
            extra={
                ATTEMPT: number,
                SEED: plan.seed,
                STRENGTH: plan.strength,
                **drawn.as_extra(),
                **_as_extra(varied),
            },
        )


def _as_extra(varied: ExpertConfig) -> dict[str, float]:
    """What differs from the plain expert, as named numbers."""
    extra: dict[str, float] = {}
    for field in fields(varied):
        value = getattr(varied, field.name)
        if value != field.default:
            parts = {f".{i}": part for i, part in enumerate(value)} if isinstance(value, tuple) else {"": value}
            extra |= {f"expert.{field.name}{suffix}": float(part) for suffix, part in parts.items()}
    return extra


def _free_id(plan: Plan, number: int, collection: Path) -> str:
    """The first name of this attempt that no start before it, cut short and perhaps repaired, has taken."""
    for retry in itertools.count():
        name = plan.episode_id(number, retry)
        if not any((collection / f"{prefix}{name}").exists() for prefix in ("", layout.OPEN_PREFIX)):
            return name
    raise AssertionError("counting never ends")


def _judged(mcap: Path, *, outcome: str) -> Verdict:
    return judge(Episode.open(mcap), outcome=outcome)
