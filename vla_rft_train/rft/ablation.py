"""`python -m vla_rft_train.rft.ablation PRESET --out DIR --policy P --world-model W --tokenizer T ...`: Table 4.

The three designs of the reward, and R3 with the terminal outcome where its head is named, from the same policy with the
same settings, but for the noise of R1, which sees every number of every action; beside them supervised flow matching of
the same head for as many steps, and for as much time: one row each and seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vla_rft_train import command
from vla_rft_train.closed_loop import LoopSettings
from vla_rft_train.rft.control import add_options
from vla_rft_train.rft.page import read_log
from vla_rft_train.rft.presets import RftRun, rft_run, trying_every_number
from vla_rft_train.rft.rewards import Design
from vla_rft_train.rft.study import Arm, TrialPlan, report, run_arm, seconds_of

SUPERVISED = "SFT"
EVERY_GROUP = 1e9
"""No group's rewards span as much: all are left out, and Eq. 13 is its flow-matching term."""


def ablation(run: RftRun, arguments: argparse.Namespace) -> int:
    """Run what is not there yet and print the table."""
    settings = LoopSettings(num_steps=run.chain.num_steps, noise_scale=arguments.noise_scale)
    plan = TrialPlan(trials=arguments.trials, first_seed=arguments.first_seed, settings=settings)
    rows = []
    for seed in arguments.seeds:
        mine = {arm.name: run_arm(arm.seeded(seed), arguments.out, plan) for arm in arms(run)}
        folder = arguments.out / next(arms(run)).seeded(seed).name / "run"
        longer = as_long(supervised(run), read_log(folder), wanted_s=mine[Design.MODEL.value].seconds)
        rows += [*mine.values(), run_arm(longer.seeded(seed), arguments.out, plan)]
    report(rows, arguments.out, "Reward designs (Table 4)", [])
    return 0


def as_long(arm: Arm, log: Sequence[Mapping[str, float]], *, wanted_s: float) -> Arm:
    """Supervision for as much time as a rewarded fine-tuning took, not for as many steps; log: of a shorter run."""
    steps = max(arm.run.loop.steps, round(log[-1]["step"] * wanted_s / seconds_of(log)))
    loop = replace(arm.run.loop, steps=steps, save_every=max(arm.run.loop.save_every, steps // 8))
    return Arm(name=f"{SUPERVISED}-equal-time", run=replace(arm.run, loop=loop))


def supervised(run: RftRun) -> Arm:
    """Flow matching of the same head, and no reward."""
    nothing = replace(run.grpo, mse=1.0, entropy=0.0, min_spread=EVERY_GROUP)
    plain = replace(run.reward, design=Design.ACTION, action=0.0, outcome=0.0)
    return Arm(name=SUPERVISED, run=replace(run, grpo=nothing, reward=plain))


def arms(run: RftRun) -> Iterator[Arm]:
    """Supervision alone, then one per design; with an outcome's head, one more."""
    yield supervised(run)
    for design in (Design.ACTION, Design.IMAGE, Design.MODEL):
        alone = replace(run.reward, design=design, action=0.0, outcome=0.0)
        noisy = trying_every_number(run) if design is Design.ACTION else run
        yield Arm(name=design.value, run=replace(noisy, reward=alone))
    if run.reward.outcome_head:
        weight = run.reward.outcome or 1.0
        yield Arm(
            name=f"{Design.MODEL.value}-outcome",
            run=replace(run, reward=replace(run.reward, design=Design.MODEL, outcome=weight)),
        )


if __name__ == "__main__":
    command.study(rft_run, ablation, add_options, __doc__ or "")
