"""`python -m vla_rft_train.rft.reward_truth DIR --world-model W --tokenizer T --out OUT`: is a reward true?

DIR holds start states from which a demonstration's chunk and perturbed ones were really played, to the end
(`vla_rft_sim.perturbed`). Every reward is asked about those chunks, in the world model; its rank correlation (Spearman)
with what they really led to says what optimising it would optimise. Two figures: over all chunks, and the mean over
start states of the correlation within the chunks of one, as a group's advantages see nothing else.

"true pictures" is R3 with a world model that makes no mistake: what the world model costs, and what pictures cost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from vla_rft_core.allocator import keep_memory
from vla_rft_core.errors import VlaRftError
from vla_rft_episodes.branches import EXPERT, FINISHED, VERTEX_DEVIATION, Branches
from vla_rft_train import released
from vla_rft_train.data.branches import BranchClips
from vla_rft_train.data.windows import WindowConfig, Windows
from vla_rft_train.html_page import as_columns, figure, save, table
from vla_rft_train.rft import outcome
from vla_rft_train.rft.imagine import Imagination
from vla_rft_train.rft.rewards import Design, Reward, RewardConfig, Scene, image_consistency
from vla_rft_train.rollout import RolloutConfig
from vla_rft_train.stages import as_float

matplotlib.use("Agg")

STATES = 8
"""Start states imagined at once."""
TRUE_PICTURES = "true pictures"
PICTURES, TOWEL, SUCCESS = "pictures", "towel", "success"
"""What really happened: minus the deviation of the true pictures, minus that of the towel's vertices, and success in
the end."""


@dataclass(frozen=True)
class StartGroup:
    """Indices among the branches: the demonstration's chunk, and the perturbed ones from the same start state."""

    expert: int
    perturbed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Judged:
    """All chunks: what rewards say and what happened, [starts, chunks] each, more is better."""

    said: Mapping[str, NDArray[np.float64]]
    happened: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one reward with one thing that happened."""

    overall: float
    """Spearman over all chunks."""
    overall_low: float
    overall_high: float
    """95 % bootstrap interval; start states are drawn, not chunks."""
    within: float
    """Mean over start states of Spearman within one."""
    within_low: float
    within_high: float
    starts: int
    """Start states in which both differ from chunk to chunk: only they count within."""


# --- what rewards say ---------------------------------------------------------------------------------------------


def groups_of(branches: Branches) -> list[StartGroup]:
    """Start states as they were written; ValueError when the folder was not made for this study."""
    if "chunk" not in branches.plan:
        raise ValueError("these branches were not made by `python -m vla_rft_sim.perturbed`")
    starts = [i for i, kind in enumerate(branches.kinds) if kind == EXPERT]
    found = [StartGroup(a, tuple(range(a + 1, b))) for a, b in itertools.pairwise([*starts, len(branches)])]
    sizes = {len(group.perturbed) for group in found}
    if len(sizes) != 1:
        raise ValueError(f"start states have {sorted(sizes)} perturbed chunks each; all need as many")
    return found


def judge(
    branches: Branches,
    windows: Windows,
    groups: Sequence[StartGroup],
    imagination: Imagination,
    rewards: Mapping[str, Reward],
    reward_config: RewardConfig,
) -> Judged:
    """Ask every reward about every chunk, and look up what happened."""
    said: dict[str, list[Tensor]] = {}
    pictures: list[Tensor] = []
    chunk = int(branches.plan["chunk"])
    for part in tqdm(_parts(groups), desc="start states", unit="batch", file=sys.stderr):
        expert = default_collate([windows.window(group.expert, 0) for _, group in part])
        others = [default_collate([windows.window(i, 0) for i in group.perturbed]) for _, group in part]
        actions = torch.stack([other["actions"].flatten(1, 2) for other in others])
        batch = {
            "id": torch.tensor([number for number, _ in part]),
            "frames": expert["frames"],
            "world_state": expert["state"],
            "world_actions": expert["actions"],
            "actions": expert["actions"].flatten(1, 2),
        }
        frames = imagination.frames(batch, imagination.rollouts(batch, actions))
        scene = Scene(actions[:, :, :chunk], batch["actions"][:, :chunk], frames)
        for name, reward in rewards.items():
            said.setdefault(name, []).append(reward(scene)[0])
        played = torch.stack([as_float(other["frames"])[:, 1:] for other in others])
        pictures.append(image_consistency(played, frames.recorded, reward_config))
    parameters = [[branches[i].parameters for i in group.perturbed] for group in groups]
    happened = {
        PICTURES: torch.cat(pictures).double().numpy(),
        TOWEL: -np.array([[p[VERTEX_DEVIATION] for p in row] for row in parameters]),
        SUCCESS: np.array([[p[FINISHED] for p in row] for row in parameters]),
    }
    scores = {name: torch.cat(values).double().numpy() for name, values in said.items()}
    return Judged(scores | {TRUE_PICTURES: happened[PICTURES]}, happened)


def _parts(groups: Sequence[StartGroup]) -> list[list[tuple[int, StartGroup]]]:
    numbered = list(enumerate(groups))
    return [numbered[i : i + STATES] for i in range(0, len(numbered), STATES)]


# --- agreement ----------------------------------------------------------------------------------------------------


def agreement(
    said: NDArray[np.float64], happened: NDArray[np.float64], *, draws: int = 1000, seed: int = 0
) -> Agreement:
    """Rank correlation of two [starts, chunks] arrays, with intervals; nan where nothing differs."""
    within = np.array([_rho(a, b) for a, b in zip(said, happened, strict=True)])
    counted = within[np.isfinite(within)]
    random = np.random.default_rng(seed)
    overall, means = [], []
    for _ in range(draws):
        drawn = random.integers(len(said), size=len(said))
        overall.append(_rho(said[drawn].ravel(), happened[drawn].ravel()))
        some = within[drawn]
        if np.isfinite(some).any():
            means.append(float(some[np.isfinite(some)].mean()))
    low, high = _interval(overall)
    within_low, within_high = _interval(means)
    return Agreement(
        overall=_rho(said.ravel(), happened.ravel()),
        overall_low=low,
        overall_high=high,
        within=float(counted.mean()) if len(counted) else float("nan"),
        within_low=within_low,
        within_high=within_high,
        starts=len(counted),
    )


def _rho(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return float("nan")
    return float(spearmanr(a, b).statistic)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    finite = np.array(values)[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    return float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))


# --- the page -----------------------------------------------------------------------------------------------------

HEAD = ("", "with", "over all chunks", "95 %", "within a start state", "95 %", "start states")


def rows_of(found: Mapping[str, Mapping[str, Agreement]]) -> list[tuple[str, ...]]:
    """The table: one row per reward and thing that happened."""
    rows = []
    for name, by_fact in found.items():
        for fact, a in by_fact.items():
            overall = (f"{a.overall:.2f}", f"{a.overall_low:.2f} to {a.overall_high:.2f}")
            within = (f"{a.within:.2f}", f"{a.within_low:.2f} to {a.within_high:.2f}", str(a.starts))
            rows.append((name, fact, *overall, *within))
    return rows


def write(out: Path, judged: Judged, found: Mapping[str, Mapping[str, Agreement]], facts: Mapping[str, object]) -> None:
    """OUT/index.html, its picture, figures.json and chunks.npz."""
    out.mkdir(parents=True, exist_ok=True)
    names, happened = list(judged.said), list(judged.happened)
    drawing = Figure(figsize=(3.2 * len(names), 3.0 * len(happened)), layout="constrained")
    axes = drawing.subplots(len(happened), len(names), squeeze=False)
    for row, fact in enumerate(happened):
        for column, name in enumerate(names):
            ax = axes[row][column]
            ax.plot(judged.said[name].ravel(), judged.happened[fact].ravel(), ".", markersize=2, alpha=0.4)
            ax.set_title(f"{name}: {found[name][fact].overall:.2f}", fontsize=9)
            ax.set_xlabel(name, fontsize=8)
            ax.set_ylabel(fact, fontsize=8)
            ax.tick_params(labelsize=7)
    drawing.savefig(out / "chunks.png", dpi=90)
    np.savez_compressed(
        out / "chunks.npz",
        **{f"said.{name}": values for name, values in judged.said.items()},
        **{f"happened.{name}": values for name, values in judged.happened.items()},
    )
    plain = {name: {fact: asdict(a) for fact, a in by_fact.items()} for name, by_fact in found.items()}
    (out / "figures.json").write_text(json.dumps({**facts, "spearman": plain}, indent=1) + "\n", encoding="utf-8")
    sentence = (
        f"{facts['starts']} start states, {facts['chunks']} perturbed chunks of each; "
        f"{facts['successes']:.0%} of the chunks end in success."
    )
    title = "Is the reward true?"
    parts = [f"<h1>{title}</h1>", f"<p>{sentence}</p>", table(HEAD, rows_of(found))]
    save(out / "index.html", title, [*parts, figure("chunks.png", "Every chunk: what a reward says, what happened.")])


def study(given: argparse.Namespace) -> None:
    """All of it; ValueError or a VlaRftError in one sentence."""
    tokenizer = released.load_tokenizer(given.tokenizer)
    world_model = released.load_world_model(given.world_model, tokenizer)
    branches = Branches(given.perturbed)
    if world_model.spec is not None:
        world_model.spec.require_same(branches.spec, ours=str(given.world_model), theirs=str(given.perturbed))
    groups, data = groups_of(branches), world_model.config.data
    clips = BranchClips(
        given.perturbed,
        camera=data.camera or None,
        size=tokenizer.model.config.image_size,
        episodes=None,
        cache_bytes=0,
    )
    shape = WindowConfig(
        frames=int(branches.plan["watched"]) // data.actions_per_frame, actions_per_frame=data.actions_per_frame
    )
    windows = Windows(clips, shape, dict(world_model.stats))
    imagination = Imagination(
        world_model,
        tokenizer,
        policy_actions=world_model.stats["action"],
        config=RolloutConfig(),
        device=torch.device("cpu"),
    )
    configs = {
        design.value: RewardConfig(design=design, perceptual=0.0)
        for design in (Design.ACTION, Design.IMAGE, Design.MODEL)
    }
    rewards = {name: Reward(config) for name, config in configs.items()}
    if given.outcome_head is not None:
        only = RewardConfig(design=Design.NONE, perceptual=0.0, outcome=1.0, outcome_head=str(given.outcome_head))
        term = outcome.load(given.outcome_head, torch.device("cpu"))
        rewards["outcome"] = Reward(only, extra={"outcome": (1.0, term)})
    judged = judge(branches, windows, groups, imagination, rewards, configs[Design.MODEL.value])
    found = {
        name: {fact: agreement(said, happened) for fact, happened in judged.happened.items()}
        for name, said in judged.said.items()
    }
    facts = {
        "world_model": world_model.digest,
        "tokenizer": tokenizer.digest,
        "plan": dict(branches.plan),
        "starts": len(groups),
        "chunks": len(groups[0].perturbed),
        "successes": float(judged.happened[SUCCESS].mean()),
    }
    write(given.out, judged, found, facts)
    print(as_columns(HEAD, rows_of(found)))
    print(given.out / "index.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and write the page; exit code 1 for a mistake, in one sentence."""
    keep_memory()
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.rft.reward_truth", description=__doc__)
    parser.add_argument("perturbed", type=Path, metavar="DIR", help="made by `python -m vla_rft_sim.perturbed`")
    parser.add_argument("--world-model", type=Path, required=True, help="its checkpoint")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its tokenizer's")
    parser.add_argument("--outcome-head", type=Path, help="checkpoint of a terminal outcome's head: one more reward")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    try:
        study(parser.parse_args(arguments))
    except (ValueError, VlaRftError) as error:
        print(f"reward_truth: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
