"""The stages of stage I as the loop knows them: what a batch costs, what is drawn, what a checkpoint holds.

`TokenizerStage` trains the compressive tokenizer (L1, a little L2, a perceptual distance); `WorldModelStage` trains
the LLaMA on codes of a frozen tokenizer (Eq. 3). Their data and presets are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rft_core import config as core_config
from vla_rft_core.spec import RobotSpec
from vla_rft_train.data import normalize
from vla_rft_train.data.codes import CodedWindows
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.windows import Windows
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.measure import psnr
from vla_rft_train.models.discriminator import PatchDiscriminator, adversarial_losses
from vla_rft_train.models.perceptual import Perceptual, PerceptualConfig, Weights
from vla_rft_train.models.tokenizer import CompressiveTokenizer
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.pictures import save_rows
from vla_rft_train.rollout import RolloutEngine


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss:
    """Weights of the tokenizer's loss."""

    l1: float = 1.0
    l2: float = 0.0
    perceptual: float = 1.0
    context: float = 1.0
    """Of frame 0's reconstruction beside those of the later frames."""
    adversarial: float = 0.0
    """Of the term that wants later frames to look real to a discriminator; 0 = none."""
    adversarial_from: int = 10_000
    """Step from which the tokenizer feels that term; the discriminator learns from the start."""


@dataclass(frozen=True)
class Origin:
    """What a checkpoint carries with it beside the weights."""

    config: Any
    """The stage's configuration, a dataclass."""
    spec: RobotSpec | None
    stats: Mapping[str, NormStats]
    facts: Mapping[str, Any]
    """Provenance: dataset hash, parent checkpoint, git revision."""

    def add_files(self, folder: Path) -> None:
        """Write config.yaml, spec.yaml and norm_stats.json."""
        core_config.save(self.config, folder / "config.yaml")
        if self.spec is not None:
            self.spec.save(folder / "spec.yaml")
        normalize.save(self.stats, folder)


class TokenizerTraining(nn.Module):
    """The tokenizer with its loss: called with a batch, it returns the loss (and a discriminator's, if any).

    later_frames: how many of a window's later frames a step reconstructs, drawn anew each time; 0 = all. Frames of one
    window are alike: more windows and fewer frames of each teach more per second.
    """

    def __init__(
        self,
        tokenizer: CompressiveTokenizer,
        loss: ReconstructionLoss,
        perceptual: PerceptualConfig,
        *,
        later_frames: int = 0,
    ) -> None:
        super().__init__()
        self.tokenizer, self.weights, self.later_frames = tokenizer, loss, later_frames
        wanted = loss.perceptual > 0.0 and perceptual.weights != Weights.NONE
        self.perceptual = Perceptual(perceptual) if wanted else None
        self.discriminator = PatchDiscriminator() if loss.adversarial > 0.0 else None

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """batch: frames uint8 [B, 1 + T, 3, H, W]."""
        frames = as_float(self._drawn(batch["frames"]))
        first, later = self.tokenizer(frames)
        ours, true = later.flatten(0, 1), frames[:, 1:].flatten(0, 1)
        loss = self._distance(ours, true) + self.weights.context * self._distance(first, frames[:, 0])
        if self.discriminator is not None:
            fooled, found_out = adversarial_losses(self.discriminator, ours, true)
            felt = (batch[STEP] >= self.weights.adversarial_from).to(loss.dtype)
            loss = loss + self.weights.adversarial * felt * fooled + found_out
        return loss

    def _drawn(self, frames: Tensor) -> Tensor:
        """Frame 0 and `later_frames` of the others, in any order: [B, 1 + n, 3, H, W]."""
        batch, later = frames.shape[0], frames.shape[1] - 1
        if not 0 < self.later_frames < later:
            return frames
        chosen = 1 + torch.rand(batch, later, device=frames.device).argsort(dim=1)[:, : self.later_frames]
        rows = torch.arange(batch, device=frames.device)[:, None]
        return torch.cat([frames[:, :1], frames[rows, chosen]], dim=1)

    def _distance(self, ours: Tensor, true: Tensor) -> Tensor:
        loss = self.weights.l1 * F.l1_loss(ours, true) + self.weights.l2 * F.mse_loss(ours, true)
        if self.perceptual is not None:
            loss = loss + self.weights.perceptual * self.perceptual(ours, true).mean()
        return loss


