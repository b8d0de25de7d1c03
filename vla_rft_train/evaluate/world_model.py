"""`python -m vla_rft_train.evaluate world-model`: Table 1, action sensitivity and failing actions, as a page.

A world model that copies the start frame, ignores actions or dreams success is worthless for stage II, whatever its
PSNR: its rollouts stand beside those of shuffled actions and of no motion, and beside failures that really happened.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vla_rft_core.errors import VlaRftError
from vla_rft_episodes.branches import EXPERT, Branch, Branches
from vla_rft_train import released
from vla_rft_train.data.branches import BranchClips
from vla_rft_train.data.clips import DatasetClips
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.windows import WindowConfig, Windows
from vla_rft_train.evaluate import world_model_page
from vla_rft_train.measure import moving_pixels, mse, psnr, ssim
from vla_rft_train.models.perceptual import Perceptual, PerceptualConfig, Weights
from vla_rft_train.models.tokenizer import CompressiveTokenizer
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.stages import as_float, imagine

BATCH = 32
FAILING = ("never close", "close late", "open early")
"""Kinds of branches that fail by their actions; a towel that slips by itself ("drop") no action foretells."""
TRUE, SHUFFLED, STILL, TOKENIZER, COPY = (
    "true actions",
    "shuffled actions",
    "no motion",
    "tokenizer alone",
    "copy of frame 0",
)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Predicted frames against true ones, over all windows. PSNR is that of the mean squared error [dB]."""

    mse: float
    psnr: float
    ssim: float
    perceptual: float
    psnr_moving: float
    """Over the pixels that differ from the start frame."""
    psnr_by_frame: tuple[float, ...]
    psnr_moving_by_frame: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Failing:
    """Branches that failed: is the imagined last frame closer to the true failure than to the success beside it?"""

    cases: int
    closer_to_failure: int
    position: float
    """Median place of the imagined frame between failure (0) and success (1), along their difference."""
    by_kind: Mapping[str, tuple[int, int]]
    """Kind -> closer, cases."""
    tokenizer_closer: int
    """The same of the true last frame as the tokenizer shows it: what a perfect world model could reach."""


@dataclass(frozen=True)
class Case:
    """A failure and, from the same start, the success beside it."""

    kind: str
    failed: int
    """Index among the branches."""
    succeeded: int


# --- rollouts -------------------------------------------------------------------------------------------------


