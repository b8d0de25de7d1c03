"""`python -m vla_rft_train.benchmark rft`: one fine-tuning step against the straightforward schedule, same weights.

With --dataset, the shipped checkpoints play from its start states; without, everything is made up by seed.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vla_rft_train.data.normalize import NormStats
from vla_rft_train.loop.trainer import STEP
from vla_rft_train.models.making import make_policy
from vla_rft_train.models.perceptual import Perceptual, Weights
from vla_rft_train.models.policy import Shapes
from vla_rft_train.models.tokenizer import CompressiveTokenizer
from vla_rft_train.models.vla import VlaConfig
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.policy_presets import policy_run
from vla_rft_train.presets import tokenizer_run, world_model_run
from vla_rft_train.released import Released, layout_of
from vla_rft_train.rft.__main__ import make_stage
from vla_rft_train.rft.imagine import Imagination
from vla_rft_train.rft.per_rollout import play_per_rollout
from vla_rft_train.rft.policy import Experience
from vla_rft_train.rft.presets import RftRun, rft_run
from vla_rft_train.rft.rewards import Reward
from vla_rft_train.rft.stage import RftStage
from vla_rft_train.rft.start_states import PreparedStarts
from vla_rft_train.rollout import Precision

ACTION_DIM, STATE_DIM = 7, 10
AGREE = 1e-4
"""Rewards agree when they differ by less; another token where two were equally probable makes more of a difference."""
SHIPPED = Path(__file__).parents[1] / "checkpoints" / "sim"


def rft(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds, memory and rates of both schedules, and whether their rewards agree."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stage = _recorded(arguments, device) if arguments.dataset else _made_up(arguments, device)
    items = [stage.dataset[i] for i in range(0, len(stage.dataset), max(1, len(stage.dataset) // arguments.states))]
    batch = torch.utils.data.default_collate(items[: arguments.states])
    batch = {name: value.to(device) for name, value in batch.items()} | {STEP: torch.tensor(0)}
    update = Update(stage.model)
    ours, theirs = Measured(device), Measured(device)
    for repeat in range(1 + arguments.repeats):
        update.restore()
        stage.clock.read()
        with ours.step(counts=repeat > 0):
            seen, _ = stage.play(batch)
            with stage.clock("update"):
                loss = update(seen)
    parts, rewards = stage.clock.read(), seen.rewards
    update.restore()
    with theirs.step(counts=True):
        seen_there = play_per_rollout(stage, batch)
        loss_there = update(seen_there)
    frames = batch["world_actions"].shape[1]
    assert stage.imagination is not None
    scored = rewards.numel() * frames
    tokens = scored * stage.imagination.world_model.layout.dynamics_tokens
    difference = (rewards - seen_there.rewards).abs()
    return {
        "benchmark": "rft",
        "preset": arguments.preset,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "states": len(rewards),
        "group": stage.run.group,
        "frames": frames,
        "reward": stage.run.reward.design.value,
        "perceptual": stage.run.perceptual.label if stage.run.reward.compares_pictures else "none",
        "seconds": ours.seconds,
        "reference_seconds": theirs.seconds,
        "ratio": theirs.seconds / ours.seconds,
        "processor_seconds": ours.processor_seconds,
        "reference_processor_seconds": theirs.processor_seconds,
        "processor_ratio": theirs.processor_seconds / ours.processor_seconds,
        **parts,
        "peak_memory_mb": ours.peak_mb,
        "reference_peak_memory_mb": theirs.peak_mb,
        "frames_per_s": scored / ours.seconds,
        "reference_frames_per_s": scored / theirs.seconds,
        "tokens_per_s": tokens / ours.seconds,
        "reference_tokens_per_s": tokens / theirs.seconds,
        "rewards_agree": float((difference < AGREE).float().mean()),
        "rewards_largest_difference": float(difference.max()),
        "rewards_spread": float(rewards.std(dim=1).mean()),
        "losses_differ_by": abs(loss - loss_there),
    }


class Update:
    """One optimiser step from an experience; `restore` goes back to where it began."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._start = [p.detach().clone() for p in self._trained]
        self._optimizer = torch.optim.AdamW(self._trained, lr=1e-6)

    def __call__(self, seen: Experience) -> float:
        """The loss before it."""
        loss, _ = self.model(seen)
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.no_grad()
    def restore(self) -> None:
        """The weights of the start."""
        for parameter, value in zip(self._trained, self._start, strict=True):
            parameter.copy_(value)


@dataclass
class Measured:
    """Time of the fastest step and most memory of any."""

    device: torch.device
    seconds: float = float("inf")
    processor_seconds: float = float("inf")
    """What other work on the machine does not spoil."""
    peak_mb: float = 0.0
    """Of the GPU, or resident in this process: with everything that lies there anyway."""

    @contextmanager
    def step(self, *, counts: bool) -> Iterator[None]:
        """counts: a step that warms up does not."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        watch = _ResidentPeak()
        began, processor_began = time.perf_counter(), time.process_time()
        with watch:
            yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if counts:
            self.seconds = min(self.seconds, time.perf_counter() - began)
            self.processor_seconds = min(self.processor_seconds, time.process_time() - processor_began)
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else watch.peak
        self.peak_mb = max(self.peak_mb, peak / 1e6)


class _ResidentPeak:
    """Looks every few milliseconds how much memory this process has in use; Linux."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        import resource

        page = resource.getpagesize()
        while True:
            resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page
            self.peak = max(self.peak, resident)
            if self._done.wait(0.005):
                return


