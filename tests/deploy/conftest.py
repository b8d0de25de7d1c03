"""A small checkpoint of each kind of policy with random weights, and bundles made of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deploy.export import ExportOptions, export
from vla_rft_core import config, manifest
from vla_rft_train.data import normalize
from vla_rft_train.loop import checkpoint
from vla_rft_train.models.flow_head import DitConfig
from vla_rft_train.models.making import make_policy, shapes_of
from vla_rft_train.models.towers import VitConfig
from vla_rft_train.models.vla import LanguageConfig, VlaConfig
from vla_rft_train.policy_presets import PolicyRun, policy_run

SHIPPED = Path(__file__).parents[2] / "vla_rft_train" / "checkpoints" / "sim" / "policy"


def small_vla() -> PolicyRun:
    """The paper's policy, a millionth of its size."""
    language = LanguageConfig(source="", layers=2, width=32, heads=2, kv_heads=1, ffn_width=48, vocab_size=300)
    return replace(
        policy_run("towel"),
        policy=VlaConfig(
            image_size=28,
            towers=(
                VitConfig(name="vit_small_patch14_reg4_dinov2.lvd142m", weights="", depth=2),
                VitConfig(name="vit_so400m_patch14_siglip_224.webli", weights="", depth=2),
            ),
            language=language,
            head=DitConfig(depth=2, width=32, heads=2),
            queries=4,
            lora_rank=2,
            tokenizer="bytes",
            prompt_length=80,
        ),
    )


def make_checkpoint(run: PolicyRun, folder: Path) -> Path:
    """Random weights, the shipped policy's spec and statistics."""
    torch.manual_seed(0)
    stats = normalize.load(SHIPPED)
    policy = make_policy(run.policy, shapes_of(8, stats))
    with torch.no_grad():
        for parameter in policy.parameters():  # zeros at the start would hide much
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder.mkdir()
    weights = {f"policy.{name}": value.contiguous() for name, value in policy.state_dict().items()}
    save_file(weights, folder / checkpoint.MODEL)
    config.save(run, folder / "config.yaml")
    normalize.save(stats, folder)
    shutil.copy(SHIPPED / "spec.yaml", folder)
    metadata = {"stage": "policy", "policy": run.kind, "horizon": 8, "step": 0}
    manifest.write_manifest(folder, kind=checkpoint.KIND, metadata=metadata)
    return folder


@pytest.fixture(scope="session")
def conv_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The debug preset's."""
    return make_checkpoint(policy_run("debug"), tmp_path_factory.mktemp("conv") / "checkpoint")


@pytest.fixture(scope="session")
def made_bundle(conv_checkpoint: Path) -> Path:
    """The bundle of `conv_checkpoint`, made once; tests that change it take `bundle`."""
    out = conv_checkpoint.parent / "bundle"
    export(conv_checkpoint, out, ExportOptions(num_steps=2))
    return out


@pytest.fixture
def bundle(made_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle for one test."""
    return Path(shutil.copytree(made_bundle, tmp_path / "bundle"))
