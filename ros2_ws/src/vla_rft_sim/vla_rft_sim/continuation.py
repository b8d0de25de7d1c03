"""One branch: restore a demonstration's world at a tick, play the next targets changed in one way, watch.

Through executor and safety filter like any motion; with unchanged targets the demonstration happens once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.types import ActionChunk, Observation, SetPoint, Source
from vla_rft_episodes import channels, codec
from vla_rft_episodes.branches import Branch, branch_of
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.reader import Episode
from vla_rft_sim import deviations
from vla_rft_sim.attempt import Stage
from vla_rft_sim.cell import SERVO_PERIOD_NS
from vla_rft_sim.deviations import Phases, Targets
from vla_rft_sim.randomize import Randomization
from vla_rft_sim.towel import TowelTruth
from vla_rft_sim.world_state import FORMAT


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What a branch needs of an episode."""

    episode: str
    prompt: str
    randomization: Randomization
    chunks: list[ActionChunk]
    """One per control period, each with one target."""
    states: dict[int, bytes]
    """The world at a stamp."""
    sent: dict[int, SetPoint]
    """The set-point in force after the servo tick of a stamp."""

    @classmethod
    def load(cls, folder: Path) -> Demonstration:
        """EpisodeError or ValueError when something is missing."""
        episode = Episode.open(folder)
        states = {}
        for message in episode.messages([channels.SIM_STATE.topic]):
            state = codec.decode_sim_state(message.data)
            if state.format != FORMAT:
                raise EpisodeError(f"{folder}: world states are of {state.format!r}, this software reads {FORMAT!r}")
            states[state.stamp_ns] = state.data
        sent = {s.arm.stamp_ns: s.commanded for s in episode.robot_states() if s.commanded is not None}
        chunks = [chunk for chunk in episode.chunks() if chunk.stamp_ns in states]
        if not chunks:
            raise EpisodeError(f"{folder}: no chunk has a world state of its time to start from")
        randomization = Randomization.from_extra(episode.info.extra)
        return cls(episode.info.id, episode.info.prompt, randomization, chunks, states, sent)

    @property
    def phases(self) -> Phases:
        """When it grasps and lets go."""
        return Phases.of(np.array([chunk.widths[0] for chunk in self.chunks]))

    def targets(self, tick: int, horizon: int) -> Targets:
        """What was asked for from a tick on; the last target is repeated after the end."""
        ahead = self.chunks[tick : tick + horizon]
        ahead += [self.chunks[-1]] * (horizon - len(ahead))
        return Targets(
            positions=np.concatenate([chunk.positions for chunk in ahead]),
            quaternions=np.concatenate([chunk.quaternions for chunk in ahead]),
            widths=np.concatenate([chunk.widths for chunk in ahead]),
            in_force=self.sent[self.chunks[tick].stamp_ns],
        )


def branch_off(stage: Stage, demonstration: Demonstration, *, horizon: int, random: np.random.Generator) -> Branch:
    """Draw, restore, play and watch one branch; the stage must have the demonstration's randomisation."""
    phases = demonstration.phases
    kind, tick = deviations.draw(phases, horizon, random)
    changed = kind.change(demonstration.targets(tick, horizon), phases, tick, random)
    observations, truths = play(stage, demonstration, tick, changed)
    return labelled(stage, demonstration, observations, truths, labels=(kind.name, changed.parameters, tick))


def twin_of(stage: Stage, demonstration: Demonstration, branch: Branch) -> Branch:
    """What happens from a branch's tick on when nothing is done differently: its success beside its failure."""
    targets = demonstration.targets(branch.tick, len(branch.actions))
    observations, truths = play(stage, demonstration, branch.tick, targets)
    labels = (deviations.EXPERT, targets.parameters, branch.tick)
    return labelled(stage, demonstration, observations, truths, labels=labels)


def play(
    stage: Stage, demonstration: Demonstration, tick: int, targets: Targets
) -> tuple[list[Observation], list[TowelTruth]]:
    """Go on from a tick with these targets: T + 1 observations, and the truth at each. DeviceError when it fails."""
    begin(stage, demonstration, tick, targets)
    return watch(stage, len(targets.widths), drop_at=targets.drop_at)


def begin(stage: Stage, demonstration: Demonstration, tick: int, targets: Targets) -> None:
    """Restore the world at a tick and accept these targets; no time passes. DeviceError when they are refused."""
    cell = stage.cell
    stamp_ns, period_ns = demonstration.chunks[tick].stamp_ns, cell.spec.control_period_ns
    now = demonstration.sent.get(stamp_ns, targets.in_force)
    before = demonstration.sent.get(stamp_ns - SERVO_PERIOD_NS, now)
    state = demonstration.states[stamp_ns]
    cell.restore(state, stamp_ns=stamp_ns, source=Source.TELEOP, sent=(before, now))
    chunk = ActionChunk(
        stamp_ns=stamp_ns,
        period_ns=period_ns,
        positions=targets.positions,
        quaternions=targets.quaternions,
        widths=targets.widths,
        sequence=0,
        source=Source.TELEOP,
    )
    outcome = cell.execute(chunk)
    if not outcome.accepted:
        raise DeviceError(f"the branch was refused: {outcome.reason}")


def watch(stage: Stage, periods: int, *, drop_at: int = -1) -> tuple[list[Observation], list[TowelTruth]]:
    """Let so many control periods pass: an observation and the truth at the start and after each."""
    cell, world = stage.cell, stage.world
    observations, truths = [cell.observe()], [world.truth()]
    for period in range(periods):
        if period == drop_at:
            world.drop()
        cell.wait(cell.spec.control_period_ns)
        observations.append(cell.observe())
        truths.append(world.truth())
    return observations, truths


def labelled(
    stage: Stage,
    demonstration: Demonstration,
    observations: list[Observation],
    truths: list[TowelTruth],
    *,
    labels: tuple[str, Mapping[str, float], int],
) -> Branch:
    """What was watched, as it is stored. labels: kind, parameters, tick."""
    kind, parameters, tick = labels
    return branch_of(
        observations,
        truths,
        stage.cell.spec,
        kind=kind,
        parameters=parameters,
        episode=demonstration.episode,
        tick=tick,
        prompt=demonstration.prompt,
    )