def spread_windows(windows: Windows, per_clip: int) -> list[int]:
    """Up to `per_clip` windows of every clip, evenly over it."""
    places: dict[int, list[int]] = {}
    for index in range(len(windows)):
        places.setdefault(windows.place(index)[0], []).append(index)
    chosen = []
    for indices in places.values():
        count = min(per_clip, len(indices))
        chosen += [indices[i * len(indices) // count] for i in range(count)]
    return chosen


def still(actions: Tensor, stats: NormStats) -> Tensor:
    """Normalised actions [B, T, k, A] without motion: deltas of zero, absolute numbers as at the window's start."""
    names = stats.names
    delta = torch.tensor([name.startswith("delta.") for name in names])
    if not delta.any():  # a foreign layout: nothing is known of its numbers
        delta = torch.ones(len(names), dtype=torch.bool)
    none = stats.normalize(torch.zeros(len(names)))
    return torch.where(delta, none, actions[:, :1, :1])


def rollouts(
    world_model: WorldModel,
    tokenizer: CompressiveTokenizer,
    batch: Mapping[str, Tensor],
    stats: NormStats,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Frames [B, T, 3, H, W] in [0, 1] by every way of predicting them."""
    frames = as_float(batch["frames"])
    cycle = torch.from_numpy(np.random.default_rng(seed).permutation(len(frames)))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)  # through all: nobody keeps its own
    context, codes = tokenizer.encode_window(frames)
    with_actions = {
        TRUE: batch["actions"],
        SHUFFLED: batch["actions"][order],
        STILL: still(batch["actions"], stats).expand_as(batch["actions"]),
    }
    made = {
        name: imagine(world_model, tokenizer, {**batch, "actions": actions}) for name, actions in with_actions.items()
    }
    with torch.no_grad():
        made[TOKENIZER] = tokenizer.decode_dynamics(codes[:, 1:], context).clamp(0.0, 1.0)
    made[COPY] = frames[:, :1].expand_as(frames[:, 1:])
    return made


def quality(ours: Tensor, true: Tensor, moving: Tensor, perceptual: Perceptual | None) -> Quality:
    """Of frames [N, T, 3, H, W]; `moving` [N, T, 1, H, W]."""
    frames = range(ours.shape[1])
    flat, flat_true = ours.flatten(0, 1), true.flatten(0, 1)
    distance = float("nan")
    if perceptual is not None:
        parts = [perceptual(a, b) for a, b in zip(flat.split(BATCH), flat_true.split(BATCH), strict=True)]
        distance = float(torch.cat(parts).mean())
    return Quality(
        mse=mse(ours, true),
        psnr=psnr(ours, true),
        ssim=ssim(flat, flat_true),
        perceptual=distance,
        psnr_moving=psnr(ours, true, moving),
        psnr_by_frame=tuple(psnr(ours[:, t], true[:, t]) for t in frames),
        psnr_moving_by_frame=tuple(psnr(ours[:, t], true[:, t], moving[:, t]) for t in frames),
    )


# --- failing actions ------------------------------------------------------------------------------------------


def failing_cases(branches: Branches, count: int, *, seed: int) -> list[Case]:
    """`count` failures with their successes, evenly over the kinds; ValueError when there are fewer.

    The truth columns choose: at the end the failure holds no towel and its twin does, or, near the release, the twin
    has folded it and the failure has not.
    """
    twins = {
        (episode, branches[i].tick): i
        for i, (episode, kind) in enumerate(zip(branches.episodes, branches.kinds, strict=True))
        if kind == EXPERT
    }
    found: dict[str, list[Case]] = {kind: [] for kind in FAILING}
    for i, kind in enumerate(branches.kinds):
        if kind in found:
            failed = branches[i]
            twin = twins.get((failed.episode, failed.tick))
            if twin is not None and _fails_beside(failed, branches[twin]):
                found[kind].append(Case(kind, i, twin))
    random = np.random.default_rng(seed)
    queues = [[cases[j] for j in random.permutation(len(cases))] for cases in found.values()]
    chosen: list[Case] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    if len(chosen) < count:
        raise ValueError(f"only {len(chosen)} failures with a twin among the branches, {count} are wanted")
    return chosen[:count]


def _fails_beside(failed: Branch, twin: Branch) -> bool:
    lost = failed.truth["held"][-1] == 0 and twin.truth["held"][-1] > 0
    unfolded = twin.truth["success"][-1] > 0 and failed.truth["success"][-1] == 0 and failed.truth["held"][-1] == 0
    return bool(lost or unfolded)


def failing(
    world_model: WorldModel, tokenizer: CompressiveTokenizer, windows: Windows, cases: list[Case]
) -> tuple[Failing, dict[str, Tensor]]:
    """The test, and the pictures of it: frames 0, failure, success, imagined, each [N, ...]."""
    failed = _batch([windows.window(case.failed, 0) for case in cases])
    succeeded = _batch([windows.window(case.succeeded, 0) for case in cases])
    imagined = torch.cat(
        [imagine(world_model, tokenizer, {k: v[i : i + BATCH] for k, v in failed.items()}) for i in _starts(len(cases))]
    )
    true, success = as_float(failed["frames"])[:, 1:], as_float(succeeded["frames"])[:, -1]
    with torch.no_grad():
        context, codes = tokenizer.encode_window(as_float(failed["frames"]))
        shown = tokenizer.decode_dynamics(codes[:, -1:], context).clamp(0.0, 1.0)[:, 0]
    failure = true[:, -1]
    closer = _closer(imagined[:, -1], failure, success)
    along = (success - failure).flatten(1)
    place = ((imagined[:, -1] - failure).flatten(1) * along).sum(1) / along.square().sum(1)
    kinds = {
        kind: (int(sum(closer[i] for i in members)), len(members))
        for kind in FAILING
        if (members := [i for i, case in enumerate(cases) if case.kind == kind])
    }
    result = Failing(
        cases=len(cases),
        closer_to_failure=int(closer.sum()),
        position=float(place.median()),
        by_kind=kinds,
        tokenizer_closer=int(_closer(shown, failure, success).sum()),
    )
    start = as_float(failed["frames"])[:, 0]
    return result, {"start": start, "failure": failure, "imagined": imagined[:, -1], "success": success}


def _closer(ours: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """bool [N]: nearer to a than to b, by mean squared error."""
    return (ours - a).square().flatten(1).mean(1) < (ours - b).square().flatten(1).mean(1)


# --- the command ----------------------------------------------------------------------------------------------


def evaluate(arguments: argparse.Namespace) -> dict[str, object]:
    """All figures as plain data; pictures and page go to `arguments.out`."""
    parent = released.load_tokenizer(arguments.tokenizer)
    model = released.load_world_model(arguments.world_model, parent)
    tokenizer, world_model, data = parent.model, model.model, model.config.data
    size = tokenizer.config.image_size
    clips = DatasetClips(arguments.dataset, camera=data.camera or None, size=size, episodes=None, cache_bytes=10**9)
    if model.spec is not None and clips.spec is not None:
        model.spec.require_same(clips.spec, ours=str(arguments.world_model), theirs=str(arguments.dataset))
    shape = WindowConfig(frames=data.frames, actions_per_frame=data.actions_per_frame)
    windows = Windows(clips, shape, dict(model.stats))
    chosen = spread_windows(windows, arguments.per_episode)
    config = PerceptualConfig(net=arguments.net, weights=arguments.perceptual)
    perceptual = None if config.weights == Weights.NONE else Perceptual(config)

    parts: dict[str, list[Tensor]] = {}
    true = []
    for start in tqdm(_starts(len(chosen)), desc="rollouts", unit="batch", file=sys.stderr):
        batch = _batch([windows[i] for i in chosen[start : start + BATCH]])
        true.append(as_float(batch["frames"]))
        made = rollouts(world_model, tokenizer, batch, model.stats["action"], seed=arguments.seed)
        for name, frames in made.items():
            parts.setdefault(name, []).append(frames)
    frames = torch.cat(true)
    moving = moving_pixels(frames[:, 1:], frames[:, :1])
    made = {name: torch.cat(part) for name, part in parts.items()}
    table = {name: quality(ours, frames[:, 1:], moving, perceptual) for name, ours in made.items()}

    tested, pictures = None, None
    if arguments.failures is not None:
        branches = BranchClips(arguments.failures, camera=data.camera or None, size=size, episodes=None, cache_bytes=0)
        cases = failing_cases(Branches(arguments.failures), arguments.cases, seed=arguments.seed)
        branch_windows = Windows(branches, shape, dict(model.stats))
        tested, pictures = failing(world_model, tokenizer, branch_windows, cases)
    facts = {
        "world_model": model.digest,
        "tokenizer": parent.digest,
        "episodes": len(clips),
        "windows": len(chosen),
        "resolution": size,
        "frame_period_s": data.actions_per_frame * (clips.spec.control_period_s if clips.spec is not None else 1.0),
        "perceptual": config.label if perceptual is not None else "none",
        "seed": arguments.seed,
        "quality": {name: asdict(q) for name, q in table.items()},
        "action_gap_db": table[TRUE].psnr_by_frame[-1] - table[SHUFFLED].psnr_by_frame[-1],
        "failing": None if tested is None else asdict(tested),
    }
    world_model_page.write(arguments.out, facts, frames, made, moving, pictures)
    return facts


def _starts(count: int) -> range:
    return range(0, count, BATCH)


def _batch(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return dict(torch.utils.data.default_collate(list(items)))


def main(arguments: list[str]) -> int:
    """Print the table and write OUT/index.html and figures.json; exit code 1 for a mistake, in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.evaluate world-model", description=__doc__)
    parser.add_argument("world_model", type=Path, help="its checkpoint")
    parser.add_argument("--tokenizer", type=Path, required=True, help="checkpoint of the tokenizer it was trained with")
    parser.add_argument("--dataset", type=Path, required=True, help="held-out episodes: a LeRobot v3 dataset")
    parser.add_argument("--failures", type=Path, help="branches of held-out episodes, made with --twins")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--per-episode", type=int, default=12, help="windows per episode (default 12)")
    parser.add_argument("--cases", type=int, default=50, help="failures to test (default 50)")
    parser.add_argument("--net", default="vgg", help="net of the perceptual distance: vgg or alex")
    parser.add_argument("--perceptual", default=Weights.PUBLISHED, choices=list(Weights), help="its weights")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        facts = evaluate(given)
    except (ValueError, VlaRftError) as error:
        print(f"evaluate world-model: {error}", file=sys.stderr)
        return 1
    (given.out / "figures.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(world_model_page.as_text(facts))
    return 0
