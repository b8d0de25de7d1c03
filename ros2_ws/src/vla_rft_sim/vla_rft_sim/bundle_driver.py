"""BundleDriver: a bundle in a simulated cell, as policy_node runs it: it looks, decides, and its answer comes late."""

from __future__ import annotations

from pathlib import Path

from deploy import runtime
from deploy.runtime.policies import NoChunkError
from vla_rft_core.splice import SpliceConfig, Splicer
from vla_rft_core.types import ActionChunk
from vla_rft_sim.cell import SimCell

LATENCY = 1
"""Control periods from a picture to its chunk's arrival."""
N_ACTION_STEPS = 4
"""Control periods between two looks."""


class BundleDriver:
    """Asked once per control period; most of the time it has nothing to say."""

    def __init__(self, folder: Path, *, allow_unverified: bool = False) -> None:
        """BundleError, ManifestError or ValueError when the bundle may not run, as on a robot."""
        self._policy = runtime.load(folder, allow_unverified=allow_unverified)
        self._splicer = Splicer(SpliceConfig(mode=self._policy.bundle.splice))
        self._due: tuple[int, ActionChunk] | None = None

    def begin_trial(self, index: int) -> None:
        """What it draws at random follows from the trial."""
        self._policy.begin(index)
        self._splicer.restart()
        self._due = None

    def next_chunk(self, cell: SimCell, tick: int) -> ActionChunk | None:
        """The chunk that arrives at this tick; None when there is none."""
        spec = cell.spec
        if tick % N_ACTION_STEPS == 0:
            observation = cell.observe()
            committed = self._splicer.committed(
                observation.stamp_ns, observation.commanded, latency_ns=LATENCY * spec.control_period_ns, spec=spec
            )
            try:
                self._due = tick + LATENCY, self._policy.decide(observation, committed=committed).chunk
            except NoChunkError:
                self._due = None
        if self._due is None or tick < self._due[0]:
            return None
        chunk, self._due = self._due[1], None
        return self._splicer.splice(chunk, now_ns=cell.clock.realtime_ns())
