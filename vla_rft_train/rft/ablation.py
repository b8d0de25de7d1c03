"""`python -m vla_rft_train.rft.ablation PRESET --out DIR --policy P --world-model W --tokenizer T ...`: Table 4.

The three designs of the reward, and R3 with the terminal outcome where its head is named, from the same policy with the
same settings: one row each and seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from vla_rft_train import command
from vla_rft_train.closed_loop import LoopSettings
from vla_rft_train.rft.control import add_options
from vla_rft_train.rft.presets import RftRun, rft_run
from vla_rft_train.rft.rewards import Design
from vla_rft_train.rft.study import Arm, TrialPlan, report, run_arm


def ablation(run: RftRun, arguments: argparse.Namespace) -> int:
    """Run what is not there yet and print the table."""
    settings = LoopSettings(num_steps=run.chain.num_steps, noise_scale=arguments.noise_scale)
    plan = TrialPlan(trials=arguments.trials, first_seed=arguments.first_seed, settings=settings)
    rows = [run_arm(arm.seeded(seed), arguments.out, plan) for seed in arguments.seeds for arm in arms(run)]
    report(rows, arguments.out, "Reward designs (Table 4)", [])
    return 0


def arms(run: RftRun) -> Iterator[Arm]:
    """One per design; with an outcome's head, one more."""
    for design in (Design.ACTION, Design.IMAGE, Design.MODEL):
        yield Arm(name=design.value, run=replace(run, reward=replace(run.reward, design=design, outcome=0.0)))
    if run.reward.outcome_head:
        weight = run.reward.outcome or 1.0
        yield Arm(
            name=f"{Design.MODEL.value}-outcome",
            run=replace(run, reward=replace(run.reward, design=Design.MODEL, outcome=weight)),
        )


if __name__ == "__main__":
    command.study(rft_run, ablation, add_options, __doc__ or "")
