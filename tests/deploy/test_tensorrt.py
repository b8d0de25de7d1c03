"""Engines: the order of TensorRT's and CUDA's calls, the cache, and every way in which they can be refused."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import build_engine
from deploy.backends import Inputs, cuda, load_backend
from deploy.backends.onnx import zeros
from deploy.bundle import BundleError, open_bundle

SPEC = importlib.util.spec_from_file_location("fake_gpu", Path(__file__).with_name("fake_gpu.py"))
assert SPEC is not None and SPEC.loader is not None
fake_gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fake_gpu)
FakeGpu = fake_gpu.FakeGpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = FakeGpu()
    monkeypatch.setitem(sys.modules, "tensorrt", fake.trt)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake.cudart)
    monkeypatch.setattr(cuda, "require_driver", lambda: None)
    monkeypatch.setattr("deploy.backends.tensorrt.require_driver", lambda: None)
    return fake


def test_engines_are_built_once_and_the_timings_are_kept(gpu: Any, bundle: Path) -> None:
    opened = open_bundle(bundle)
    folder = build_engine.build(opened, workspace_bytes=1 << 20)
    assert folder.name.startswith("tensorrt-sm89-trt10.15.1-fp32-") and folder.parent.name == "bundle.engines"
    assert gpu.calls == [
        "builder",
        "parse encode",
        f"limit workspace {1 << 20}",
        "timing cache of 0 bytes",
        "build encode",
        "parse flow",
        f"limit workspace {1 << 20}",
        "timing cache of 7 bytes",
        "build flow",
    ]
    assert build_engine.build(opened) == folder and gpu.calls.count("builder") == 1
    assert open_bundle(bundle).digest == opened.digest  # building changes nothing of what the bundle is


def test_one_graph_launch_per_answer(gpu: Any, bundle: Path) -> None:
    opened = open_bundle(bundle)
    build_engine.build(opened)
    gpu.calls.clear()
    backend = load_backend("tensorrt", opened)
    uploads = gpu.captured.index("execute encode")
    assert gpu.captured[:uploads] == ["upload"] * uploads and uploads >= 5
    assert gpu.captured[uploads:] == ["execute encode", "execute flow", "download"]
    gpu.calls.clear()
    out = backend.infer(zeros(opened))
    assert gpu.calls == ["launch", "synchronize"]
    assert out.actions.shape == (8, 7) and out.actions.dtype == np.float32 and set(out.seconds) == {"network"}
    assert backend.describe().backend.startswith("tensorrt-sm89-")


def test_a_wrong_shape_is_refused(gpu: Any, bundle: Path) -> None:
    opened = open_bundle(bundle)
    build_engine.build(opened)
    backend, given = load_backend("tensorrt", opened), zeros(opened)
    wrong = Inputs(**{**vars(given), "noise": np.zeros((9, 7), np.float32)})
    with pytest.raises(BundleError, match=r"takes noise as float32 \[1, 8, 7\], got float32 \[1, 9, 7\]"):
        backend.infer(wrong)


def test_another_gpus_engine_is_refused_with_the_command(gpu: Any, bundle: Path) -> None:
    opened = open_bundle(bundle)
    folder = build_engine.build(opened)
    gpu.capability = (9, 0)
    with pytest.raises(BundleError, match=f"has no engine tensorrt-sm90-.*engines for {folder.name}; build one with"):
        load_backend("tensorrt", opened)
    gpu.capability = (8, 9)
    (folder / "flow.engine").write_bytes(b"cut")
    with pytest.raises(BundleError, match=r"flow\.engine: was altered.*python -m deploy\.build_engine"):
        load_backend("tensorrt", opened)
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [("parse", "TensorRT cannot read it: node 3"), ("build", "lack of GPU memory .workspace 4096 MiB")],
)
def test_what_cannot_be_built_leaves_nothing(gpu: Any, bundle: Path, fault: str, sentence: str, capsys: Any) -> None:
    setattr(gpu.fault, fault, True)
    assert build_engine.main([str(bundle)]) == 1
    error = capsys.readouterr().err
    assert sentence.replace(".work", "(work") in error and not list(bundle.with_name("bundle.engines").glob(".*"))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("deserialize", "TensorRT cannot load it; build one with"),
        ("memory", "CUDA gave no|not enough memory"),
        ("execute", "TensorRT could not run encode"),
    ],
)
def test_what_cannot_be_loaded_is_refused(gpu: Any, bundle: Path, fault: str, sentence: str) -> None:
    opened = open_bundle(bundle)
    build_engine.build(opened)
    setattr(gpu.fault, fault, True)
    with pytest.raises(BundleError, match=sentence):
        load_backend("tensorrt", opened)


def test_without_a_driver_the_library_is_not_even_imported(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", no_driver)
    with pytest.raises(BundleError, match="no NVIDIA driver"):
        load_backend("tensorrt", open_bundle(bundle))
    assert "tensorrt" not in sys.modules
