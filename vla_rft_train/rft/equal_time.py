"""`python -m vla_rft_train.rft.equal_time PRESET --out RUN --like FINE_TUNING ...`: supervision for as much time.

The control of a fine-tuning: flow matching of the same head from the same policy, for as much wall-clock time as the
run FINE_TUNING has in its log. RUN/measured is a first run of as many steps, for the time of one; the control is RUN.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vla_rft_train import command
from vla_rft_train.rft.__main__ import finetune
from vla_rft_train.rft.ablation import as_long, supervised
from vla_rft_train.rft.page import read_log
from vla_rft_train.rft.presets import RftRun, rft_run
from vla_rft_train.rft.study import seconds_of

MEASURED = "measured"


def equal_time(run: RftRun, arguments: argparse.Namespace) -> int:
    """Measure, then train; what is there is gone on with."""
    out: Path = arguments.out
    log = read_log(arguments.like)
    arm = supervised(run)
    first = replace(arm.run, loop=replace(arm.run.loop, steps=max(arm.run.loop.warmup, 1, int(log[-1]["step"]))))
    finetune(first, out / MEASURED)
    longer = as_long(arm, read_log(out / MEASURED), wanted_s=seconds_of(log))
    print(f"{longer.run.loop.steps} steps take as long as {int(log[-1]['step'])} of {arguments.like}")
    print(finetune(longer.run, out))
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Beside the preset's fields."""
    parser.add_argument("--like", type=Path, required=True, metavar="RUN", help="run folder of the fine-tuning")


if __name__ == "__main__":
    command.study(rft_run, equal_time, add_options, __doc__ or "")
