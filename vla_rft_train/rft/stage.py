"""RftStage: fine-tuning as the training loop knows it: what a step plays, how it is judged, what a checkpoint holds.

A step in order: look (frozen part, once per start state), play (N chains each), imagine (tokens, reference included),
decode, reward, advantages; the update is the trainer's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla_rft_core import config as core_config
from vla_rft_train.data.augment import AugmentConfig, augment
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.models.policy import Policy
from vla_rft_train.pictures import save_rows
from vla_rft_train.policy_presets import PolicyRun
from vla_rft_train.policy_stage import translation_error
from vla_rft_train.released import Released
from vla_rft_train.rft import grpo, page
from vla_rft_train.rft.go_on import GoingOn
from vla_rft_train.rft.imagine import Imagination
from vla_rft_train.rft.policy import Draws, Experience, StochasticPolicy
from vla_rft_train.rft.presets import GoesOn, RftRun
from vla_rft_train.rft.rewards import Frames, Reward, Scene
from vla_rft_train.rft.start_states import PreparedStarts
from vla_rft_train.stages import Origin, as_float

RUN_FILE = "rft.yaml"
"""A checkpoint's fine-tuning configuration; its config.yaml is the policy's: what reads a policy reads it too."""
COMPARED = 4
"""Start states whose distribution of actions is drawn before and after."""
HELD_OUT = "held_out_"
AUGMENTED = 1
"""Keeps the draws of augmentation apart from those of the chains."""


class RftStage:
    """Fine-tunes a policy."""

    name = "rft"

    def __init__(
        self,
        run: RftRun,
        policy: Released[Policy, PolicyRun],
        imagination: Imagination | None,
        reward: Reward,
        starts: PreparedStarts,
        facts: Mapping[str, Any],
    ) -> None:
        """imagination: None where the reward looks at actions alone. facts: provenance."""
        torch.manual_seed(run.loop.seed)
        self.run, self.imagination, self.reward = run, imagination, reward
        self.model = StochasticPolicy(policy.model, run.chain, run.sigma, run.grpo, policy.stats["action"].names)
        self._goes_on: GoingOn | None = None
        if imagination is not None and run.data.goes_on is GoesOn.POLICY:
            self._goes_on = GoingOn(self.model, policy, imagination)
        self.dataset = starts.train
        self.clock = Clock()
        chosen = _evenly(len(starts.held_out), run.data.validated)
        self._validation = torch.utils.data.default_collate([starts.held_out[i] for i in chosen])
        self._stats, self._augment = policy.stats["action"], policy.config.augment
        self._origin = Origin(policy.config, starts.spec, policy.stats, facts)
        self._before = self._distribution()  # before a checkpoint is loaded: how the policy acted at the very start

    # --- a step -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def play(self, batch: Mapping[str, Tensor]) -> tuple[Experience, dict[str, Tensor]]:
        """Roll out and reward a group from every start state of a batch; figures are scalars."""
        model, run, clock = self.model, self.run, self.clock
        key = (run.loop.seed, int(batch[STEP]))
        if run.augment:
            batch = augmented(batch, self._augment, key)
        draws = Draws.of(batch["id"].tolist(), model, group=run.group, key=key, like=batch["state"])
        with clock("look"):
            context = model.encode(batch)
        with clock("play"):
            chain, old = model.play(context, batch["state"], draws)
        rewards, parts = self.judge(batch, chain.actions.unflatten(0, (-1, run.group)))
        advantages = grpo.advantages(rewards, run.grpo)
        figures = {
            "reward": rewards.mean(),
            "reward_spread": rewards.std(dim=1).mean(),
            "reward_best": rewards.amax(dim=1).mean(),
            "advantage_size": advantages.abs().mean(),
            "groups_left_out": (advantages == 0.0).all(dim=1).float().mean(),
        }
        if len(parts) > 1:
            figures |= {f"reward_{name}": part.mean() for name, part in parts.items()}
        seen = Experience(
            context=context,
            state=batch["state"],
            demonstrated=batch["actions"],
            chain=chain,
            old=old,
            flow_noise=draws.flow_noise,
            flow_time=draws.flow_time,
            rewards=rewards,
            advantages=advantages.flatten(),
        )
        return seen, figures

    def judge(self, batch: Mapping[str, Tensor], actions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewards [S, N] of chunks [S, N, T, A], and their parts."""
        frames = None if self.imagination is None else self.imagined(self.imagination, batch, actions)
        with self.clock("reward"):
            return self.reward(Scene(actions, batch["actions"], frames))

    def imagined(self, imagination: Imagination, batch: Mapping[str, Tensor], actions: Tensor) -> Frames:
        """Frames of chunks [S, N, T, A], and of what follows them."""
        begun = batch if self._goes_on is None else imagination.first_chunk(batch, actions.shape[2])
        with self.clock("imagine"):
            rollouts = imagination.rollouts(begun, actions)
        with self.clock("decode"):
            frames = imagination.frames(batch, rollouts)
        if self._goes_on is not None:
            with self.clock("go_on"):
                frames = self._goes_on.frames(batch, actions, frames)
        return frames

    # --- how far it has come ----------------------------------------------------------------------------------

    def figures_of(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Figures of the step, seconds of its parts, and, every now and then, those of held-out start states."""
        step = int(batch[STEP])
        figures = {name: float(value) for name, value in batch.items() if name != STEP}
        figures |= self.clock.read()
        last = step in (0, self.run.loop.steps)
        return figures | (self.held_out() if last or step % self.run.validate_every == 0 else {})

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Of the policy as evaluation plays it, without noise: error of its actions, and reward."""
        batch, context, noise = self._validating()
        actions = self.model.act(context, batch["state"], noise)
        sigma = self.model.sigmas(context, batch["state"])
        was, self.clock = self.clock, Clock()  # what validation takes is no step's time
        rewards, _ = self.judge(batch, actions[:, None])
        self.clock = was
        return {
            f"{HELD_OUT}reward": float(rewards.mean()),
            f"{HELD_OUT}error": float((actions - batch["actions"]).abs().mean()),
            f"{HELD_OUT}mm": 1000.0 * translation_error(actions, batch["actions"], self._stats),
            "sigma_mean": float(sigma.mean()),
            "sigma_min": float(sigma.min()),
            "sigma_max": float(sigma.max()),
        }

    def _validating(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Held-out start states, their context, and always the same noise for chunks to start from."""
        device = next(self.model.parameters()).device
        batch = {name: value.to(device) for name, value in self._validation.items()}
        noise = self.model.policy.noise(len(batch["state"]), torch.Generator().manual_seed(self.run.loop.seed))
        return batch, self.model.encode(batch), self.run.chain.noise_scale * noise.to(batch["state"])

    @torch.no_grad()
    def draw(self, model: object, folder: Path, step: int) -> None:
        """A contact sheet, the distribution of actions beside that of the start, and the page of the run."""
        folder.mkdir(parents=True, exist_ok=True)
        self._contact_sheet(folder / f"rollouts-{step:08d}.png")
        now = self._distribution()
        page.save_distributions(
            self._before, now, self._validation["actions"][:COMPARED], self._stats.names, folder / "actions.png"
        )
        page.write(folder.parent, self.run)

    @torch.no_grad()
    def _distribution(self) -> Tensor:
        """[S', n, T, A] chunks drawn with noise from the first held-out start states, always the same draws."""
        batch, context, _ = self._validating()
        state, count = batch["state"][:COMPARED], 64
        ids = batch["id"][:COMPARED].tolist()
        draws = Draws.of(ids, self.model, group=count, key=(self.run.loop.seed, -1), like=state)
        chain, _ = self.model.play(context[:COMPARED], state, draws)
        return chain.actions.unflatten(0, (-1, count)).cpu()

    def _contact_sheet(self, path: Path) -> None:
        """Of a held-out start state: recorded frames, the reference, the best and the worst rollout of a group."""
        if self.imagination is None:
            return
        batch, context, _ = self._validating()
        one = {name: value[:1] for name, value in batch.items()}
        draws = Draws.of(
            one["id"].tolist(), self.model, group=self.run.group, key=(self.run.loop.seed, -1), like=one["state"]
        )
        chain, _ = self.model.play(context[:1], one["state"], draws)
        actions = chain.actions[None]
        frames = self.imagined(self.imagination, one, actions)
        rewards = self.reward(Scene(actions, one["actions"], frames))[0][0]
        best, worst = int(rewards.argmax()), int(rewards.argmin())
        rows = [frames.recorded[0], frames.reference[0], frames.imagined[0, best], frames.imagined[0, worst]]
        save_rows([torch.cat([frames.first, row]) for row in rows], path)
        caption = f"reward {float(rewards[best]):.4f} (best, row 3), {float(rewards[worst]):.4f} (worst, row 4)"
        path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")

    # --- checkpoints ------------------------------------------------------------------------------------------

    def add_files(self, folder: Path) -> None:
        """The policy's configuration, spec and statistics, and the fine-tuning's configuration."""
        self._origin.add_files(folder)
        core_config.save(self.run, folder / RUN_FILE)

    def provenance(self) -> Mapping[str, Any]:
        """Where it comes from."""
        return self._origin.facts


def augmented(batch: Mapping[str, Tensor], config: AugmentConfig, key: tuple[int, int]) -> dict[str, Tensor]:
    """A batch of `StartStates` whose policy is shown other looks and states: each by its id, whatever the batch.

    What the world model sees is as it was. key: seed and step.
    """
    images, states = [], []
    with torch.random.fork_rng():
        for image, state, number in zip(batch["image"], batch["state"], batch["id"].tolist(), strict=True):
            torch.manual_seed(hash((*key, number, AUGMENTED)) % 2**63)
            images.append(augment(as_float(image[None]), config)[0])
            states.append(state + config.state * torch.randn_like(state))
    return {**batch, "image": torch.cat(images).to(batch["state"].dtype), "state": torch.stack(states)}


class Clock:
    """Seconds of the parts of a step, `with clock(part): ...`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._seconds[part] += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Seconds since the last reading, by part."""
        read = {f"seconds_{part}": seconds for part, seconds in self._seconds.items()}
        self._seconds.clear()
        return read


def _evenly(length: int, count: int) -> list[int]:
    count = min(count, length)
    return [i * length // count for i in range(count)]