# --- what is measured -----------------------------------------------------------------------------------------


def _recorded(arguments: argparse.Namespace, device: torch.device) -> RftStage:
    """The shipped checkpoints on a dataset's start states."""
    run = _in_float32(rft_run(arguments.preset))
    names = {name: str(SHIPPED / name) for name in ("policy", "world_model", "tokenizer")}
    data = replace(run.data, dataset=str(arguments.dataset), frames=arguments.frames)
    return make_stage(replace(run, data=data, group=arguments.group, **names), device)


def _in_float32(run: RftRun) -> RftRun:
    """So that both schedules come to the same codes: in bfloat16 nearly equal ones are told apart differently."""
    return replace(run, rollout=replace(run.rollout, precision=Precision.FLOAT32))


def _made_up(arguments: argparse.Namespace, device: torch.device) -> RftStage:
    """Random weights of the preset's sizes, random start states; a chunk of as many actions as the frames take."""
    run = _with_random_perceptual(replace(_in_float32(rft_run(arguments.preset)), group=arguments.group))
    torch.manual_seed(arguments.seed)
    tokenizer_config, world_model_config = tokenizer_run(arguments.preset), world_model_run(arguments.preset)
    policy_config = policy_run(arguments.preset)
    if isinstance(policy_config.policy, VlaConfig):
        policy_config = replace(policy_config, policy=_without_pretraining(policy_config.policy))
    shapes = Shapes(
        horizon=arguments.frames * world_model_config.data.actions_per_frame, action_dim=ACTION_DIM, state_dim=STATE_DIM
    )
    stats = {"state": _unit("state", STATE_DIM), "action": _unit("action", ACTION_DIM)}
    tokenizer, policy = CompressiveTokenizer(tokenizer_config.model), make_policy(policy_config.policy, shapes)
    world_model = WorldModel(world_model_config.model, layout_of(world_model_config, tokenizer_config.model, stats))
    for layer in (tokenizer.dynamics_decoder.last, policy.head.out):  # zero at the start: nothing would move
        nn.init.normal_(layer.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    parts = [
        Released(model.eval().requires_grad_(False), config, None, stats, "random weights")
        for model, config in (
            (tokenizer, tokenizer_config),
            (world_model, world_model_config),
            (policy.to(device), policy_config),
        )
    ]
    imagination = Imagination(
        parts[1],
        parts[0],
        policy_actions=stats["action"],
        config=run.rollout,
        device=device,  # type: ignore[arg-type]
    )
    starts = MadeUpStarts(
        shapes,
        image=policy_config.policy.image_size,
        prompt=policy_config.policy.prompt_length,
        frames=(arguments.frames + 1, tokenizer_config.model.image_size),
        count=arguments.states,
    )
    perceptual = Perceptual(run.perceptual).to(device) if run.reward.compares_pictures else None
    reward = Reward(run.reward, perceptual=perceptual)
    return RftStage(run, parts[2], imagination, reward, PreparedStarts(starts, starts, None, {}), {})  # type: ignore[arg-type]


def _with_random_perceptual(run: RftRun) -> RftRun:
    """A net of random weights takes the time of the published one, and needs no file."""
    if run.perceptual.weights == Weights.NONE:
        return run
    return replace(run, perceptual=replace(run.perceptual, weights=Weights.RANDOM))


def _without_pretraining(config: VlaConfig) -> VlaConfig:
    towers = tuple(replace(tower, weights="") for tower in config.towers)
    return replace(config, towers=towers, language=replace(config.language, source=""), tokenizer="bytes")


def _unit(name: str, dim: int) -> NormStats:
    zeros, ones = (0.0,) * dim, (1.0,) * dim
    return NormStats(tuple(f"{name}.{i}" for i in range(dim)), zeros, ones, (-1.0,) * dim, ones, zeros)


class MadeUpStarts(Dataset[dict[str, Tensor]]):
    """Start states drawn by their number; items as in `StartStates`."""

    def __init__(self, shapes: Shapes, *, image: int, prompt: int, frames: tuple[int, int], count: int) -> None:
        self._shapes, self._image, self._prompt, self._frames, self._count = shapes, image, prompt, frames, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random, shapes, (frames, size) = torch.Generator().manual_seed(index), self._shapes, self._frames

        def picture(*shape: int) -> Tensor:
            return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)

        actions = torch.rand(shapes.horizon, shapes.action_dim, generator=random) * 2.0 - 1.0
        return {
            "id": torch.tensor(index),
            "image": picture(3, self._image, self._image),
            "state": torch.randn(shapes.state_dim, generator=random),
            "prompt_tokens": torch.zeros(self._prompt, dtype=torch.int64),
            "actions": actions,
            "frames": picture(frames, 3, size, size),
            "world_actions": actions.view(frames - 1, -1, shapes.action_dim),
            "world_state": torch.randn(shapes.state_dim, generator=random),
        }
