"""Several chunks in a row: the policy looks at the frame that its chunk led to, as imagined, and acts again.

So that what a chunk is worth may come into view: an outcome, and what its own later chunks make of it. The paper rolls
out one chunk. Every chunk after the first is played without noise, from x_0 = 0, so that rollouts of a group differ by
their first chunk alone, the one that is learned from; the reference goes on with the demonstration's actions. Each
chunk's last frame is the next window's context: the world model never looks further ahead than a chunk at a time.

Legend: S start states, N rollouts of each, B = S * (N + 1) sequences with their references, T actions of A numbers,
F frames, f of them per chunk, k actions per frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vla_rft_core.spec import TOWEL_ACTION_LAYOUT, TOWEL_STATE_LAYOUT
from vla_rft_train.models.policy import Policy
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.released import Released
from vla_rft_train.rft.imagine import Imagination
from vla_rft_train.rft.policy import StochasticPolicy
from vla_rft_train.rft.rewards import Frames
from vla_rft_train.rollout import Sampling


class GoingOn:
    """What follows the first chunk when the policy acts on."""

    def __init__(
        self, model: StochasticPolicy, released: Released[Policy, PolicyRun], imagination: Imagination
    ) -> None:
        """released: the policy as it was loaded, with its statistics. ValueError when its state cannot be foretold."""
        self._model, self._stats, self._imagination = model, released.stats, imagination
        self._size = released.config.policy.image_size
        if imagination.engine.config.sampling is Sampling.INDEPENDENT:
            raise ValueError("data.goes_on: rollouts that go on share their draws; rollout.sampling: greedy or shared")
        for name, layout in (("state", TOWEL_STATE_LAYOUT), ("action", TOWEL_ACTION_LAYOUT)):
            if self._stats[name].names != layout:
                raise ValueError(
                    f"data.goes_on: what a chunk does to the state is known for a {name} of {', '.join(layout)}; this "
                    f"policy's is {', '.join(self._stats[name].names)}"
                )

    @torch.no_grad()
    def frames(self, batch: Mapping[str, Tensor], actions: Tensor, begun: Frames) -> Frames:
        """All F frames of a batch of `StartStates` from those of the first chunk, for chunks [S, N, T, A]."""
        group, horizon = actions.shape[1:3]
        later = self._later_of_demonstration(batch["world_actions"], horizon)
        sequences = torch.cat([actions, batch["actions"][:, None]], dim=1)
        played = self._stats["action"].unnormalize(sequences).flatten(0, 1)
        state = self._stats["state"].unnormalize(batch["state"]).repeat_interleave(group + 1, dim=0)
        prompts = batch["prompt_tokens"].repeat_interleave(group, dim=0)
        made = [torch.cat([begun.imagined, begun.reference[:, None]], dim=1)]
        for number, demonstrated in enumerate(later.unbind(1), start=1):
            state, last = state_after(state, played), made[-1][:, :, -1]
            chunks = self._act(last[:, :-1].flatten(0, 1), state.view(len(last), group + 1, -1)[:, :-1], prompts)
            ours = self._stats["action"].unnormalize(chunks).unflatten(0, (-1, group))
            played = torch.cat([ours, demonstrated[:, None]], dim=1).flatten(0, 1)
            ids = [key * 1_000 + number for key in batch["id"].tolist() for _ in range(group + 1)]
            frames = self._imagination.window(last.flatten(0, 1), state, played, ids)
            made.append(frames.unflatten(0, (-1, group + 1)))
        whole = torch.cat(made, dim=2)
        return Frames(begun.first, whole[:, :-1], whole[:, -1], begun.recorded)

    def _later_of_demonstration(self, world_actions: Tensor, horizon: int) -> Tensor:
        """[S, windows - 1, T, A] in physical units: what the demonstration did after the first chunk."""
        flat = rearrange(world_actions, "s f k a -> s (f k) a")[:, horizon:]
        return rearrange(self._imagination.physical(flat), "s (w t) a -> s w t a", t=horizon)

    def _act(self, pictures: Tensor, state: Tensor, prompts: Tensor) -> Tensor:
        """Chunks [S * N, T, A], normalised, as evaluation plays them from zero noise."""
        state = self._stats["state"].normalize(state).flatten(0, 1)
        image = F.interpolate(pictures, size=(self._size, self._size), mode="bilinear", antialias=True)
        context = self._model.encode({"image": image, "prompt_tokens": prompts, "state": state})
        shapes = self._model.policy.shapes
        return self._model.act(context, state, state.new_zeros(len(state), shapes.horizon, shapes.action_dim))


def state_after(state: Tensor, actions: Tensor) -> Tensor:
    """States [B, 10] (`TOWEL_STATE_LAYOUT`) after chunks [B, T, 7] (`TOWEL_ACTION_LAYOUT`), physical units.

    The arm follows its targets: how far it lags behind them stays as it was, and the gripper gets where it is sent.
    """
    position = state[:, :3] + actions[:, :, :3].sum(1)
    columns = state[:, 3:9].unflatten(1, (2, 3)).mT
    for turn in rotation(actions[:, :, 3:6]).unbind(1):
        columns = turn @ columns
    return torch.cat([position, columns.mT.flatten(1), actions[:, -1, 6:]], dim=1)


def rotation(rotvec: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] [rad]."""
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew)
