"""PolicyStage: supervised flow matching of a policy, as the training loop knows it (the paper's Eq. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_rft_train.data.augment import AugmentConfig, augment, moved
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.policy_windows import PolicyWindows
from vla_rft_train.models import flow
from vla_rft_train.models.policy import ConvPolicy, Policy
from vla_rft_train.pictures import save_rows
from vla_rft_train.policy_presets import PolicyLossConfig
from vla_rft_train.stages import Origin, as_float

VALIDATED = 256
"""Held-out windows over which the action error is logged."""


class PolicyTraining(nn.Module):
    """The policy with its loss: called with a batch of `PolicyWindows`, it returns the loss."""

    def __init__(self, policy: Policy, loss: PolicyLossConfig, augmentation: AugmentConfig) -> None:
        super().__init__()
        self.policy, self.weights, self.augmentation = policy, loss, augmentation

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of the velocity, plus the auxiliary loss where it is wanted."""
        count, ages = batch["states"].shape[:2]
        rows = torch.arange(count, device=batch["states"].device)
        delay = torch.randint(ages, (count,), device=rows.device)
        images, cut = augment(as_float(batch["images"][rows, delay]), self.augmentation)
        state = batch["states"][rows, delay]
        state = state + self.augmentation.state * torch.randn_like(state)
        if self.weights.keypoints > 0.0 and "keypoints" in batch and isinstance(self.policy, ConvPolicy):
            context, points = self.policy.encode_with_points(images)
            error = keypoint_error(points, moved(batch["keypoints"][rows, delay], cut))
            return self._flow_loss(batch["actions"], context, state) + self.weights.keypoints * error
        return self._flow_loss(batch["actions"], self.policy.encode(images, batch["prompt_tokens"], state), state)

    def _flow_loss(self, actions: Tensor, context: Tensor, state: Tensor) -> Tensor:
        times = self.weights.flow_samples
        actions, context, state = (x.repeat_interleave(times, dim=0) for x in (actions, context, state))
        with torch.autocast(actions.device.type, enabled=False):  # the head works in float32 everywhere
            t = flow.draw_time(len(actions), device=actions.device, dtype=actions.dtype)
            x_t, u_t = flow.interpolate(torch.randn_like(actions), actions, t)
            return F.mse_loss(self.policy.velocity(x_t, t, context.to(actions.dtype), state), u_t)


def keypoint_error(points: Tensor, keypoints: Tensor) -> Tensor:
    """Mean distance along an axis between the first points [B, P, 2] and the keypoints [B, K, 2] that they should be.

    Keypoints outside the picture do not count.
    """
    visible = (keypoints.abs() <= 1.0).all(dim=-1, keepdim=True)
    error = (points[:, : keypoints.shape[1]] - keypoints).abs() * visible
    return error.sum() / (2.0 * visible.sum()).clamp(min=1.0)


class PolicyStage:
    """Trains the policy."""

    name = "policy"

    def __init__(
        self,
        model: PolicyTraining,
        dataset: PolicyWindows,
        held_out: PolicyWindows,
        stats: Mapping[str, NormStats],
        origin: Origin,
    ) -> None:
        self.model, self.dataset, self._held_out, self._stats, self._origin = model, dataset, held_out, stats, origin
        chosen = range(0, len(held_out), max(1, len(held_out) // VALIDATED))
        self._validation = torch.utils.data.default_collate([held_out[i] for i in chosen])

    @torch.no_grad()
    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Error of sampled translations [mm], on this batch and on held-out windows."""
        device = batch["actions"].device
        held_out = {name: value.to(device) for name, value in self._validation.items()}
        return {"mm": self._millimetres(batch), "mm_held_out": self._millimetres(held_out)}

    def _millimetres(self, batch: Mapping[str, Tensor]) -> float:
        policy, actions = self.model.policy, batch["actions"]
        was_training = policy.training
        policy.eval()
        noise = policy.noise(len(actions), torch.Generator().manual_seed(0)).to(actions)
        images, state = as_float(batch["images"][:, 0]), batch["states"][:, 0]
        sampled = policy.sample(images, batch["prompt_tokens"], state, noise)
        policy.train(was_training)
        return translation_error(sampled, actions, self._stats["action"]) * 1000.0

    def draw(self, model: nn.Module, folder: Path, step: int) -> None:
        """Held-out images with the points that the eye finds, where it finds any."""
        policy = self.model.policy
        if not isinstance(policy, ConvPolicy):
            return
        images = as_float(self._validation["images"][:: max(1, len(self._validation["images"]) // 8), 0][:8])
        points = policy.encode_with_points(images)[1]
        folder.mkdir(parents=True, exist_ok=True)
        save_rows([with_points(images, points[:, :5])], folder / f"policy-{step:08d}.png")

    def add_files(self, folder: Path) -> None:
        """Configuration, spec and statistics."""
        self._origin.add_files(folder)

    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""
        return self._origin.facts


def translation_error(sampled: Tensor, actions: Tensor, stats: NormStats) -> float:
    """Mean length [m] of the difference between two chunks' translations [B, T, A], after un-normalising."""
    names = [i for i, name in enumerate(stats.names) if name in ("delta.x", "delta.y", "delta.z")] or [0, 1, 2]
    difference = stats.unnormalize(sampled) - stats.unnormalize(actions)
    return float(difference[..., names].norm(dim=-1).mean())


def with_points(images: Tensor, points: Tensor) -> Tensor:
    """Images [B, 3, S, S] in [0, 1] with red squares at points [B, P, 2] (x, y in [-1, 1])."""
    marked, size = images.clone(), images.shape[-1]
    pixels = ((points + 1.0) * 0.5 * size).long().clamp(1, size - 2)
    for picture, places in zip(marked, pixels.tolist(), strict=True):
        for x, y in places:
            picture[:, y - 1 : y + 2, x - 1 : x + 2] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return marked
