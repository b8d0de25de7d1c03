"""A recording stand-in of TensorRT and of CUDA's runtime: it computes nothing, and insists on the order of calls.

Written to the vendors' interfaces (TensorRT 10, cuda.bindings.runtime). What it asserts is what the real ones crash on
or answer wrongly: tensors without an address, a capture around what was never run, results read before they are there.
"""

from __future__ import annotations

import ctypes
import types
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx


class Fault:
    """What shall go wrong."""

    parse = build = deserialize = memory = execute = False


class FakeGpu:
    """Both libraries over one device, and every call in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fault = Fault()
        self.capturing = False
        self.pending: list[str] = []
        self.captured: list[str] = []
        self.memory: dict[int, Any] = {}
        self.capability = (8, 9)
        self.trt = _tensorrt(self)
        self.cudart = _cudart(self)

    def note(self, call: str) -> None:
        self.calls.append(call)

    def enqueue(self, what: str) -> None:
        (self.captured if self.capturing else self.pending).append(what)
        self.note(f"{'captured ' if self.capturing else ''}{what}")


class _Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


def _cudart(gpu: FakeGpu) -> types.ModuleType:
    module = types.ModuleType("cuda.bindings.runtime")
    ok = _Error.cudaSuccess

    def allocate(count: int) -> tuple[Any, ...]:
        assert not gpu.capturing, "memory is allocated during a capture"
        if gpu.fault.memory:
            return (_Error.cudaErrorMemoryAllocation, None)
        buffer = (ctypes.c_byte * count)()
        gpu.memory[ctypes.addressof(buffer)] = buffer
        return (ok, ctypes.addressof(buffer))

    def copy(to: int, from_: int, count: int, kind: str, stream: int) -> tuple[Any]:
        assert to in gpu.memory and from_ in gpu.memory, "a copy from or to memory that was not allocated"
        assert count <= len(gpu.memory[to]) and stream == 7
        gpu.enqueue(kind)
        return (ok,)

    def begin(stream: int, mode: str) -> tuple[Any]:
        assert not gpu.pending, "a capture begins while work is pending: what is set up lazily would be captured"
        assert "execute encode" in gpu.calls and "execute flow" in gpu.calls, "captured before anything ran once"
        gpu.capturing = True
        return (ok,)

    def end(stream: int) -> tuple[Any, ...]:
        gpu.capturing = False
        return (ok, "graph")

    def launch(graph: str, stream: int) -> tuple[Any]:
        assert graph == "ready" and gpu.captured
        gpu.pending += gpu.captured
        gpu.note("launch")
        return (ok,)

    def synchronize(stream: int) -> tuple[Any]:
        gpu.pending.clear()
        gpu.note("synchronize")
        return (ok,)

    module.cudaStreamCreate = lambda: (ok, 7)
    module.cudaGetDeviceProperties = lambda index: (
        ok,
        types.SimpleNamespace(major=gpu.capability[0], minor=gpu.capability[1]),
    )
    module.cudaMalloc = module.cudaMallocHost = allocate
    module.cudaMemcpyAsync = copy
    module.cudaStreamSynchronize = synchronize
    module.cudaStreamBeginCapture, module.cudaStreamEndCapture = begin, end
    module.cudaGraphInstantiate = lambda graph, flags: (ok, "ready")
    module.cudaGraphLaunch = launch
    module.cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice="upload", cudaMemcpyDeviceToHost="download")
    module.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    return module


def _tensorrt(gpu: FakeGpu) -> types.ModuleType:
    trt: Any = types.ModuleType("tensorrt")
    trt.__version__ = "10.15.1"
    trt.Logger = _Logger
    trt.Builder, trt.OnnxParser = _building(gpu)
    trt.Runtime = _running(gpu)
    trt.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
    trt.MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
    trt.nptype = lambda dtype: dtype
    return trt


class _Logger:
    WARNING = 1

    def __init__(self, level: int) -> None:
        assert level == _Logger.WARNING


def _building(gpu: FakeGpu) -> tuple[type, type]:
    """From a graph to an engine: Builder and OnnxParser."""

    class TimingCache:
        def serialize(self) -> bytes:
            return b"timings"

    class Config:
        cache: Any = None

        def set_memory_pool_limit(self, pool: str, count: int) -> None:
            gpu.note(f"limit {pool} {count}")

        def create_timing_cache(self, known: bytes) -> TimingCache:
            gpu.note(f"timing cache of {len(known)} bytes")
            return TimingCache()

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> None:
            assert not ignore_mismatch
            self.cache = cache

        def get_timing_cache(self) -> TimingCache:
            return self.cache

    class Network:
        def __init__(self, flags: int) -> None:
            assert flags == 2, "the network must be strongly typed: its precision is in the graph"
            self.graph = ""

    class Parser:
        num_errors = 1

        def __init__(self, network: Network, logger: _Logger) -> None:
            self._network = network

        def parse_from_file(self, path: str) -> bool:
            gpu.note(f"parse {Path(path).stem}")
            if gpu.fault.parse:
                return False
            onnx.load(path)  # it is one
            self._network.graph = path
            return True

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: "node 3 is of a kind that is not known")

    class Builder:
        def __init__(self, logger: _Logger) -> None:
            gpu.note("builder")

        def create_network(self, flags: int) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            assert network.graph and config.cache is not None, "built before the graph was parsed or the cache was set"
            gpu.note(f"build {Path(network.graph).stem}")
            return None if gpu.fault.build else f"engine {network.graph}".encode()

    return Builder, Parser


def _running(gpu: FakeGpu) -> type:
    """What runs an engine: Runtime."""

    class Context:
        def __init__(self, engine: Any) -> None:
            self._engine, self._addresses = engine, {}

        def set_tensor_address(self, name: str, address: int) -> None:
            assert address in gpu.memory
            self._addresses[name] = address

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 7 and set(self._addresses) == {name for name, *_ in self._engine.tensors}
            gpu.enqueue(f"execute {self._engine.part}")
            return not gpu.fault.execute

    class Engine:
        def __init__(self, path: str) -> None:
            self.part = Path(path).stem
            graph = onnx.load(path).graph
            self.tensors = [
                (
                    value.name,
                    tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
                    onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
                )
                for value in (*graph.input, *graph.output)
            ]
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index: int) -> str:
            return self.tensors[index][0]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return next(shape for found, shape, _ in self.tensors if found == name)

        def get_tensor_dtype(self, name: str) -> np.dtype:
            return next(dtype for found, _, dtype in self.tensors if found == name)

        def create_execution_context(self) -> Context | None:
            gpu.note(f"context {self.part}")
            return None if gpu.fault.memory else Context(self)

    class Runtime:
        def __init__(self, logger: _Logger) -> None:
            gpu.note("runtime")

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            gpu.note("deserialize")
            return None if gpu.fault.deserialize else Engine(content.decode().removeprefix("engine "))

    return Runtime
