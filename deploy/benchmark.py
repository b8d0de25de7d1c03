"""`python -m deploy.benchmark BUNDLE --json`: how fast a bundle answers, beside PyTorch eager and the computed floor.

Both answer the same observations in turn, at the same number of threads, so that whatever else the computer does hits
both. Times are with the device synchronised. Cold start and memory are those of a fresh process without torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from deploy.backends import BACKENDS, Backend, load_backend
from deploy.bundle import Bundle, open_bundle
from deploy.floor import floor_ms
from deploy.runtime import DEFAULT_BACKEND
from deploy.runtime.golden import Golden
from deploy.runtime.policies import NetworkPolicy
from deploy.torch_backend import TorchBackend
from vla_rft_core.errors import VlaRftError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import Observation, SetPoint

RUNS = 300


def observations(bundle: Bundle) -> list[Observation]:
    """The golden ones, as a robot would see them."""
    golden, home = Golden.load(bundle.folder), bundle.spec.home
    commanded = SetPoint(Pose(np.array(home.position), np.array(home.quaternion)), home.width)
    return [
        Observation(
            stamp_ns=time.time_ns(),
            images={bundle.network.camera: golden.images[i]},
            image_stamps_ns={},
            state=golden.states[i],
            state_stamp_ns=time.time_ns(),
            commanded=commanded,
            prompt=str(golden.prompts[i]),
        )
        for i in range(len(golden))
    ]


def percentiles(times_s: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 [ms]."""
    p50, p95, p99 = (round(1e3 * float(value), 4) for value in np.percentile(times_s, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99}


def measure(bundle: Bundle, backends: Sequence[Backend], *, runs: int) -> list[dict[str, dict[str, float]]]:
    """Stage -> percentiles [ms] of each backend, asked in turn.

    "network" is encode and flow, "total" a whole decision; "processor" the time that this process had a core meanwhile:
    on a busy computer it says more of the bundle, and "total" more of the computer.
    """
    policies = [NetworkPolicy(bundle, backend) for backend in backends]
    asked = observations(bundle)
    times: list[dict[str, list[float]]] = [{} for _ in policies]
    for backend in backends:
        backend.warm_up()
    for run in tqdm(range(runs), desc="benchmark", unit="decision", file=sys.stderr):
        for policy, found in zip(policies, times, strict=True):
            began, busy = time.perf_counter(), time.process_time()
            decision = policy.decide(asked[run % len(asked)])
            whole = {"total": time.perf_counter() - began, "processor": time.process_time() - busy}
            whole["network"] = sum(decision.seconds.get(part, 0.0) for part in ("encode", "flow", "network"))
            for stage, value in {**decision.seconds, **whole}.items():
                found.setdefault(stage, []).append(value)
    return [{stage: percentiles(values) for stage, values in found.items()} for found in times]


def benchmark(bundle: Bundle, given: argparse.Namespace) -> dict[str, Any]:
    """All figures as plain data."""
    torch.set_num_threads(given.threads)
    exported = load_backend(given.backend, bundle, threads=given.threads)
    device = "cuda" if exported.describe().device.startswith("cuda") else "cpu"
    checkpoint = given.checkpoint or Path(bundle.network.checkpoint_folder)
    eager = TorchBackend(bundle, checkpoint, device=device, precision=bundle.network.precision)
    backends: list[Backend] = [exported, eager]
    if device == "cuda":
        backends.append(TorchBackend(bundle, checkpoint, device=device, graph=True))
    figures = measure(bundle, backends, runs=given.runs)
    facts: dict[str, Any] = {
        "bundle": bundle.digest,
        "runs": given.runs,
        "cold_start": cold_start(bundle, given.backend, given.threads),
        "floor": floor_ms(eager),
    }
    for backend, found in zip(backends, figures, strict=True):
        what = backend.describe()
        facts[what.backend] = {"ms": found, **asdict(what)}
    ours, reference = figures[:2]
    facts["ratio"] = round(reference["total"]["p50"] / ours["total"]["p50"], 2)
    facts["ratio_network"] = round(reference["network"]["p50"] / ours["network"]["p50"], 2)
    facts["ratio_processor"] = round(reference["processor"]["p50"] / ours["processor"]["p50"], 2)
    facts["ratio_to_floor"] = round(ours["total"]["p50"] / facts["floor"]["ms"], 2)
    return facts


def cold_start(bundle: Bundle, backend: str, threads: int) -> dict[str, float]:
    """Seconds from starting Python to the first answer, and the memory used then [MB], of a fresh process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "deploy.runtime.first_answer", str(bundle.folder), backend, str(threads)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise ValueError(f"a fresh process could not answer: {run.stderr.strip().splitlines()[-1]}")
    return {"seconds": round(time.perf_counter() - began, 3), **json.loads(run.stdout)}


def as_text(facts: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [f"{'[ms]':<18}{'stage':<13}{'p50':>9}{'p95':>9}{'p99':>9}"]
    for name, what in facts.items():
        if isinstance(what, dict) and "ms" in what and "backend" in what:
            for stage, of in what["ms"].items():
                lines.append(f"{name:<18}{stage:<13}{of['p50']:>9.2f}{of['p95']:>9.2f}{of['p99']:>9.2f}")
    cold, floor = facts["cold_start"], facts["floor"]
    lines += [
        f"cold start {cold['seconds']:.1f} s, {cold['memory_mb']:.0f} MB",
        f"{facts['ratio']} times as fast as PyTorch eager; the network alone {facts['ratio_network']}, by processor "
        f"time {facts['ratio_processor']}",
        f"floor {floor['ms']:.3f} ms ({floor['how']}); {facts['ratio_to_floor']} times that",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 with one sentence when the bundle cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m deploy.benchmark", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="what it was made of (default: where it was then)")
    parser.add_argument("--backend", default=DEFAULT_BACKEND, choices=list(BACKENDS))
    parser.add_argument("--threads", type=int, default=1, help="on the CPU, for both (default 1)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"decisions (default {RUNS})")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    given = parser.parse_args(argv)
    try:
        facts = benchmark(open_bundle(given.bundle), given)
    except (ValueError, VlaRftError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(json.dumps(facts) if given.json else as_text(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
