"""Closed loop: a policy acts in a `Cell` given by factory string, over placements given by seeds. In simulated time.

A decision takes `latency` control periods: its chunk is stamped with the capture time of its observation, as on the
robot, so that the executor drops the targets that are late by then while the chunk before it plays on. Chunks are
joined by the deployed `Splicer`: joined hard, small steps between them feed back into the next one, and decisions at
every second control period shook the arm until it held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from vla_rft_core.action import accumulate
from vla_rft_core.cell import Cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.image import policy_image
from vla_rft_core.splice import SpliceConfig, SpliceMode, Splicer
from vla_rft_core.types import ActionChunk, Image, Observation, Source
from vla_rft_train.data.prompts import Tokenize, tokenizer_of
from vla_rft_train.models.policy import Policy
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.released import Released
from vla_rft_train.stages import as_float

SETTLED_NS = NS_PER_S
"""A towel must have been judged folded for this long without a break."""


class Truth(Protocol):
    """What a simulated cell knows of its towel."""

    grasped_vertices: int
    edge_gap: float
    """[m]"""
    success: bool


class TrialCell(Cell, Protocol):
    """A cell whose scene can be laid out by a seed and whose outcome can be judged."""

    world: Any
    """Has `truth() -> Truth`."""
    holding: str
    """Why the safety filter latched a hold; empty when it did not."""

    def reset(self, seed: int) -> object:
        """Lay the scene out."""

    def activate(self, source: Source) -> None:
        """Give the lease to a source."""

    def close(self) -> None:
        """Let go of the world."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How a policy is let act."""

    latency: int = 1
    """Control periods from an observation's capture to its chunk's arrival."""
    n_action_steps: int = 4
    """Control periods between two observations."""
    num_steps: int = 10
    """Euler steps of the sampling."""
    noise_scale: float = 1.0
    """Of the noise that chunks start from; 0 = always from zero, the flow's own middle."""
    limit_s: float = 15.0
    """A trial ends as a failure after this time."""
    splice: SpliceConfig = field(default_factory=lambda: SpliceConfig(mode=SpliceMode.BLEND))
    """How a chunk follows the one before it."""

    def __post_init__(self) -> None:
        if self.splice.mode is SpliceMode.RTC:
            raise ValueError("splice: rtc shows the policy what is committed, which only a bundle's graph can take")
        if self.latency < 0 or self.n_action_steps < 1 or self.num_steps < 1 or not self.limit_s > 0.0:
            raise ValueError(f"latency, n_action_steps, num_steps and limit_s must be positive, got {self}")


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How one trial went."""

    seed: int
    success: bool
    failure: str
    """Its mode: one of `FAILURES`; empty for a success."""
    reason: str
    """A latched hold in words; empty when there was none."""
    duration_s: float
    edge_gap_m: float
    """When the trial ended."""
    rejected: int
    """Chunks that the safety filter dropped."""


NEVER_GRASPED, NOT_RELEASED, BAD_FOLD, HOLD = "never grasped", "not released", "bad fold", "safety hold"
FAILURES = (NEVER_GRASPED, NOT_RELEASED, BAD_FOLD, HOLD)


class Actor:
    """A policy with what it needs around it: from observations to chunks of absolute set-points."""

    def __init__(
        self, released: Released[Policy, PolicyRun], *, num_steps: int, noise_scale: float = 1.0, camera: str = ""
    ) -> None:
        if released.spec is None:
            raise ValueError("the policy's checkpoint has no spec.yaml: it was not trained on a robot of ours")
        self.policy, self.spec = released.model, released.spec
        self._stats, self._num_steps, self._camera = released.stats, num_steps, camera
        self._noise_scale = noise_scale
        config = released.config.policy
        self._size = config.image_size
        self._tokenize: Tokenize = tokenizer_of(config.tokenizer, length=config.prompt_length)
        self.restart(0)

    def restart(self, seed: int) -> None:
        """The same noise after the same seed."""
        self._generator = torch.Generator().manual_seed(seed)
        self._sequence = 0

    @torch.inference_mode()
    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that answers an observation, stamped with its capture time."""
        image = observation.images[self._camera or next(iter(observation.images))]
        picture = torch.from_numpy(policy_image(image, self._size)).permute(2, 0, 1)[None]
        state = self._stats["state"].normalize(torch.tensor(observation.state)[None])
        tokens = self._tokenize(observation.prompt)[None]
        noise = self._noise_scale * self.policy.noise(1, self._generator)
        sampled = self.policy.sample(as_float(picture), tokens, state, noise, num_steps=self._num_steps)
        actions = self._stats["action"].unnormalize(sampled)[0].double().numpy()
        self._sequence += 1
        return ActionChunk.from_set_points(
            accumulate(observation.commanded, actions, self.spec),
            stamp_ns=observation.stamp_ns,
            period_ns=self.spec.control_period_ns,
            sequence=self._sequence,
            source=Source.POLICY,
        )


