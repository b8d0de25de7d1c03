"""`python -m vla_rft_train.rft.control PRESET --out DIR --policy WEAK --data.dataset DIR`: does GRPO learn at all?

From a policy whose supervised training was stopped early, GRPO with R1, whose optimum is known, must lower the error of
held-out actions by a fifth and raise the success in the cell, for every seed. Nothing but the reward teaches: no flow
matching, no entropy. Before this holds, no other reward is worth a look. Exit code 2: it does not hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vla_rft_train import command
from vla_rft_train.closed_loop import LoopSettings
from vla_rft_train.rft.presets import RftRun, control_run
from vla_rft_train.rft.study import Arm, Row, TrialPlan, report, run_arm

LOWERED = 0.20
"""Share of the held-out error that must go."""


def control(run: RftRun, arguments: argparse.Namespace) -> int:
    """Run what is not there yet and print the table; 0 when the control holds."""
    settings = LoopSettings(num_steps=run.chain.num_steps, noise_scale=arguments.noise_scale)
    plan = TrialPlan(trials=arguments.trials, first_seed=arguments.first_seed, settings=settings)
    rows = [run_arm(Arm(name="R1", run=run).seeded(seed), arguments.out, plan) for seed in arguments.seeds]
    holds, sentence = verdict(rows)
    report(rows, arguments.out, "The R1 control", [sentence])
    return 0 if holds else 2


def verdict(rows: Sequence[Row]) -> tuple[bool, str]:
    """Whether it holds, and why in a sentence."""
    error = sum(row.error_lowered >= LOWERED for row in rows)
    better = sum(row.successes_after > row.successes_before for row in rows)
    tried = f"success rose for {better}" if rows[0].trials else "success was not tried"
    holds = error == better == len(rows)
    return holds, (
        f"The control {'holds' if holds else 'does not hold'}: the held-out error fell by {LOWERED:.0%} or more for "
        f"{error} of {len(rows)} seeds, {tried}."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What studies of fine-tunings have in common."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training (default 0 1 2)")
    parser.add_argument("--trials", type=int, default=20, help="in the cell, per policy (default 20; 0 = none)")
    parser.add_argument("--first-seed", type=int, default=100, help="of the placements (default 100)")
    parser.add_argument(
        "--noise-scale", type=float, default=1.0, help="of the noise chunks start from (default 1, as when fine-tuned)"
    )


if __name__ == "__main__":
    command.study(control_run, control, add_options, __doc__ or "")
