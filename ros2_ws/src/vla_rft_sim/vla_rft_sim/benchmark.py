"""How fast and how good the simulated cell is: the expert folds over many seeds, with the policy's image every tick.

Measures with processor time beside wall time, because other work on the machine slows the wall.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_rft_core.image import policy_image
from vla_rft_core.types import Observation
from vla_rft_sim.cell import SimCell
from vla_rft_sim.demonstrate import Demonstration, demonstrate
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.world import TowelWorld, TowelWorldConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """One line of JSON. Milliseconds are processor time per control period of simulated time."""

    real_time_factor: float
    """Simulated time over wall time: world, render to the policy's image, executor, filter and expert."""
    real_time_factor_cpu: float
    """The same over this process' processor time, all threads together."""
    expert_success: float
    successes: int
    seeds: int
    failed_seeds: list[int]
    interrupted_seeds: list[int]
    """Seeds at which the safety filter stopped the expert."""
    edge_gap_mean_m: float
    edge_gap_max_m: float
    episode_s: float
    """Mean simulated length of an episode, settling included."""
    tick_ms: dict[str, float]
    """By part: world (physics and arm controller), render (camera, noise and policy image), servo (the rest)."""
    cloth: list[int]
    image: list[int]
    """Width and height rendered, then the policy image's size."""
    gl: str
    cpus: int


class _Stopwatch:
    """Adds up the processor time spent inside the functions it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed


class _TimedWorld(TowelWorld):
    """A towel world with a stopwatch on `advance`."""

    def __init__(self, config: TowelWorldConfig) -> None:
        self.stopwatch = _Stopwatch()
        super().__init__(config)
        self.advance = self.stopwatch.around(self.advance)  # type: ignore[method-assign]


def run(seeds: int, config: TowelWorldConfig | None = None, *, first_seed: int = 0) -> BenchmarkResult:
    """Fold `seeds` placements, with a progress bar on stderr. DeviceError when this machine cannot render."""
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    world = _TimedWorld(config or TowelWorldConfig())
    cell = SimCell(world)
    try:
        cell.observe()  # opens the renderer, which takes a while once
        return _measure(cell, world, range(first_seed, first_seed + seeds))
    finally:
        cell.close()


def _measure(cell: SimCell, world: _TimedWorld, seeds: range) -> BenchmarkResult:
    render = _Stopwatch()
    size = cell.spec.cameras[0].policy_size
    cell.observe = render.around(cell.observe)  # type: ignore[method-assign]

    @render.around
    def shrink(observation: Observation) -> None:
        for image in observation.images.values():
            policy_image(image, size)

    world.stopwatch.seconds = 0.0
    wall, processor = time.perf_counter(), time.process_time()
    folds: list[Demonstration] = []
    progress = tqdm(seeds, desc="folding", unit="towel", file=sys.stderr)
    for seed in progress:
        folds.append(demonstrate(cell, seed, on_tick=shrink))
        progress.set_postfix(success=f"{sum(fold.truth.success for fold in folds)}/{len(folds)}")
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    simulated = sum(fold.duration_s for fold in folds)
    per_tick = 1000.0 * cell.spec.control_period_s / simulated
    parts = {"world": world.stopwatch.seconds, "render": render.seconds}
    parts["servo"] = processor - sum(parts.values())
    gaps = np.array([fold.truth.edge_gap for fold in folds])
    successes = sum(fold.truth.success for fold in folds)
    return BenchmarkResult(
        real_time_factor=round(simulated / wall, 2),
        real_time_factor_cpu=round(simulated / processor, 2),
        expert_success=successes / len(folds),
        successes=successes,
        seeds=len(folds),
        failed_seeds=[fold.seed for fold in folds if not fold.truth.success],
        interrupted_seeds=[fold.seed for fold in folds if fold.interrupted],
        edge_gap_mean_m=round(float(gaps.mean()), 4),
        edge_gap_max_m=round(float(gaps.max()), 4),
        episode_s=round(simulated / len(folds), 2),
        tick_ms={name: round(total * per_tick, 2) for name, total in parts.items()},
        cloth=list(world.config.cloth),
        image=[world.config.width, world.config.height, size],
        gl=BACKEND,
        cpus=os.cpu_count() or 1,
    )


def describe(result: BenchmarkResult) -> str:
    """The result for people."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in result.tick_ms.items())
    return (
        f"expert folds {result.successes}/{result.seeds} towels, edge gap {result.edge_gap_mean_m * 1000:.0f} mm on "
        f"average, {result.edge_gap_max_m * 1000:.0f} mm at most\n"
        f"{result.real_time_factor:g} x real time ({result.real_time_factor_cpu:g} by processor time); "
        f"ms per tick: {parts}"
    )


def as_json(result: BenchmarkResult) -> dict[str, Any]:
    """Plain data."""
    return asdict(result)
