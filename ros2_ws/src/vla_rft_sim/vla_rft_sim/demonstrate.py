"""One fold by the scripted expert in a simulated cell, through executor and safety filter like anybody's motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import NS_PER_S, nanoseconds, seconds
from vla_rft_core.types import ActionChunk, Observation, SetPoint, Source
from vla_rft_sim.cell import SimCell
from vla_rft_sim.expert import ExpertConfig, ScriptedExpert
from vla_rft_sim.towel import TowelTruth

SETTLE_NS = NS_PER_S
"""The towel is judged this long after the expert is done."""


@dataclass(frozen=True)
class Demonstration:
    """How a fold ended."""

    seed: int
    truth: TowelTruth
    """After the towel has settled."""
    ticks: int
    """Control periods until the expert was done."""
    duration_s: float
    """Simulated time from the first command to the judgement [s]."""
    interrupted: str
    """Why the safety filter stopped it; empty when it did not."""


class Onlooker:
    """Is shown everything that happens between reset and judgement; this one does not care."""

    def started(self, cell: SimCell) -> None:
        """The scene is laid out, the expert has the lease, nothing has moved."""

    def observed(self, observation: Observation) -> None:
        """What there is to see at the start of every control period, and while the towel settles."""

    def commanded(self, chunk: ActionChunk, outcome: ChunkOutcome) -> None:
        """What the expert wants next, and what became of it on arrival."""


def demonstrate(
    cell: SimCell,
    seed: int,
    *,
    expert: ScriptedExpert | None = None,
    config: ExpertConfig | None = None,
    on_tick: Callable[[Observation], None] | None = None,
    onlooker: Onlooker | None = None,
) -> Demonstration:
    """Reset the cell to `seed` and fold, by `expert` or a fresh one with `config`.

    Rendering is most of the time: there are observations only where `on_tick` or an `onlooker` wants them.
    """
    cell.reset(seed)
    cell.activate(Source.TELEOP)
    start_ns = cell.clock.monotonic_ns()
    expert = expert or ScriptedExpert(cell.clock, config)
    expert.start()
    expert.observe_corners(cell.world.truth().corners)
    period_ns = nanoseconds(cell.spec.control_period_s)
    if onlooker is not None:
        onlooker.started(cell)
    shown_to = [see for see in (on_tick, onlooker.observed if onlooker else None) if see is not None]
    ticks = 0
    while True:
        _show(cell, shown_to)
        chunk = next_chunk(cell, expert, sequence=ticks)
        if chunk is None or cell.holding:
            break
        outcome = cell.execute(chunk)
        if onlooker is not None:
            onlooker.commanded(chunk, outcome)
        cell.wait(period_ns)
        ticks += 1
    interrupted = cell.holding
    for _ in range(SETTLE_NS // period_ns):
        cell.wait(period_ns)
        _show(cell, [onlooker.observed] if onlooker else [])
    duration_s = seconds(cell.clock.monotonic_ns() - start_ns)
    return Demonstration(seed, cell.world.truth(), ticks, duration_s, interrupted)


def next_chunk(cell: SimCell, expert: ScriptedExpert, *, sequence: int) -> ActionChunk | None:
    """The expert's next step as a chunk of one; None when it is done."""
    state = cell.state()
    command = expert.read(state)
    if not command.enabled:
        return None
    wanted = state.reference.T_base_tcp.moved(command.translation, command.rotvec)
    return ActionChunk.from_set_points(
        [SetPoint(wanted, command.width)],
        stamp_ns=command.stamp_ns,
        period_ns=nanoseconds(cell.spec.control_period_s),
        sequence=sequence,
        source=Source.TELEOP,
    )


def _show(cell: SimCell, shown_to: list[Callable[[Observation], None]]) -> None:
    if shown_to:
        observation = cell.observe()
        for see in shown_to:
            see(observation)
