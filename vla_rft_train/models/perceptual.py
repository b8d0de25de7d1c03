"""LPIPS as a loss and a figure: the published metric, or, where a preset says so, its net with random weights.

The backbone's weights are not in the lpips package. Without them the metric is refused unless `random` is asked for;
a random net still compares pictures at several scales, but its numbers are not LPIPS and every name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor, nn

SEED = 0
"""Of the random backbone: the same everywhere."""


class Weights(StrEnum):
    """Where the backbone's weights come from."""

    NONE = "none"
    """No perceptual term."""
    PUBLISHED = "published"
    """torchvision's ImageNet weights, from its cache or `folder`."""
    RANDOM = "random"
    """Drawn once from a fixed seed."""


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """Which net, with which weights."""

    net: str = "vgg"
    """vgg (the paper's code) or alex."""
    weights: str = Weights.PUBLISHED
    folder: str = ""
    """Where `published` looks for <net>.pth; empty = torch's hub cache."""

    def __post_init__(self) -> None:
        if self.net not in ("vgg", "alex"):
            raise ValueError(f"perceptual net: must be 'vgg' or 'alex', got {self.net!r}")
        if self.weights not in list(Weights):
            raise ValueError(f"perceptual weights: must be one of {', '.join(Weights)}, got {self.weights!r}")

    @property
    def label(self) -> str:
        """What its numbers are called."""
        return f"lpips_{self.net}" if self.weights == Weights.PUBLISHED else f"random_{self.net}_not_lpips"


class Perceptual(nn.Module):
    """Distance of pictures in [0, 1]; frozen, differentiable in its inputs."""

    def __init__(self, config: PerceptualConfig) -> None:
        super().__init__()
        if config.weights == Weights.NONE:
            raise ValueError("a perceptual distance was asked for where the preset has none")
        self.config = config
        import lpips  # brings torchvision's models, seconds that most runs need not spend

        random = config.weights == Weights.RANDOM
        backbone = None if random else _published(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self.net = lpips.LPIPS(net=config.net, pnet_rand=True, verbose=False)
        if backbone is not None:
            _load_backbone(self.net, backbone)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Perceptual:
        """It has no training mode."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance [B] of pictures [B, 3, H, W] in [0, 1]."""
        return self.net(a * 2.0 - 1.0, b * 2.0 - 1.0).flatten()


_FILES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


def _published(config: PerceptualConfig) -> dict[str, Tensor]:
    name = _FILES[config.net]
    folder = Path(config.folder) if config.folder else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file. LPIPS needs the published weights of {config.net}; put {name} there, or choose a "
            f"preset with perceptual weights 'random', whose figures are marked as not being LPIPS"
        )
    return torch.load(path, weights_only=True, map_location="cpu")


def _load_backbone(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Into lpips' slices, whose layers keep torchvision's numbers."""
    own = {name: tensor for name, tensor in net.net.state_dict().items()}  # type: ignore[union-attr]
    for name in own:
        _, number, kind = name.split(".")
        own[name] = weights[f"features.{number}.{kind}"]
    net.net.load_state_dict(own)  # type: ignore[union-attr]
