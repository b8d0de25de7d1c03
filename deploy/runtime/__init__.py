"""The runtime: what a robot needs to run a bundle. Imports no torch and starts in seconds.

policy = load(Path("bundle"), backend="onnxruntime-cpu")
chunk = policy.decide(observation).chunk
"""

from __future__ import annotations

from pathlib import Path

from deploy.backends import load_backend
from deploy.bundle import BundleError, open_bundle
from deploy.runtime.golden import require_golden
from deploy.runtime.policies import HoldPolicy, NetworkPolicy, ReplayPolicy, RunningPolicy

DEFAULT_BACKEND = "onnxruntime-cpu"


def load(
    folder: Path, *, backend: str = DEFAULT_BACKEND, threads: int = 1, allow_unverified: bool = False
) -> RunningPolicy:
    """A bundle, ready to be asked: hashed, loaded, warmed up, and its golden observations replayed.

    Raises BundleError, ManifestError or ValueError in one sentence; BundleError also for a network whose closed-loop
    gate with this backend has not been passed, unless `allow_unverified`.
    """
    bundle = open_bundle(folder)
    if bundle.info.policy == "hold":
        return HoldPolicy(bundle)
    if bundle.info.policy == "replay":
        return ReplayPolicy(bundle)
    loaded = load_backend(backend, bundle, threads=threads)
    problem = bundle.gate_problem(loaded.describe().backend)
    if problem and not allow_unverified:
        raise BundleError(problem)
    loaded.warm_up()
    require_golden(loaded, bundle)
    return NetworkPolicy(bundle, loaded)
