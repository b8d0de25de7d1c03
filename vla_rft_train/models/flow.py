"""Flow matching between Gaussian noise and actions (the paper's Eq. 4). **t = 0 is noise, t = 1 is the action.**

x_t = (1 - t) noise + t action, target velocity u_t = action - noise, t ~ Beta(1.5, 1); sampling integrates the
predicted velocity v_t from 0 to 1 by Euler steps. Knows nothing of images or robots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TIME_ALPHA = 1.5
"""First parameter of the Beta distribution of training times; the second is 1."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, T, A], t [B]) -> v_t [B, T, A]."""


def draw_time(count: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Times [count] ~ Beta(1.5, 1), exact: its distribution function is t^1.5, so t = u^(1/1.5) for a uniform u."""
    return torch.rand(count, device=device, dtype=dtype) ** (1.0 / TIME_ALPHA)


def interpolate(noise: Tensor, actions: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, u_t) [B, T, A] of noise and actions [B, T, A] at times t [B]."""
    time = t[:, None, None]
    return (1.0 - time) * noise + time * actions, actions - noise


def integrate(velocity: Velocity, noise: Tensor, num_steps: int) -> Tensor:
    """Actions [B, T, A] that noise [B, T, A] flows to in `num_steps` Euler steps; the loop unrolls in an export."""
    x_t, dt = noise, 1.0 / num_steps
    for i in range(num_steps):
        t = torch.full((noise.shape[0],), i * dt, device=noise.device, dtype=noise.dtype)
        x_t = x_t + dt * velocity(x_t, t)
    return x_t
