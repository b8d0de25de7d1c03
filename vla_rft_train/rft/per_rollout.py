"""The straightforward schedule of a fine-tuning step, as a reference to measure against. `RftStage`'s arithmetic.

As the public code does it: every rollout is looked at, encoded, generated frame by frame from its full prompt, and
decoded as a sequence of its own; so is its reference, once per rollout instead of once per start state; and the frozen
part of the policy looks again for the old log-densities and for the update. Same weights and draws, so same rewards.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_rft_train.generate_per_frame import generate_per_frame
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.rft import grpo, sde
from vla_rft_train.rft.imagine import DECODED, Imagination
from vla_rft_train.rft.policy import Draws, Experience
from vla_rft_train.rft.presets import GoesOn
from vla_rft_train.rft.rewards import Frames, Scene
from vla_rft_train.rft.stage import RftStage
from vla_rft_train.stages import as_float


@torch.no_grad()
def play_per_rollout(stage: RftStage, batch: Mapping[str, Tensor]) -> Experience:
    """What `RftStage.play` gives, but with a context per rollout; R2 or R3, decoded greedily."""
    model, group = stage.model, stage.run.group
    if stage.imagination is None:
        raise ValueError("the straightforward schedule is that of a reward that imagines; R1 has none")
    if stage.run.data.goes_on is not GoesOn.DEMONSTRATION:
        raise ValueError(f"the straightforward schedule: data.goes_on {GoesOn.DEMONSTRATION}, got {GoesOn.POLICY}")
    key = (stage.run.loop.seed, int(batch[STEP]))
    draws = Draws.of(batch["id"].tolist(), model, group=group, key=key, like=batch["state"])
    copies = {name: value.repeat_interleave(group, dim=0) for name, value in batch.items() if name != STEP}
    velocity, sigma = model.parts(model.encode(copies), copies["state"], 1)
    chain = sde.sample(velocity, sigma, draws.noise, draws.steps, correlation=stage.run.chain.correlation)
    ours = _imagine(stage.imagination, copies, chain.actions)
    reference = _imagine(stage.imagination, copies, copies["actions"])
    recorded = as_float(copies["frames"])
    frames = Frames(recorded[:, 0], ours[:, None], reference, recorded[:, 1:])
    rewards = stage.reward(Scene(chain.actions[:, None], copies["actions"], frames))[0].view(-1, group)
    velocity, sigma = model.parts(model.encode(copies), copies["state"], 1)
    old = sde.log_prob(velocity, sigma, chain, stage.run.chain.over_steps)
    return Experience(
        context=model.encode(copies),
        state=copies["state"],
        demonstrated=copies["actions"],
        chain=chain,
        old=old,
        flow_noise=draws.flow_noise,
        flow_time=draws.flow_time,
        rewards=rewards,
        advantages=grpo.advantages(rewards, stage.run.grpo).flatten(),
    )


def _imagine(imagination: Imagination, copies: Mapping[str, Tensor], actions: Tensor) -> Tensor:
    """Frames [B, F, 3, H, W] of chunks [B, T, A]: all recorded frames are encoded, as if each rollout had its own."""
    context, codes = imagination.tokenizer.encode_window(as_float(copies["frames"]))
    state = copies["world_state"] if imagination.world_model.layout.state_dim else None
    played = imagination.world_actions(actions[:, None], copies["world_actions"])
    made = generate_per_frame(imagination.world_model, context.codes, state, codes[:, 0], played)[:, 0]
    size = max(1, DECODED // made.shape[1])
    pictures = []
    for start in range(0, len(made), size):
        rows = torch.arange(start, min(start + size, len(made)), device=made.device)
        pictures.append(imagination.tokenizer.decode_dynamics(made[rows], context.take(rows)))
    return torch.cat(pictures).clamp(0.0, 1.0)
