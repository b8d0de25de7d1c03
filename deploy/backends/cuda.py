"""The little of CUDA that an engine needs: buffers on host and device, one stream, and a captured graph. No torch.

`cuda.bindings` is imported here only, and not before a driver was found: without one, libraries on top of it crash.
*Not run on a GPU yet.*
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deploy.bundle import BundleError


def require_driver() -> None:
    """BundleError where there is no NVIDIA driver: TensorRT's Runtime and Builder end the process without one."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise BundleError("no NVIDIA driver is installed here (libcuda.so.1 cannot be loaded)") from None


def import_library(name: str, extra: str = "deploy-gpu") -> Any:
    """A GPU library; BundleError names the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BundleError(f"{name} cannot be imported ({error}); install the extra {extra!r}") from None


class Cuda:
    """Device 0, with one stream."""

    def __init__(self) -> None:
        require_driver()
        self._api = import_library("cuda.bindings.runtime")
        self.stream = self._checked(self._api.cudaStreamCreate(), "a stream")

    @property
    def compute_capability(self) -> str:
        """Like "89"."""
        found = self._checked(self._api.cudaGetDeviceProperties(0), "the device's properties")
        return f"{found.major}{found.minor}"

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """Memory on the device, with its pinned twin on the host."""
        count = max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize
        what = f"{count / 1e6:.1f} MB"
        device = self._checked(self._api.cudaMalloc(count), f"{what} on the device")
        host = self._checked(self._api.cudaMallocHost(count), f"{what} of pinned memory")
        memory = (ctypes.c_byte * count).from_address(int(host))
        array = np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
        return Buffer(address=int(device), host=array)

    def upload(self, buffer: Buffer) -> None:
        """Host to device, in the stream."""
        self._copy(buffer.address, buffer.host.ctypes.data, buffer.host.nbytes, "cudaMemcpyHostToDevice")

    def download(self, buffer: Buffer) -> None:
        """Device to host, in the stream."""
        self._copy(buffer.host.ctypes.data, buffer.address, buffer.host.nbytes, "cudaMemcpyDeviceToHost")

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._checked(self._api.cudaStreamSynchronize(self.stream), "the stream")

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` puts into the stream, as a graph: the function that launches it."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked(self._api.cudaStreamBeginCapture(self.stream, mode), "a graph")
        work()
        graph = self._checked(self._api.cudaStreamEndCapture(self.stream), "a graph")
        ready = self._checked(self._api.cudaGraphInstantiate(graph, 0), "a graph")
        return lambda: self._checked(self._api.cudaGraphLaunch(ready, self.stream), "the graph")

    def _copy(self, to: int, from_: int, count: int, kind: str) -> None:
        direction = getattr(self._api.cudaMemcpyKind, kind)
        self._checked(self._api.cudaMemcpyAsync(to, from_, count, direction, self.stream), "a copy")

    def _checked(self, answer: Any, what: str) -> Any:
        error, *rest = answer
        if int(error) != 0:
            raise BundleError(f"CUDA gave no {what.removeprefix('a ')}: {getattr(error, 'name', error)}")
        return rest[0] if rest else None


class Buffer:
    """The same array twice."""

    def __init__(self, *, address: int, host: NDArray[Any]) -> None:
        self.address, self.host = address, host