def run_trial(
    cell: TrialCell,
    actor: Actor,
    seed: int,
    settings: LoopSettings,
    *,
    on_image: Callable[[Image], None] | None = None,
    on_period: Callable[[], None] | None = None,
) -> TrialResult:
    """One placement. on_image: shown the camera's picture at every decision; on_period: called after every period."""
    period_ns = cell.spec.control_period_ns
    cell.reset(seed)
    cell.activate(Source.POLICY)
    actor.restart(seed)
    progress, splicer, rejected = _Progress(), Splicer(settings.splice), 0

    def let_pass(periods: int) -> None:
        for _ in range(periods):
            cell.wait(period_ns)
            progress.look(cell.world.truth(), period_ns)
            if on_period is not None:
                on_period()

    while progress.passed_ns < settings.limit_s * NS_PER_S and not progress.done and not cell.holding:
        observation = cell.observe()
        if on_image is not None:
            on_image(next(iter(observation.images.values())))
        chunk = actor.act(observation)
        let_pass(settings.latency)
        arrived_ns = observation.state_stamp_ns + settings.latency * period_ns
        rejected += not cell.execute(splicer.splice(chunk, now_ns=arrived_ns)).accepted
        let_pass(settings.n_action_steps - settings.latency)
    truth = cell.world.truth()
    return TrialResult(
        seed=seed,
        success=progress.done,
        failure="" if progress.done else _mode(cell, progress, truth),
        reason=cell.holding,
        duration_s=progress.passed_ns / NS_PER_S,
        edge_gap_m=float(truth.edge_gap),
        rejected=rejected,
    )


@dataclass
class _Progress:
    """What has happened to the towel so far."""

    passed_ns: int = 0
    grasped: bool = False
    folded_ns: int = 0
    """For how long it has been judged folded."""

    @property
    def done(self) -> bool:
        return self.folded_ns >= SETTLED_NS

    def look(self, truth: Truth, period_ns: int) -> None:
        """One control period later."""
        self.passed_ns += period_ns
        self.grasped |= truth.grasped_vertices > 0
        self.folded_ns = self.folded_ns + period_ns if truth.success else 0


def _mode(cell: TrialCell, progress: _Progress, truth: Truth) -> str:
    if cell.holding:
        return HOLD
    if not progress.grasped:
        return NEVER_GRASPED
    return NOT_RELEASED if truth.grasped_vertices > 0 else BAD_FOLD


def run_trials(
    cell: TrialCell, actor: Actor, seeds: Sequence[int], settings: LoopSettings, *, progress: Callable[[], None]
) -> list[TrialResult]:
    """All placements, one after the other."""
    if cell.spec.action_layout != actor.spec.action_layout:
        actor.spec.require_same(cell.spec, ours="the policy", theirs="the cell")
    results = []
    for seed in seeds:
        results.append(run_trial(cell, actor, seed, settings))
        progress()
    return results
