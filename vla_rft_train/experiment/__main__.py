"""`python -m vla_rft_train.experiment SCALE --out DIR`: the paper's towel experiment (Table 11), end to end.

Makes what is not there yet, step by step, and DIR/index.html. A run that was stopped, or whose options were changed, is
started again: steps that nothing changed for are not run again. SCALE --help lists all options with their values.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import tyro

from vla_rft_core.errors import VlaRftError
from vla_rft_train.command import git_revision
from vla_rft_train.experiment import page
from vla_rft_train.experiment.runner import Runner
from vla_rft_train.experiment.scale import Scale, scale
from vla_rft_train.experiment.steps import Plan
from vla_rft_train.experiment.towel import towel_plan

INTERRUPTED = 130


def main() -> int:
    """Exit code 1 with one sentence, 130 after SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell that runs it in the background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.experiment", add_help=False, allow_abbrev=False)
    parser.add_argument("scale", choices=("debug", "sim"))
    parser.add_argument("--out", type=Path, required=not {"-h", "--help"} & set(sys.argv), help="folder of all steps")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help="these, and what they read")
    parser.add_argument("--jobs", type=int, default=1, help="steps at once (default 1)")
    parser.add_argument("--dry-run", action="store_true", help="list the steps, their state and times")
    known, overrides = parser.parse_known_args()
    # argparse takes an option with a blank in it (--rft="--loop.lr 1e-4") for one more name.
    options = [word for word in known.only if word.startswith("--")]
    try:
        size = tyro.cli(Scale, default=scale(known.scale), args=overrides + options, description=__doc__)
        plan = towel_plan(size, known.out)
        names = plan.needed([word for word in known.only if word not in options])
        if known.dry_run:
            print(listing(plan, names))
            return 0
        known.out.mkdir(parents=True, exist_ok=True)
        try:
            Runner(plan, jobs=known.jobs, git=git_revision()).run(names)
        finally:
            print(page.write(plan, size))
    except (ValueError, VlaRftError, OSError) as error:
        print(f"experiment: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiment: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def listing(plan: Plan, names: list[str]) -> str:
    """One line per step: state, minutes, name with key, what it reads."""
    lines = []
    for name in names:
        record = plan.record(name)
        minutes = f"{record.seconds / 60:.1f} min" if record.attempts else ""
        inputs = ", ".join(plan.steps[name].inputs)
        lines.append(f"{plan.state(name):<9}{minutes:>10}  {plan.label(name):<34}{inputs}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