class TokenizerStage:
    """Trains the tokenizer."""

    name = "tokenizer"

    def __init__(self, model: TokenizerTraining, dataset: Windows, held_out: Windows, origin: Origin) -> None:
        self.model, self.dataset, self._held_out, self._origin = model, dataset, held_out, origin

    @torch.no_grad()
    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """PSNR of frame 0 and of the later frames, and how many codes the batch uses."""
        tokenizer = self.model.tokenizer
        frames = as_float(batch["frames"])
        context = tokenizer.encode_context(frames[:, 0])
        codes = tokenizer.encode_dynamics(frames[:, 1:], context)
        decoded = tokenizer.decode_dynamics(codes, context)
        return {
            "psnr_context": psnr(context.reconstruction, frames[:, 0]),
            "psnr_dynamics": psnr(decoded, frames[:, 1:]),
            "codes_used": float(codes.unique().numel()),
        }

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        """True frames above reconstructed ones, of held-out windows."""
        frames = as_float(_some(self._held_out, 4)["frames"]).to(_device(model))
        first, later = self.model.tokenizer(frames)
        ours = torch.cat([first[:, None], later], dim=1)
        save_rows(
            [row for pair in zip(frames, ours, strict=True) for row in pair], folder / f"tokenizer-{step:08d}.png"
        )

    def add_files(self, folder: Path) -> None:
        """Configuration, spec and statistics."""
        self._origin.add_files(folder)

    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""
        return self._origin.facts


class WorldModelTraining(nn.Module):
    """The world model behind a frozen tokenizer: called with a batch, it returns Eq. 3."""

    def __init__(self, world_model: WorldModel, tokenizer: CompressiveTokenizer) -> None:
        super().__init__()
        self.world_model = world_model
        self.frozen = [tokenizer.requires_grad_(False).eval()]
        """In a list, so that it is no part of what is trained, wrapped and saved."""

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """batch: frames uint8 [B, 1 + T, 3, H, W], actions [B, T, k, A] and state [B, S], normalised.

        Codes may come with the batch ("context_codes", "codes"), else the frames are encoded.
        """
        context_codes, codes = self.codes_of(batch)
        state = batch["state"] if self.world_model.layout.state_dim else None
        return self.world_model.loss(context_codes, codes, batch["actions"], state)

    @torch.no_grad()
    def codes_of(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Context codes [B, Kc] and codes [B, 1 + T, Kd]."""
        if "codes" in batch:
            return batch["context_codes"], batch["codes"]
        (tokenizer,) = self.frozen
        frames = as_float(batch["frames"])
        return tokenizer.to(frames.device).codes_of(frames)


class WorldModelStage:
    """Trains the world model."""

    name = "world_model"

    def __init__(
        self, model: WorldModelTraining, dataset: Windows | CodedWindows, held_out: Windows, origin: Origin
    ) -> None:
        self.model, self.dataset, self._held_out, self._origin = model, dataset, held_out, origin

    @torch.no_grad()
    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of dynamics tokens whose most probable prediction is right."""
        context_codes, codes = self.model.codes_of(batch)
        state = batch["state"] if self.model.world_model.layout.state_dim else None
        logits = self.model.world_model(context_codes, codes, batch["actions"], state)
        return {"accuracy": float((logits.argmax(-1) == codes[:, 1:]).float().mean())}

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        """True frames above imagined ones (greedy), of held-out windows."""
        batch = {name: value.to(_device(model)) for name, value in _some(self._held_out, 4).items()}
        (tokenizer,) = self.model.frozen
        frames = as_float(batch["frames"])
        imagined = imagine(self.model.world_model, tokenizer, batch)
        rows = [torch.cat([frame[:1], later]) for frame, later in zip(frames, imagined, strict=True)]
        pairs = [row for pair in zip(frames, rows, strict=True) for row in pair]
        save_rows(pairs, folder / f"world-model-{step:08d}.png")

    def add_files(self, folder: Path) -> None:
        """Configuration, spec and statistics."""
        self._origin.add_files(folder)

    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""
        return self._origin.facts


@torch.no_grad()
def imagine(world_model: WorldModel, tokenizer: CompressiveTokenizer, batch: Mapping[str, Tensor]) -> Tensor:
    """Greedy rollout of each window's actions from its first frame: frames [B, T, 3, H, W] in [0, 1]."""
    context, first = tokenizer.encode_window(as_float(batch["frames"][:, :1]))
    engine = RolloutEngine(world_model)
    state = batch["state"] if world_model.layout.state_dim else None
    codes = engine.rollout(engine.prefill(context.codes, state, first[:, 0]), batch["actions"][:, None])[:, 0]
    return tokenizer.decode_dynamics(codes, context).clamp(0.0, 1.0)


def as_float(frames: Tensor) -> Tensor:
    """uint8 pictures as float32 in [0, 1]."""
    return frames.float() / 255.0 if frames.dtype == torch.uint8 else frames


def _some(windows: Windows, count: int) -> dict[str, Tensor]:
    """`count` windows, evenly over the set, as a batch."""
    items = [windows[i * len(windows) // count] for i in range(count)]
    return torch.utils.data.default_collate(items)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
