"""Bundle: the folder that is put on the robot. What lies in it, what its manifest says, and whether it is whole.

Read without torch. It travels with its robot spec, and carries its proof: golden observations with PyTorch's outputs,
and the closed-loop gate of every backend that was tried. Its identity is the digest of its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_rft_core import config, manifest
from vla_rft_core.errors import VlaRftError
from vla_rft_core.spec import RobotSpec
from vla_rft_core.splice import SpliceConfig, SpliceMode

KIND = "bundle"
SPEC, STATS, PROMPTS, GOLDEN, TRAJECTORY = (
    "spec.yaml",
    "norm_stats.json",
    "prompts.json",
    "golden.npz",
    "trajectory.npz",
)
PARTS = ("encode", "flow")
"""The network's two graphs: `encode.onnx` looks once, `flow.onnx` makes a chunk of what was seen."""
TOKENIZER = "tokenizer.json"
"""A language model's own, where its policy reads free prompts; else only those of PROMPTS."""


class BundleError(VlaRftError):
    """A bundle cannot be used; one sentence. Nothing was written or deleted."""


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What is to be known of a network before it is loaded."""

    checkpoint: str
    """sha256 of the weights that it was made of."""
    checkpoint_folder: str
    """Where they were, as it was typed; `deploy.verify` looks there unless told otherwise."""
    camera: str
    image_size: int
    """Side of the square picture [pixels]."""
    horizon: int
    """Actions per chunk."""
    prompt_length: int
    """Tokens; 0 = the prompt is not read."""
    num_steps: int
    """Euler steps, unrolled in the graph."""
    noise_scale: float
    """Of the noise that chunks start from; 0 = always from zero."""
    precision: Literal["fp32", "fp16", "bf16"]
    prefix: Literal["replace", "clean"]
    """How committed actions enter the flow: on their straight path from the noise at every step, or as they are
    (for policies that were trained with such prefixes)."""
    splice: SpliceMode = SpliceConfig().mode
    """How its chunks are joined wherever it acts, unless an operator says otherwise: what it was developed with."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """How a backend did in closed loop, exported against PyTorch on paired placements."""

    passed: bool
    pairs: int
    lost: int
    """Pairs in which PyTorch succeeded and the bundle did not."""
    won: int
    """The other way round."""
    successes: int
    """Of the bundle."""
    reference_successes: int
    """Of PyTorch."""
    bound: float
    """One-sided upper bound on the loss of success."""
    latency: int
    """Control periods from observation to chunk, for both."""
    first_seed: int
    parts: Mapping[str, str]
    """sha256 of every graph that was tried."""


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """A bundle's metadata, as its manifest keeps them."""

    policy: Literal["network", "replay", "hold"]
    network: NetworkInfo | None = None
    """None for what runs without one."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Provenance in words and hashes: dataset, git revision, versions; of a replay, the episode."""
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """Backend -> how it did."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file is as it was written."""

    folder: Path
    info: BundleInfo
    spec: RobotSpec
    digest: str
    """Its identity: sha256 over metadata and all files' hashes."""
    files: Mapping[str, str]
    """Name -> sha256."""

    @property
    def network(self) -> NetworkInfo:
        """Of a network's bundle; BundleError for another."""
        if self.info.network is None:
            raise BundleError(f"{self.folder}: is a bundle of kind {self.info.policy!r}, which has no network")
        return self.info.network

    @property
    def splice(self) -> SpliceMode:
        """How its chunks are to be joined."""
        return SpliceConfig().mode if self.info.network is None else self.info.network.splice

    def graph(self, part: str) -> Path:
        """The ONNX file of one of PARTS."""
        return self.folder / f"{part}.onnx"

    def graph_hashes(self) -> dict[str, str]:
        """sha256 of every file that the network is made of."""
        return {name: digest for name, digest in self.files.items() if name.split(".")[0] in PARTS}

    def gate_problem(self, backend: str) -> str:
        """Why this backend's closed-loop gate does not let the bundle move an arm; empty when it does."""
        if self.info.network is None:
            return ""
        gate = self.info.gates.get(backend)
        how = f"python -m deploy.verify {self.folder} --backend {backend}"
        if gate is None:
            return f"{self.folder}: has not been through the closed-loop gate with {backend}; run {how}"
        if not gate.passed:
            return f"{self.folder}: failed the closed-loop gate with {backend}: {gate.lost} of {gate.pairs} pairs lost"
        if dict(gate.parts) != self.graph_hashes():
            return f"{self.folder}: its closed-loop gate was of other graphs; run {how}"
        return ""


def open_bundle(folder: Path) -> Bundle:
    """A bundle, every file hashed; ManifestError, ValueError or BundleError in one sentence when it is not whole."""
    found = manifest.verify(folder, kind=KIND)
    info = config.from_mapping(BundleInfo, found.metadata, str(folder / manifest.FILE_NAME))
    wanted = {SPEC} | {"replay": {TRAJECTORY}, "hold": set()}.get(
        info.policy, {STATS, PROMPTS, GOLDEN, *(f"{part}.onnx" for part in PARTS)}
    )
    missing = sorted(wanted - set(found.files))
    if missing or (info.policy == "network") != (info.network is not None):
        raise BundleError(f"{folder}: a bundle of kind {info.policy!r} needs {', '.join(missing) or 'a network'}")
    hashes = {name: entry.sha256 for name, entry in found.files.items()}
    return Bundle(folder, info, RobotSpec.load(folder / SPEC), found.digest(), hashes)


def finish(folder: Path, info: BundleInfo) -> manifest.Manifest:
    """Hash what lies in a new bundle's folder, and write its manifest."""
    return manifest.write_manifest(folder, kind=KIND, metadata=config.to_mapping(info))


def record_gate(bundle: Bundle, backend: str, gate: Gate) -> Bundle:
    """The bundle with a gate's result in its manifest, and so with another identity. Atomic."""
    gates = {**bundle.info.gates, backend: gate}
    info = BundleInfo(
        policy=bundle.info.policy, network=bundle.info.network, made_from=bundle.info.made_from, gates=gates
    )
    manifest.amend_manifest(bundle.folder, kind=KIND, metadata=config.to_mapping(info))
    return open_bundle(bundle.folder)


@dataclass(frozen=True, eq=False)
class Range:
    """What a vector's dimensions may be, from norm_stats: q01 and q99, at least `min_range` apart."""

    names: tuple[str, ...]
    low: NDArray[np.float64]
    """(d,), in each dimension's unit; goes to -1."""
    high: NDArray[np.float64]
    """(d,); goes to 1."""

    def normalize(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """[..., d] in physical units -> about [-1, 1]."""
        return (np.asarray(values, np.float64) - self.low) / (self.high - self.low) * 2.0 - 1.0


def load_ranges(folder: Path) -> dict[str, Range]:
    """ "state" and "action" of a bundle's norm_stats; ValueError when they are malformed.

    The same rule as `vla_rft_train.data.normalize`, which the graphs carry within them.
    """
    path = folder / STATS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: _range(entry) for name, entry in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: malformed ({error})") from None


def _range(entry: Mapping[str, Any]) -> Range:
    q01, q99, smallest = (np.array(entry[name], np.float64) for name in ("q01", "q99", "min_range"))
    middle, half = 0.5 * (q01 + q99), 0.5 * np.maximum(q99 - q01, smallest)
    return Range(tuple(entry["names"]), middle - half, middle + half)
