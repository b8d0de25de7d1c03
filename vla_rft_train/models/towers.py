"""Pre-trained vision towers, fused: DINOv2 sees where things are, SigLIP what they are (the paper's dinosiglip).

Each is a timm vision transformer without its last block, whose patch features of the block before are what language
models are given (Prismatic, arXiv 2402.07865); both features of a patch are concatenated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_rft_train import torchvision_ops

HUB = "hub"
"""As `weights`: the published ones, through timm."""


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """One vision transformer."""

    name: str
    """Of the architecture in timm."""
    weights: str = HUB
    """"hub", a local .safetensors file of the published weights, or "" for random ones."""
    depth: int = 0
    """Blocks; 0 = all that the architecture has. Others only with random weights."""

    def __post_init__(self) -> None:
        if self.depth and self.weights:
            raise ValueError(f"{self.name}: published weights have their own depth, got depth {self.depth}")


class VisionTowers(nn.Module):
    """images [B, 3, S, S] in [0, 1] -> patch features [B, N, sum of widths]; S is a multiple of the patch size."""

    def __init__(self, configs: tuple[VitConfig, ...], image_size: int) -> None:
        super().__init__()
        towers = [_make(config, image_size) for config in configs]
        self.towers = nn.ModuleList(towers)
        self.width: int = sum(tower.embed_dim for tower in towers)
        self.patches: int = towers[0].patch_embed.num_patches
        if any(tower.patch_embed.num_patches != self.patches for tower in towers):
            raise ValueError(f"towers {[c.name for c in configs]} do not cut an image into the same patches")
        for i, tower in enumerate(towers):
            for what in ("mean", "std"):
                value = torch.tensor(tower.pretrained_cfg[what])[:, None, None]
                self.register_buffer(f"{what}_{i}", value, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of both towers, patch by patch."""
        features = []
        for i, tower in enumerate(self.towers):
            normalized = (images - getattr(self, f"mean_{i}")) / getattr(self, f"std_{i}")
            features.append(tower(normalized)[:, tower.num_prefix_tokens :])  # by its forward: FSDP hooks in there
        return torch.cat(features, dim=-1)


def _make(config: VitConfig, image_size: int) -> Any:
    """The transformer without last block, final norm and pooling."""
    torchvision_ops.install()
    import timm

    more: dict[str, Any] = {"depth": config.depth} if config.depth else {}
    if config.weights not in ("", HUB):
        if not Path(config.weights).is_file():
            raise ValueError(f"{config.name}: weights: no file {config.weights}")
        more["pretrained_cfg_overlay"] = {"file": config.weights}
    try:
        tower = timm.create_model(
            config.name, pretrained=bool(config.weights), num_classes=0, global_pool="", img_size=image_size, **more
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"tower {config.name!r}: {str(error).splitlines()[0]}") from None
    del tower.blocks[-1]
    tower.norm = nn.Identity()
    return tower
