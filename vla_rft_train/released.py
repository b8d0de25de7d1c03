"""Trained models back from their checkpoints, with what came with them: spec, norm_stats, identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from vla_rft_core import config as core_config
from vla_rft_core import manifest
from vla_rft_core.spec import RobotSpec
from vla_rft_train.data import normalize
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.loop import checkpoint
from vla_rft_train.models.layout import TokenLayout
from vla_rft_train.models.making import make_policy, shapes_of
from vla_rft_train.models.policy import Policy
from vla_rft_train.models.tokenizer import CompressiveTokenizer, TokenizerConfig
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.policy_presets import RUNS, ConvRun, PolicyRun
from vla_rft_train.presets import TokenizerRun, WorldModelRun

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class Released(Generic[M, C]):
    """A model in evaluation mode, and where it comes from."""

    model: M
    config: C
    spec: RobotSpec | None
    stats: Mapping[str, NormStats]
    digest: str
    """sha256 of the weights."""


def load_tokenizer(folder: Path) -> Released[CompressiveTokenizer, TokenizerRun]:
    """The tokenizer of a checkpoint; ManifestError or ValueError in one sentence when it is none or damaged."""
    config = _config(folder, TokenizerRun, "tokenizer")
    return _released(folder, CompressiveTokenizer(config.model), config, prefix="tokenizer.")


def load_world_model(
    folder: Path, tokenizer: Released[CompressiveTokenizer, TokenizerRun]
) -> Released[WorldModel, WorldModelRun]:
    """The world model of a checkpoint; ValueError when it was trained on another tokenizer's codes."""
    config = _config(folder, WorldModelRun, "world_model")
    theirs = manifest.read_manifest(folder, kind=checkpoint.KIND).metadata["tokenizer"]
    if theirs != tokenizer.digest:
        raise ValueError(f"{folder}: was trained with tokenizer {theirs[:12]}…, not with {tokenizer.digest[:12]}…")
    layout = layout_of(config, tokenizer.model.config, normalize.load(folder))
    return _released(folder, WorldModel(config.model, layout), config, prefix="world_model.")


def load_policy(folder: Path) -> Released[Policy, PolicyRun]:
    """The policy of a checkpoint, fine-tuned or not; ManifestError or ValueError in one sentence when it is none."""
    facts = manifest.read_manifest(folder, kind=checkpoint.KIND).metadata
    config: PolicyRun = _config(folder, RUNS.get(facts.get("policy", ""), ConvRun), "policy", "rft")
    stats = normalize.load(folder)
    model = make_policy(config.policy, shapes_of(facts["horizon"], stats))
    return _released(folder, model, config, prefix="policy.")


def layout_of(config: WorldModelRun, tokenizer: TokenizerConfig, stats: Mapping[str, NormStats]) -> TokenLayout:
    """The sequence that follows from tokenizer and data."""
    return TokenLayout(
        context_tokens=tokenizer.context_tokens,
        dynamics_tokens=tokenizer.dynamics_tokens,
        codebook_size=tokenizer.codebook_size,
        action_dim=len(stats["action"].names),
        action_bins=config.action_bins,
        actions_per_frame=config.data.actions_per_frame,
        state_dim=len(stats["state"].names) if config.use_state else 0,
    )


def _config(folder: Path, kind: type[C], *stages: str) -> C:
    found = manifest.read_manifest(folder, kind=checkpoint.KIND)
    if found.metadata.get("stage") not in stages:
        expected = " or ".join(repr(stage) for stage in stages)
        raise ValueError(f"{folder}: is a checkpoint of stage {found.metadata.get('stage')!r}, expected {expected}")
    return core_config.load(kind, folder / "config.yaml")


def _released(folder: Path, model: M, config: C, *, prefix: str) -> Released[M, C]:
    weights = checkpoint.load_weights(folder)
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    missing, unexpected = model.load_state_dict(own, strict=False)
    missing = [name for name in missing if name in dict(model.named_parameters())]
    if missing or unexpected:
        raise ValueError(f"{folder}: weights do not fit its config.yaml; first of them: {(missing + unexpected)[0]}")
    spec = RobotSpec.load(folder / "spec.yaml") if (folder / "spec.yaml").exists() else None
    found = manifest.read_manifest(folder, kind=checkpoint.KIND)
    digest = found.files[checkpoint.weights_file(found)].sha256
    return Released(model.eval().requires_grad_(False), config, spec, normalize.load(folder), digest)
