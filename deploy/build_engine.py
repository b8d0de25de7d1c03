"""`python -m deploy.build_engine BUNDLE`: TensorRT engines of a bundle's graphs, for the GPU of this computer.

Cached under their tag beside the bundle, with the timing cache that makes building again fast. The graphs carry their
precision, so the network is strongly typed. *Not run on a GPU yet*: the order of calls is tested against a stand-in.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.backends.cuda import Cuda
from deploy.backends.tensorrt import KIND, engines_of, library, tag_of
from deploy.bundle import PARTS, Bundle, BundleError, open_bundle
from vla_rft_core import manifest
from vla_rft_core.errors import VlaRftError
from vla_rft_core.files import write_atomic

WORKSPACE_BYTES = 4 << 30


def build(bundle: Bundle, *, workspace_bytes: int = WORKSPACE_BYTES) -> Path:
    """The folder of the engines for this GPU, built unless it is there. BundleError when TensorRT refuses."""
    trt = library()
    tag = tag_of(bundle, compute_capability=Cuda().compute_capability, version=trt.__version__)
    target = engines_of(bundle) / tag
    if target.exists():
        manifest.verify(target, kind=KIND)
        return target
    target.parent.mkdir(exist_ok=True)
    scratch = target.with_name(f".{tag}.{os.getpid()}.tmp")
    scratch.mkdir()
    try:
        _, device, version, *_ = tag.split("-")
        builder = _Builder(trt, target.parent / f"timings-{device}-{version}.cache", workspace_bytes)
        began = time.monotonic()
        for part in tqdm(PARTS, desc="engines", unit="graph", file=sys.stderr):
            (scratch / f"{part}.engine").write_bytes(builder.build(bundle.graph(part)))
        facts = {"tag": tag, "graphs": bundle.graph_hashes(), "build_s": round(time.monotonic() - began, 1)}
        manifest.write_manifest(scratch, kind=KIND, metadata=facts)
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return target


class _Builder:
    """TensorRT's builder with one timing cache for all graphs."""

    def __init__(self, trt: Any, timing_cache: Path, workspace_bytes: int) -> None:
        self._trt, self._cache, self._workspace = trt, timing_cache, workspace_bytes
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._builder = trt.Builder(self._logger)

    def build(self, graph: Path) -> bytes:
        """The engine of one ONNX file."""
        trt = self._trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(graph)):  # by path, so that weights beside the graph are found
            first = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise BundleError(f"{graph}: TensorRT cannot read it: {first}")
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace)
        known = self._cache.read_bytes() if self._cache.exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)
        engine = self._builder.build_serialized_network(network, config)
        if engine is None:
            raise BundleError(
                f"{graph}: TensorRT could not build an engine, most often for lack of GPU memory "
                f"(workspace {self._workspace >> 20} MiB; --workspace-mib N sets another)"
            )
        write_atomic(self._cache, bytes(config.get_timing_cache().serialize()))
        return bytes(engine)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the engines' folder; exit code 1 with one sentence when there is none."""
    parser = argparse.ArgumentParser(prog="python -m deploy.build_engine", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--workspace-mib", type=int, default=WORKSPACE_BYTES >> 20, help="GPU memory for building")
    given = parser.parse_args(argv)
    try:
        print(build(open_bundle(given.bundle), workspace_bytes=given.workspace_mib << 20))
    except (ValueError, VlaRftError, OSError) as error:
        print(f"build_engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
