"""Backends: the ways to run a bundle's network. One protocol; a library is imported by its own backend only.

Each of them takes one observation and gives one chunk of actions, in physical units; what an image or a state means,
the graphs know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle, BundleError

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Inputs:
    """One observation as the network takes it."""

    image: NDArray[np.uint8]
    """[S, S, 3] RGB, by `vla_rft_core.image.policy_image`."""
    prompt_tokens: NDArray[np.int64]
    """[L], padded with -1 in front."""
    state: Float32
    """(state_dim,) in the spec's layout and units."""
    noise: Float32
    """[T, A], normalised: where the flow starts."""
    prefix: Float32
    """[T, A] in the spec's action layout and units: actions that are committed already; zeros beyond them."""
    prefix_length: int = 0
    """How many of them."""

    def arrays(self) -> dict[str, NDArray]:
        """By the names and with the shapes of the graphs' inputs (batch 1)."""
        return {
            "image": self.image[None],
            "prompt_tokens": self.prompt_tokens[None],
            "state": self.state[None],
            "noise": self.noise[None],
            "prefix": self.prefix[None],
            "prefix_length": np.array([self.prefix_length], np.int64),
        }


@dataclass(frozen=True, eq=False)
class Inference:
    """What came out, and how long each part took, with the device synchronised."""

    actions: Float32
    """[T, A] in the spec's action layout and units."""
    context: Float32 | None
    """What `encode` saw, without its batch dimension; where it was asked for."""
    seconds: Mapping[str, float]
    """Part -> [s]: "encode", "flow"; or "network" where they cannot be told apart."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What runs."""

    backend: str
    """As gates are filed under: "onnxruntime-cpu", "onnxruntime-cuda", an engine's tag, "torch-cuda-graph"."""
    device: str
    precision: str
    details: Mapping[str, str] = field(default_factory=dict)
    """Versions, threads."""


class Backend(Protocol):
    """A loaded network."""

    def warm_up(self) -> None:
        """Run it until its times are those of the long run."""

    def infer(self, inputs: Inputs, *, with_context: bool = False) -> Inference:
        """One chunk. BundleError when the library refuses."""

    def describe(self) -> Description:
        """What it is."""


def _onnxruntime_cpu(bundle: Bundle, threads: int) -> Backend:
    from deploy.backends.onnx import OnnxBackend

    return OnnxBackend(bundle, device="cpu", threads=threads)


def _onnxruntime_cuda(bundle: Bundle, threads: int) -> Backend:
    from deploy.backends.onnx import OnnxBackend

    return OnnxBackend(bundle, device="cuda", threads=threads)


def _tensorrt(bundle: Bundle, threads: int) -> Backend:
    from deploy.backends.tensorrt import TensorRtBackend

    return TensorRtBackend(bundle)


BACKENDS: Mapping[str, Callable[[Bundle, int], Backend]] = {
    "onnxruntime-cpu": _onnxruntime_cpu,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "tensorrt": _tensorrt,
}
"""Name -> what loads a bundle with it; the number is of threads on the CPU."""


def load_backend(name: str, bundle: Bundle, *, threads: int = 1) -> Backend:
    """A bundle's network, loaded. ValueError lists the names; BundleError when it cannot be run here."""
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r}: unknown; known: {', '.join(BACKENDS)}")
    if threads < 1:
        raise ValueError(f"threads: must be at least 1, got {threads}")
    if bundle.info.network is None:
        raise BundleError(f"{bundle.folder}: is a bundle of kind {bundle.info.policy!r}, which needs no backend")
    return BACKENDS[name](bundle, threads)
