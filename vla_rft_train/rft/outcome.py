"""`python -m vla_rft_train.rft.outcome PRESET --out RUN --data.branches DIR`: a head that sees if a fold succeeded.

A small convolutional net from a frame to the probability that the task is done in it, trained on labelled branches,
every frame of which the simulator has judged. As a term of the reward it looks at the last imagined frame: give
`data.frames` room enough for the outcome to come into view. The paper names learned rewards as future work.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from vla_rft_core import config as core_config
from vla_rft_core import manifest
from vla_rft_core.image import policy_image
from vla_rft_episodes.branches import Branches
from vla_rft_train import command
from vla_rft_train.loop import checkpoint
from vla_rft_train.loop.config import LoopConfig
from vla_rft_train.loop.trainer import Trainer
from vla_rft_train.presets import choose
from vla_rft_train.rft.rewards import Scene, Term
from vla_rft_train.stages import Origin, as_float

STAGE = "outcome"


@dataclass(frozen=True, kw_only=True)
class OutcomeData:
    """What the head learns from."""

    branches: str = ""
    """Folder of branches made by `vla_rft_sim.branch`."""
    camera: str = ""
    """Name of the camera; empty = the first."""
    held_out: float = 0.1
    """Fraction of the demonstrations whose branches are kept for validation."""
    cache_gb: float = 2.0
    """Not a limit here: all frames are kept."""


@dataclass(frozen=True, kw_only=True)
class OutcomeRun:
    """Everything that decides a training of the head."""

    data: OutcomeData = field(default_factory=OutcomeData)
    size: int = 64
    """Side of the frames [pixels]: the world model's."""
    width: int = 32
    loop: LoopConfig


class OutcomeHead(nn.Module):
    """Frames [B, 3, H, W] in [0, 1] -> logits [B] of success."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (3, width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2 * width * 16, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """[B]."""
        logits: Tensor = self.net(frames * 2.0 - 1.0)[:, 0]
        return logits


class OutcomeTraining(nn.Module):
    """The head with its loss. Successes are rare: `positive` weighs them."""

    def __init__(self, head: OutcomeHead, positive: float) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("positive", torch.tensor(positive), persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of frame uint8 [B, 3, H, W] and success [B]."""
        return F.binary_cross_entropy_with_logits(
            self.head(as_float(batch["frame"])), batch["success"], pos_weight=self.positive
        )


class JudgedFrames(Dataset[dict[str, Tensor]]):
    """Every frame of the branches of some demonstrations, with whether the task is done in it."""

    def __init__(self, branches: Branches, chosen: list[int], *, camera: str, size: int) -> None:
        frames, success = [], []
        for index in chosen:
            branch = branches[index]
            frames += [policy_image(picture, size) for picture in branch.images(camera)]
            success.append(branch.truth["success"])
        self._frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
        self._success = torch.from_numpy(np.concatenate(success)).float()

    @property
    def share(self) -> float:
        """Of the frames that are a success."""
        return float(self._success.mean())

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"frame": self._frames[index], "success": self._success[index]}


class OutcomeStage:
    """Trains the head."""

    name = STAGE

    def __init__(self, model: OutcomeTraining, dataset: JudgedFrames, held_out: JudgedFrames, origin: Origin) -> None:
        self.model, self.dataset, self._held_out, self._origin = model, dataset, held_out, origin

    @torch.no_grad()
    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Balanced accuracy on held-out branches: mean of that among successes and that among the others."""
        every = torch.utils.data.default_collate([self._held_out[i] for i in range(0, len(self._held_out), 7)])
        device = next(self.model.parameters()).device
        parts = [self.model.head(as_float(part.to(device))) > 0.0 for part in every["frame"].split(256)]
        right = torch.cat(parts).cpu() == (every["success"] > 0.5)
        kinds = [right[every["success"] == kind].float().mean() for kind in (0.0, 1.0)]
        return {"balanced_accuracy": float(torch.stack([k for k in kinds if torch.isfinite(k)]).mean())}

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at."""

    def add_files(self, folder: Path) -> None:
        """Configuration and spec."""
        self._origin.add_files(folder)

    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""
        return self._origin.facts


def train(run: OutcomeRun, out: Path) -> Path:
    """Train, or go on with, the head in the run folder `out`; the folder of its last checkpoint."""
    if not run.data.branches:
        raise ValueError("data.branches: name a folder of branches (python -m vla_rft_sim.branch)")
    branches = Branches(Path(run.data.branches))
    camera = run.data.camera or branches.spec.cameras[0].name
    episodes = sorted(set(branches.episodes))
    out_of = set(np.random.default_rng(0).permutation(episodes)[: max(1, round(run.data.held_out * len(episodes)))])

    def judged(held_out: bool) -> JudgedFrames:
        chosen = [i for i, episode in enumerate(branches.episodes) if (episode in out_of) is held_out]
        if not chosen:
            raise ValueError(f"{run.data.branches}: branches of {len(episodes)} demonstrations cannot be split")
        return JudgedFrames(branches, chosen, camera=camera, size=run.size)

    torch.manual_seed(run.loop.seed)
    frames = judged(held_out=False)
    if not 0.0 < frames.share < 1.0:
        raise ValueError(f"{run.data.branches}: needs frames that are a success and frames that are none")
    model = OutcomeTraining(OutcomeHead(run.width), (1.0 - frames.share) / frames.share)
    facts = {"git": command.git_revision(), "branches": len(branches), "share_of_success": frames.share}
    stage = OutcomeStage(model, frames, judged(held_out=True), Origin(run, branches.spec, {}, facts))
    return Trainer(stage, run.loop, out).train()


def load(folder: Path, device: torch.device) -> Term:
    """The reward's term of a trained head: the probability of success in the last imagined frame, [S, N]."""
    found = manifest.verify(folder, kind=checkpoint.KIND)
    if found.metadata.get("stage") != STAGE:
        raise ValueError(f"{folder}: is a checkpoint of stage {found.metadata.get('stage')!r}, expected {STAGE!r}")
    head = OutcomeHead(core_config.load(OutcomeRun, folder / "config.yaml").width)
    weights = checkpoint.load_weights(folder)
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in weights.items()})
    head.to(device).eval().requires_grad_(False)

    def term(scene: Scene) -> Tensor:
        if scene.frames is None:
            raise ValueError("reward: the outcome looks at frames, and nothing was imagined")
        last = scene.frames.imagined[:, :, -1]
        return torch.sigmoid(head(last.flatten(0, 1))).view(last.shape[:2])

    return term


def outcome_run(name: str) -> OutcomeRun:
    """The preset of that name; ValueError lists the others."""
    loop = LoopConfig(steps=1000, batch=64, lr=1e-3, warmup=50, decay="cosine", weight_decay=1e-4, sample_every=0)
    sim = OutcomeRun(loop=loop)
    small = replace(loop, steps=2, batch=4, warmup=0, log_every=1, save_every=1)
    large = OutcomeRun(size=256, loop=replace(loop, steps=4000))
    return choose(
        name,
        {
            "debug": lambda: OutcomeRun(width=8, data=OutcomeData(held_out=0.5), loop=small),
            "sim": lambda: sim,
            "towel": lambda: large,
            "libero": lambda: large,
        },
    )


if __name__ == "__main__":
    command.run(outcome_run, train, __doc__ or "")
