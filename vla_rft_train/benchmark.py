"""`python -m vla_rft_train.benchmark <what> --json`: how fast, as a ratio to a reference measured in the same run.

rollout: the rollout engine against Hugging Face's `generate` called per frame, same weights and start states.
rft:     a step of fine-tuning against the straightforward schedule, same weights (`rft/benchmark.py`).
loader:  random-access training samples of a dataset, to put beside LeRobot's own loader (`make loader-benchmark`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rft_core.allocator import keep_memory
from vla_rft_core.errors import VlaRftError
from vla_rft_train.data.clips import DatasetClips
from vla_rft_train.data.windows import WindowConfig, Windows, stats_of
from vla_rft_train.generate_per_frame import generate_per_frame
from vla_rft_train.models.layout import TokenLayout
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.presets import tokenizer_run, world_model_run
from vla_rft_train.rft.benchmark import rft
from vla_rft_train.rollout import RolloutEngine

STATES, GROUP, FRAMES = 16, 16, 8
"""Start states, action sequences of each, predicted frames: one step of stage II (Table 7)."""
ACTION_DIM, STATE_DIM = 7, 10
CLEAR_GAP = 1e-4
"""Two ways of computing must choose the same token where the best two logits are further apart."""


# --- rollout --------------------------------------------------------------------------------------------------


def rollout(arguments: argparse.Namespace, keep: Callable[[], bool]) -> dict[str, Any]:
    """Seconds of both ways, tokens computed, frames per second, and whether they choose the same tokens.

    The reference is timed as anybody would run it, before memory is kept (`allocator`), and once more after that: what
    the engine alone gains is `ratio_with_memory_kept`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _world_model(arguments.preset).to(device)
    layout, size = model.layout, (arguments.states, arguments.group, arguments.frames)
    random = torch.Generator().manual_seed(arguments.seed)

    def codes(*shape: int) -> Tensor:
        return torch.randint(layout.codebook_size, shape, generator=random).to(device)

    context, first = codes(size[0], layout.context_tokens), codes(size[0], layout.dynamics_tokens)
    state = torch.randn(size[0], layout.state_dim, generator=random).to(device) if layout.state_dim else None
    shape = (*size, layout.actions_per_frame, layout.action_dim)
    actions = (torch.rand(shape, generator=random) * 2.0 - 1.0).to(device)
    engine = RolloutEngine(model)

    def reference() -> Tensor:
        return generate_per_frame(model, context, state, first, actions)

    theirs, theirs_s = _timed(reference, 1, device)
    kept_s = _timed(reference, 1, device)[1] if keep() else theirs_s
    ours, ours_s = _timed(
        lambda: engine.rollout(engine.prefill(context, state, first), actions), arguments.repeats, device
    )
    frames = size[0] * size[1] * size[2]
    prompts = sum(layout.prefix + (i + 1) * layout.action_tokens + i * layout.dynamics_tokens for i in range(size[2]))
    return {
        "benchmark": "rollout",
        "preset": arguments.preset,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "states": size[0],
        "group": size[1],
        "frames": size[2],
        "seconds": ours_s,
        "reference_seconds": theirs_s,
        "ratio": theirs_s / ours_s,
        "reference_seconds_with_memory_kept": kept_s,
        "ratio_with_memory_kept": kept_s / ours_s,
        "frames_per_s": frames / ours_s,
        "reference_frames_per_s": frames / theirs_s,
        "tokens_decoded": frames * layout.dynamics_tokens,
        "tokens_of_prompts": size[0] * layout.prefix + frames * layout.action_tokens,
        "reference_tokens_of_prompts": size[0] * size[1] * prompts,
        "equal_tokens_where_clear": _equal_where_clear(model, context, state, first, actions, ours, theirs),
    }


def _world_model(preset: str) -> WorldModel:
    """Of the preset's sizes, with random weights."""
    tokenizer, run = tokenizer_run(preset).model, world_model_run(preset)
    layout = TokenLayout(
        context_tokens=tokenizer.context_tokens,
        dynamics_tokens=tokenizer.dynamics_tokens,
        codebook_size=tokenizer.codebook_size,
        action_dim=ACTION_DIM,
        action_bins=run.action_bins,
        actions_per_frame=run.data.actions_per_frame,
        state_dim=STATE_DIM if run.use_state else 0,
    )
    torch.manual_seed(0)
    return WorldModel(run.model, layout).eval()


