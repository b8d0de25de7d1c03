"""Fine-tunings compared: each is run, released, and judged against the policy that it began with. Resumable.

OUT/<arm>/run is the training, OUT/<arm>/policy what it released, OUT/<arm>/trials.jsonl its trials in the cell, one
line each as they end; OUT/start/ has the trials of the policy that all began with. What is there is not done again.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from tqdm import tqdm

from vla_rft_core.cell import from_factory
from vla_rft_train import released
from vla_rft_train.closed_loop import Actor, LoopSettings, TrialCell, run_trial
from vla_rft_train.evaluate.policy import CELL
from vla_rft_train.html_page import as_columns, figure, save, table
from vla_rft_train.loop import checkpoint
from vla_rft_train.rft import page
from vla_rft_train.rft.__main__ import finetune
from vla_rft_train.rft.presets import RftRun

TRIALS, ROWS = "trials.jsonl", "rows.json"
START = "start"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One fine-tuning."""

    name: str
    run: RftRun

    def seeded(self, seed: int) -> Arm:
        """The same with another seed, and its name with it."""
        run = replace(self.run, loop=replace(self.run.loop, seed=seed))
        return Arm(name=f"{self.name}-seed-{seed}", run=run)


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """How policies are tried in a cell."""

    cell: str = CELL
    trials: int = 20
    first_seed: int = 100
    settings: LoopSettings


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a fine-tuning changed. Errors and rewards are those of held-out start states, without noise."""

    arm: str
    steps: int
    seconds: float
    """Of training, wall clock."""
    reward_before: float
    reward_after: float
    error_before: float
    """Mean absolute error of normalised actions."""
    error_after: float
    mm_before: float
    """Error of translations [mm]."""
    mm_after: float
    successes_before: int
    successes_after: int
    trials: int

    @property
    def error_lowered(self) -> float:
        """By which share."""
        return 1.0 - self.error_after / self.error_before


def run_arm(arm: Arm, out: Path, plan: TrialPlan) -> Row:
    """Fine-tune, release, try; ValueError or a VlaRftError in one sentence."""
    folder = out / arm.name
    policy = folder / "policy"
    if not policy.exists():
        checkpoint.release(finetune(arm.run, folder / "run"), policy, half=False)
    before = try_policy(Path(arm.run.policy), out / START, plan)
    after = try_policy(policy, folder, plan)
    log = page.read_log(folder / "run")
    ends = {name: page.curve(log, f"held_out_{name}")[1] for name in ("reward", "error", "mm")}
    return Row(
        arm=arm.name,
        steps=int(log[-1]["step"]),
        seconds=seconds_of(log),
        reward_before=ends["reward"][0],
        reward_after=ends["reward"][-1],
        error_before=ends["error"][0],
        error_after=ends["error"][-1],
        mm_before=ends["mm"][0],
        mm_after=ends["mm"][-1],
        successes_before=before,
        successes_after=after,
        trials=plan.trials,
    )


def try_policy(policy: Path, folder: Path, plan: TrialPlan) -> int:
    """Successes over the plan's placements; trials that are on file are not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    model = released.load_policy(policy)
    wanted = range(plan.first_seed, plan.first_seed + plan.trials)
    key = {"policy": model.digest, "cell": plan.cell, **asdict(plan.settings)}
    done = {line["seed"]: line for line in _lines(folder / TRIALS) if key.items() <= line.items()}
    left = [seed for seed in wanted if seed not in done]
    if left:
        cell: TrialCell = from_factory(plan.cell)
        try:
            actor = Actor(model, num_steps=plan.settings.num_steps, noise_scale=plan.settings.noise_scale)
            for seed in tqdm(left, f"trials of {folder.name}", unit="trial", file=sys.stderr):
                done[seed] = asdict(run_trial(cell, actor, seed, plan.settings)) | key
                with (folder / TRIALS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[seed]) + "\n")
        finally:
            cell.close()
    return sum(done[seed]["success"] for seed in wanted)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def seconds_of(log: Sequence[Mapping[str, float]]) -> float:
    """A resumed run's clock begins again: the sum of what each call took."""
    seconds = [line["seconds"] for line in log]
    return seconds[-1] + sum(a for a, b in itertools.pairwise(seconds) if b < a)


HEAD = (
    *("", "steps", "minutes", "reward before", "after", "error before", "after", "lowered", "mm before", "after"),
    *("success before", "after"),
)


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    return (
        row.arm,
        str(row.steps),
        f"{row.seconds / 60.0:.1f}",
        f"{row.reward_before:.4f}",
        f"{row.reward_after:.4f}",
        f"{row.error_before:.4f}",
        f"{row.error_after:.4f}",
        f"{row.error_lowered:.0%}",
        f"{row.mm_before:.2f}",
        f"{row.mm_after:.2f}",
        interval(row.successes_before, row.trials),
        interval(row.successes_after, row.trials),
    )


def interval(successes: int, trials: int) -> str:
    """k/n with its 95 % Wilson interval."""
    if not trials:
        return "not run"
    found = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    return f"{successes}/{trials} ({found.low:.0%} to {found.high:.0%})"


def report(rows: Sequence[Row], out: Path, title: str, sentences: Sequence[str]) -> None:
    """OUT/rows.json, OUT/index.html and a table on the terminal."""
    (out / ROWS).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    shown = [cells(row) for row in rows]
    parts = [f"<h1>{title}</h1>", *(f"<p>{sentence}</p>" for sentence in sentences), table(HEAD, shown)]
    parts += [figure(f"{row.arm}/run/curves.png", row.arm) for row in rows]
    save(out / "index.html", title, parts)
    print(as_columns(HEAD, shown))
    print("\n".join([*sentences, str(out / "index.html")]))
