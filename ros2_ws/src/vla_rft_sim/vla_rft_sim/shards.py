"""Branches in shards: how many a demonstration gets, which are there already, and the processes that make the rest."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_rft_episodes import branches as storage
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.labels import Outcome
from vla_rft_sim.attempt import Stage
from vla_rft_sim.workers import Workers

LARGEST = 50
"""Most branches in a shard."""


@dataclass(frozen=True)
class Shard:
    """Some of the branches of one demonstration."""

    episode: Path
    part: int
    count: int

    @property
    def name(self) -> str:
        """Of its folder, without prefix."""
        return f"{self.episode.name}-{self.part:02d}"

    def random(self, seed: int) -> np.random.Generator:
        """The shard's own draws of a plan with this seed, whoever makes it and when."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def shards(demonstrations: Collection, count: int) -> list[Shard]:
    """Branches spread evenly over the kept successes; EpisodeError when there are none from a simulator."""
    kept = demonstrations.episodes(kept_only=True)
    usable = [ref for ref in kept if ref.outcome is Outcome.SUCCESS and ref.info.simulated]
    if not usable:
        raise EpisodeError(f"{demonstrations.path}: holds no kept success from a simulator")
    found = []
    for i, ref in enumerate(usable):
        rest = count * (i + 1) // len(usable) - count * i // len(usable)
        for part in range(-(-rest // LARGEST)):
            found.append(Shard(ref.path, part, min(LARGEST, rest - part * LARGEST)))
    return found


def missing(wanted: Sequence[Shard], plan: Any, out: Path) -> list[Shard]:
    """Shards that are not there yet; EpisodeError when the folder holds branches of another plan or other episodes.

    plan: a dataclass of plain data.
    """
    present = {path.name.removeprefix(storage.PREFIX): path for path in out.glob(f"{storage.PREFIX}*")}
    for path in present.values():
        theirs = storage.read_shard_manifest(path)["plan"]
        if theirs != asdict(plan):
            raise EpisodeError(f"{path}: was made with {theirs}, not with {asdict(plan)}; take another folder")
    unknown = sorted(set(present) - {shard.name for shard in wanted})
    if unknown:
        raise EpisodeError(f"{present[unknown[0]]}: does not come from these demonstrations; take another folder")
    return [shard for shard in wanted if shard.name not in present]


MakeShard = Callable[[Stage, Shard, Any, Path], Counter[str]]
"""Simulates and writes a shard of a plan into a folder; what it counts. A function of a module: processes import it."""
_task: tuple[MakeShard, Stage, Any, Path] | None = None
"""Of a worker process."""


def workers(count: int, make: MakeShard, plan: Any, out: Path) -> Workers:
    """Processes for `simulate`, each with a stage of its own."""
    return Workers(count, _prepare, make, plan, out)


def _prepare(make: MakeShard, plan: Any, out: Path) -> None:
    global _task
    _task = make, Stage(), plan, out


def _make(shard: Shard) -> Counter[str]:
    assert _task is not None
    make, stage, plan, out = _task
    return make(stage, shard, plan, out)


def simulate(crew: Workers, wanted: Sequence[Shard], plan: Any, out: Path, *, what: str) -> Iterator[Counter[str]]:
    """Make what is missing, with a bar; what was counted of each shard as it is done. crew: made by `workers`."""
    queue = missing(wanted, plan, out)
    total, left = (sum(shard.count for shard in some) for some in (wanted, queue))
    pending = iter(queue)
    with tqdm(total=total, initial=total - left, desc=what, unit="", file=sys.stderr) as bar:
        for made in crew.results(_make, lambda running: next(pending, None)):
            bar.update(made.total())
            yield made