@torch.no_grad()
def _equal_where_clear(
    model: WorldModel,
    context: Tensor,
    state: Tensor | None,
    first: Tensor,
    actions: Tensor,
    ours: Tensor,
    theirs: Tensor,
) -> bool:
    """No rollout departs from the other at a token where the choice is clear; what follows a departure is its own."""
    group = actions.shape[1]
    for s in range(len(ours)):
        codes = torch.cat([first[s].expand(group, 1, -1), ours[s]], dim=1)
        own_state = None if state is None else state[s].expand(group, -1)
        logits = model(context[s].expand(group, -1), codes, actions[s], own_state).flatten(1, 2)
        best = logits.topk(2, dim=-1).values
        clear = (best[..., 0] - best[..., 1] > CLEAR_GAP).cummin(dim=1).values
        if not bool((ours[s].flatten(1) == theirs[s].flatten(1))[clear].all()):
            return False
    return True


def _timed(work: Callable[[], Tensor], repeats: int, device: torch.device) -> tuple[Tensor, float]:
    """What it returns, and the seconds of the fastest of `repeats` calls; several have one before them to warm up."""
    if repeats > 1:
        work()
    best, result = float("inf"), None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    assert result is not None
    return result, best


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


# --- loader ---------------------------------------------------------------------------------------------------


def loader(arguments: argparse.Namespace) -> dict[str, Any]:
    """Samples per second in random order: the first visit of every episode decodes it, later ones find it kept."""
    run = tokenizer_run(arguments.preset).data
    clips = DatasetClips(arguments.dataset, camera=None, size=arguments.size, episodes=None, cache_bytes=4 * 10**9)
    if clips.spec is None:
        raise ValueError(f"{arguments.dataset}: has no spec; this benchmark wants a dataset of ours")
    stats = stats_of(clips, state_min_range=clips.spec.state_min_range, action_min_range=clips.spec.action_min_range)
    windows = Windows(clips, WindowConfig(frames=run.frames, actions_per_frame=run.actions_per_frame), stats)
    order = np.random.default_rng(arguments.seed).integers(len(windows), size=arguments.samples)

    def seconds() -> float:
        began = time.perf_counter()
        for index in order:
            windows[int(index)]
        return time.perf_counter() - began

    first, later = seconds(), seconds()
    return {
        "benchmark": "loader",
        "samples": arguments.samples,
        "frames_per_sample": run.frames + 1,
        "size": arguments.size,
        "samples_per_s_first": arguments.samples / first,
        "samples_per_s_kept": arguments.samples / later,
    }


def main(arguments: list[str] | None = None, *, keep: Callable[[], bool] = lambda: False) -> int:
    """Print one JSON line (or a line per figure); exit code 1 for a mistake, in one sentence.

    keep: makes this process keep its memory from then on (`allocator.keep_memory`); whether it does.
    """
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.benchmark", description=__doc__)
    parser.add_argument("what", choices=("rollout", "rft", "loader"))
    parser.add_argument("--preset", default="sim")
    parser.add_argument("--states", type=int, default=STATES)
    parser.add_argument("--group", type=int, default=GROUP)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--repeats", type=int, default=3, help="runs of the engine; the fastest counts")
    parser.add_argument("--dataset", type=Path, help="loader, rft: a dataset of ours")
    parser.add_argument("--samples", type=int, default=500, help="loader: how many")
    parser.add_argument("--size", type=int, default=224, help="loader: side of the square frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON line")
    given = parser.parse_args(arguments)
    try:
        if given.what == "loader" and given.dataset is None:
            raise ValueError("loader: name the --dataset")
        if given.what == "rollout":
            figures = rollout(given, keep)
        else:
            keep()
            figures = {"rft": rft, "loader": loader}[given.what](given)
    except (ValueError, VlaRftError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}
    print(json.dumps(rounded) if given.json else "\n".join(f"{name:<28}{value}" for name, value in rounded.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(keep=keep_memory))
