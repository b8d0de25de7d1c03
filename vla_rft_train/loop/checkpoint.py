"""A checkpoint: one folder with weights, optimiser, configuration, spec, norm_stats and provenance. No pickle anywhere.

    step-00001500/
      model.safetensors      float32 weights, by parameter name
      ema.safetensors        their moving average, where the stage keeps one
      optimizer.safetensors  optimiser state, "<parameter>/<name>"
      config.yaml ...        what the stage adds: its configuration, spec.yaml, norm_stats.json
      manifest.json          hashes of all files; metadata: stage, step, provenance

It is written beside its place and moved there whole: a run killed at any moment leaves complete checkpoints only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_rft_core import manifest
from vla_rft_core.errors import ManifestError

KIND = "checkpoint"
MODEL, EMA, OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.safetensors"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that changes while a stage trains, gathered on the CPU."""

    step: int
    """Optimiser steps done."""
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    """As torch's `get_optimizer_state_dict` with full_state_dict returns it."""
    ema: Mapping[str, Tensor] | None = None


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / f"step-{step:08d}"


def steps_in(run: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, oldest first."""
    return sorted(int(path.parent.name.removeprefix("step-")) for path in run.glob(f"step-*/{manifest.FILE_NAME}"))


def save(
    run: Path, snapshot: Snapshot, *, metadata: Mapping[str, Any], add_files: Callable[[Path], None], keep: int
) -> Path:
    """Write the checkpoint of `snapshot` into `run`; then remove all but it and the `keep` before it."""
    target = folder_of(run, snapshot.step)
    if target.exists():  # the same step again, after a resume: the same content by construction
        return target
    temporary = run / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_plain(snapshot.weights), temporary / MODEL)
    if snapshot.ema is not None:
        save_file(_plain(snapshot.ema), temporary / EMA)
    tensors, groups = _flatten(snapshot.optimizer)
    save_file(tensors, temporary / OPTIMIZER)
    add_files(temporary)
    facts = dict(metadata) | {"step": snapshot.step, "optimizer_groups": groups}
    manifest.write_manifest(temporary, kind=KIND, metadata=facts)
    temporary.rename(target)
    for step in steps_in(run)[: -(keep + 1)]:
        shutil.rmtree(folder_of(run, step))
    return target


def load(folder: Path) -> tuple[Snapshot, manifest.Manifest]:
    """A checkpoint with its hashes checked; ManifestError in one sentence when it is damaged or not one."""
    found = manifest.verify(folder, kind=KIND)
    ema = load_file(folder / EMA) if EMA in found.files else None
    optimizer = _unflatten(load_file(folder / OPTIMIZER), found.metadata["optimizer_groups"])
    return Snapshot(int(found.metadata["step"]), load_file(folder / MODEL), optimizer, ema), found


def weights_file(found: manifest.Manifest) -> str:
    """Name of the file that a finished stage hands on: the averaged weights where there are any, else the weights."""
    for name in (EMA, MODEL):
        if name in found.files:
            return name
    raise ManifestError(f"the checkpoint holds neither {MODEL} nor {EMA}")


def load_weights(folder: Path) -> Mapping[str, Tensor]:
    """What a finished stage hands on. Also reads a released checkpoint, which has no optimiser state."""
    found = manifest.verify(folder, kind=KIND)
    return load_file(folder / weights_file(found))


def release(folder: Path, target: Path, *, half: bool) -> Path:
    """Copy a checkpoint without what only its training needs, in float16 when `half`; ManifestError when it is there.

    The averaged weights become `model.safetensors`; configuration, spec, norm_stats and provenance stay.
    """
    found = manifest.verify(folder, kind=KIND)
    if target.exists():
        raise ManifestError(f"{target}: exists already and is not overwritten")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = load_file(folder / weights_file(found))
    save_file({n: t.half() if half and t.is_floating_point() else t for n, t in weights.items()}, temporary / MODEL)
    for name in found.files.keys() - {MODEL, EMA, OPTIMIZER}:
        shutil.copyfile(folder / name, temporary / name)
    facts = {name: value for name, value in found.metadata.items() if name != "optimizer_groups"}
    manifest.write_manifest(temporary, kind=KIND, metadata=facts | {"released_from": found.digest()})
    temporary.rename(target)
    return target


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    steps = steps_in(run)
    return folder_of(run, steps[-1]) if steps else None


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Optimiser state -> tensors by "parameter/name", and the parameter groups as plain data."""
    tensors = {}
    for parameter, values in state.get("state", {}).items():
        for name, value in values.items():
            tensors[f"{parameter}/{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    groups = [{name: _jsonable(value) for name, value in group.items()} for group in state.get("param_groups", [])]
    return _plain(tensors), groups


def _unflatten(tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        parameter, _, name = key.rpartition("/")
        state.setdefault(parameter, {})[name] = tensor
    restored = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in groups]
    return {"state": state, "param_groups": restored}


def _jsonable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item()
    return list(value) if isinstance(value, tuple) else value
