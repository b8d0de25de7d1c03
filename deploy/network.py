"""A policy as two functions of arrays in physical units: what is exported, and what PyTorch's own backends run.

`Encode` and `Flow` hold everything between a camera's square picture and actions in metres: the scaling of pixels,
norm_stats, committed prefixes. So there is one place that does it, and a robot needs none of it in Python.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vla_rft_train.data.normalize import NormStats
from vla_rft_train.models import flow
from vla_rft_train.models.policy import Policy

Prefix = Literal["replace", "clean"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class _Scale(nn.Module):
    """norm_stats of one vector, as buffers."""

    def __init__(self, stats: NormStats) -> None:
        super().__init__()
        low, high = stats.bounds
        self.register_buffer("low", low)
        self.register_buffer("range", high - low)
        self.low: Tensor
        self.range: Tensor

    def normalize(self, values: Tensor) -> Tensor:
        """As `NormStats.normalize`."""
        return (values - self.low) / self.range * 2.0 - 1.0

    def unnormalize(self, values: Tensor) -> Tensor:
        """As `NormStats.unnormalize`."""
        return (values + 1.0) * 0.5 * self.range + self.low


class Encode(nn.Module):
    """image uint8 [1, S, S, 3], prompt_tokens int64 [1, L], state [1, D] in its units -> context, in fp32."""

    def __init__(self, policy: Policy, state: NormStats, *, precision: str) -> None:
        super().__init__()
        self.policy, self.state, self.dtype = policy, _Scale(state), DTYPES[precision]

    def forward(self, image: Tensor, prompt_tokens: Tensor, state: Tensor) -> Tensor:
        """What the policy sees."""
        pixels = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0  # TensorRT does nothing to uint8 but cast it
        known = self.state.normalize(state)
        return self.policy.encode(pixels.to(self.dtype), prompt_tokens, known.to(self.dtype)).float()


class Flow(nn.Module):
    """context, state [1, D], noise [1, T, A], prefix [1, T, A], prefix_length int64 [1] -> actions [1, T, A].

    The first prefix_length actions come out as they went in, and the others are made to follow them: at every Euler
    step the prefix takes its place in x_t, on its straight path from the noise ("replace", as in diffusion inpainting
    and in the simplest form of real-time chunking, arXiv 2506.07339), or as it is ("clean", for policies trained with
    such prefixes, arXiv 2512.05964).
    """

    def __init__(
        self,
        policy: Policy,
        stats: dict[str, NormStats],
        *,
        num_steps: int,
        precision: str = "fp32",
        prefix: Prefix = "replace",
    ) -> None:
        super().__init__()
        self.policy, self.num_steps, self.dtype, self.prefix = policy, num_steps, DTYPES[precision], prefix
        self.state, self.action = _Scale(stats["state"]), _Scale(stats["action"])

    def forward(self, context: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, prefix_length: Tensor) -> Tensor:
        """x_t stays in fp32, whatever the network computes in."""
        place = torch.arange(noise.shape[1], device=noise.device)
        committed = (place < prefix_length)[None, :, None]
        wanted = self.action.normalize(prefix)
        step = self.policy.conditioned(context.to(self.dtype), self.state.normalize(state).to(self.dtype))

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            path = wanted if self.prefix == "clean" else flow.interpolate(noise, wanted, t)[0]
            x_t = torch.where(committed, path, x_t)
            return step(x_t.to(self.dtype), t.to(self.dtype)).float()

        x_t = torch.where(committed, wanted, flow.integrate(velocity, noise, self.num_steps))
        return torch.where(committed, prefix, self.action.unnormalize(x_t))


def merge_lora(policy: Policy) -> Policy:
    """The policy with its adapters added into the weights that they adapt: nothing of them is left to run."""
    adapted = [
        (parent, name, child)
        for parent in policy.modules()
        for name, child in parent.named_children()
        if hasattr(child, "merge") and hasattr(child, "get_base_layer")
    ]
    for parent, name, child in adapted:
        child.merge()
        setattr(parent, name, child.get_base_layer())
    return policy
