"""TensorRtBackend: a bundle's engines, built for this very GPU by `deploy.build_engine`, as one CUDA graph.

An engine belongs to one GPU type, one TensorRT and one pair of graphs; its tag says which, and another's is refused.
Engines lie beside the bundle, so that building one does not change what the bundle is. *Not run on a GPU yet*: the
order of calls is tested against a recording stand-in.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.backends import Description, Inference, Inputs
from deploy.backends.cuda import Buffer, Cuda, import_library, require_driver
from deploy.backends.onnx import WARM_UP_RUNS, zeros
from deploy.bundle import PARTS, Bundle, BundleError
from vla_rft_core import manifest
from vla_rft_core.errors import ManifestError

KIND = "engine"


def library() -> Any:
    """TensorRT, imported once a driver is there."""
    require_driver()
    return import_library("tensorrt")


def tag_of(bundle: Bundle, *, compute_capability: str, version: str) -> str:
    """Like "tensorrt-sm89-trt10.15.1-bf16-1a2b3c4d": the last part names the graphs."""
    graphs = hashlib.sha256("".join(sorted(bundle.graph_hashes().values())).encode()).hexdigest()[:8]
    return f"tensorrt-sm{compute_capability}-trt{version}-{bundle.network.precision}-{graphs}"


def engines_of(bundle: Bundle) -> Path:
    """Where a bundle's engines lie, one folder per tag."""
    return bundle.folder.with_name(f"{bundle.folder.name}.engines")


class TensorRtBackend:
    """Both engines in one stream; the context stays on the device."""

    def __init__(self, bundle: Bundle) -> None:
        """BundleError when there is no engine for this GPU and TensorRT, with the command that builds it."""
        self._trt = trt = library()
        self._cuda = Cuda()
        self._bundle = bundle
        self._tag = tag_of(bundle, compute_capability=self._cuda.compute_capability, version=trt.__version__)
        folder = _require_engine(bundle, self._tag)
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        self._engines = [self._engine(folder / f"{part}.engine") for part in PARTS]
        self._buffers: dict[str, Buffer] = {}
        self._contexts = [self._context(engine) for engine in self._engines]
        self._enqueue()  # lazily set up, which a capture must not see
        self._cuda.synchronize()
        self._launch = self._cuda.capture(self._enqueue)

    def warm_up(self) -> None:
        """Ten runs on zeros."""
        for _ in range(WARM_UP_RUNS):
            self.infer(zeros(self._bundle))

    def infer(self, inputs: Inputs, *, with_context: bool = False) -> Inference:
        """One chunk; the whole graph is one part: "network"."""
        for name, array in inputs.arrays().items():
            if name in self._buffers:
                host = self._buffers[name].host
                if array.shape != host.shape or array.dtype != host.dtype:
                    raise BundleError(
                        f"the engine takes {name} as {host.dtype} {list(host.shape)}, got {array.dtype} "
                        f"{list(array.shape)}"
                    )
                np.copyto(host, array)
        began = time.perf_counter()
        self._launch()
        self._cuda.synchronize()
        seconds = {"network": time.perf_counter() - began}
        context = None
        if with_context:
            self._cuda.download(self._buffers["context"])
            self._cuda.synchronize()
            context = self._buffers["context"].host[0].copy()
        return Inference(self._buffers["actions"].host[0].copy(), context, seconds)

    def describe(self) -> Description:
        """The engine's tag is the backend's name: a gate is of one engine."""
        return Description(
            backend=self._tag,
            device="cuda",
            precision=self._bundle.network.precision,
            details={"tensorrt": str(self._trt.__version__)},
        )

    def _engine(self, path: Path) -> Any:
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BundleError(f"{path}: TensorRT cannot load it; {_rebuild(self._bundle)}")
        return engine

    def _context(self, engine: Any) -> Any:
        """An execution context with every tensor's address set; buffers are shared by name."""
        context = engine.create_execution_context()
        if context is None:
            raise BundleError(f"{self._bundle.folder}: the GPU has not enough memory left for the engine")
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if name not in self._buffers:
                dtype = self._trt.nptype(engine.get_tensor_dtype(name))
                self._buffers[name] = self._cuda.buffer(tuple(engine.get_tensor_shape(name)), dtype)
            context.set_tensor_address(name, self._buffers[name].address)
        return context

    def _enqueue(self) -> None:
        """Inputs up, both engines, actions down."""
        for name, buffer in self._buffers.items():
            if name not in ("context", "actions"):
                self._cuda.upload(buffer)
        for part, context in zip(PARTS, self._contexts, strict=True):
            if not context.execute_async_v3(int(self._cuda.stream)):
                raise BundleError(f"{self._bundle.folder}: TensorRT could not run {part}")
        self._cuda.download(self._buffers["actions"])


def _require_engine(bundle: Bundle, tag: str) -> Path:
    folder = engines_of(bundle)
    present = sorted(path.name for path in folder.glob("tensorrt-*")) if folder.is_dir() else []
    if tag not in present:
        found = f"; there are engines for {', '.join(present)}" if present else ""
        raise BundleError(f"{bundle.folder}: has no engine {tag}{found}; {_rebuild(bundle)}")
    try:
        manifest.verify(folder / tag, kind=KIND)
    except ManifestError as error:
        raise BundleError(f"{error}; {_rebuild(bundle)}") from None
    return folder / tag


def _rebuild(bundle: Bundle) -> str:
    return f"build one with: python -m deploy.build_engine {bundle.folder}"
