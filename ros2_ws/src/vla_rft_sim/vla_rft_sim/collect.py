"""`python -m vla_rft_sim.collect --count 50 --out DIR`: simulated demonstrations until so many have succeeded.

Attempts are numbered; which there are, and every byte of them, follows from seed, strength and count alone, whatever
the number of workers. Failures stay in the collection, labelled as such. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_episodes import channels, codec
from vla_rft_episodes.collection import Collection, EpisodeRef
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.labels import Label, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_sim.attempt import ATTEMPT, OPERATOR, SEED, STRENGTH, Attempt, Plan, Stage
from vla_rft_sim.cell import SIM_CELL
from vla_rft_sim.workers import Workers

INTERRUPTED = 130
"""Exit code after SIGINT."""


@dataclass
class Tally:
    """Numbers of the attempts that are done, and how many of them succeeded."""

    done: set[int] = field(default_factory=set)
    successes: int = 0

    def add(self, number: int, success: bool) -> None:
        """One more."""
        self.done.add(number)
        self.successes += success

    def next_number(self, goal: int, started: set[int]) -> int | None:
        """What to start: the lowest number free, and never more than may still be needed. So the set of attempts is the
        same for any number of workers: all up to the one that brings the last success.
        """
        running = len(started - self.done)
        if self.successes + running >= goal:
            return None
        return next(n for n in range(len(started) + len(self.done) + 1) if n not in started and n not in self.done)


def collect(
    collection: Path, plan: Plan, *, count: int, workers: int = 2, on_attempt: Callable[[Attempt], None] | None = None
) -> Tally:
    """Attempts until `count` have succeeded, or SIGINT; earlier ones of the same plan count.

    ValueError or EpisodeError when the folder holds something else or cannot be written.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    tally = resume(collection, plan)
    labels = Collection(collection).labels
    started: set[int] = set()

    def next_number(running: int) -> int | None:
        number = tally.next_number(count, started)
        if number is not None:
            started.add(number)
        return number

    if tally.successes >= count:
        return tally
    with Workers(workers, _prepare, plan, collection) as crew:
        for attempt in crew.results(_perform, next_number):
            outcome = Outcome.SUCCESS if attempt.success else Outcome.FAILURE
            labels.append(attempt.episode, Label.KEEP, outcome, OPERATOR)
            tally.add(attempt.number, attempt.success)
            if on_attempt is not None:
                on_attempt(attempt)
    return tally


def resume(collection: Path, plan: Plan) -> Tally:
    """What there is of a plan; attempts that were finished but not labelled are labelled.

    EpisodeError when the folder holds anything but this plan's attempts.
    """
    tally, found = Tally(), Collection(collection)
    spec = find_cell(SIM_CELL).spec
    for ref in found.episodes():
        extra = ref.info.extra
        theirs = (extra.get(SEED), extra.get(STRENGTH))
        if theirs != (plan.seed, plan.strength):
            whose = f"seed {theirs[0]}, strength {theirs[1]}" if ATTEMPT in extra else "no collected simulation"
            ours = f"seed {plan.seed}, strength {plan.strength}"
            raise EpisodeError(f"{collection}: episode {ref.id} is of {whose}, not of {ours}; take another folder")
        if ref.info.termination_reason.startswith("repaired"):
            continue  # a start that was cut short: the attempt is made again
        ref.info.robot_spec.require_same(spec, ours=f"episode {ref.id}", theirs="the simulated cell")
        if ref.label is None:
            outcome = Outcome.SUCCESS if _succeeded(ref) else Outcome.FAILURE
            found.labels.append(ref.id, Label.KEEP, outcome, OPERATOR)
        else:
            outcome = ref.outcome
        tally.add(int(extra[ATTEMPT]), outcome is Outcome.SUCCESS and (ref.label is None or ref.kept))
    if found.unreadable:
        raise EpisodeError(f"{collection}: {found.unreadable[0]}")
    return tally


def _succeeded(ref: EpisodeRef) -> bool:
    """The last truth recorded."""
    truths = [codec.decode_sim_truth(m.data) for m in Episode.open(ref.path).messages([channels.SIM_TRUTH.topic])]
    return bool(truths) and truths[-1].success


_stage: Stage | None = None
_task: tuple[Plan, Path] | None = None


def _prepare(plan: Plan, collection: Path) -> None:
    global _stage, _task
    _stage, _task = Stage(), (plan, collection)


def _perform(number: int) -> Attempt:
    assert _stage is not None and _task is not None
    plan, collection = _task
    return _stage.perform(plan, number, collection)


# --- command line -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.collect", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="successful demonstrations wanted (default 50)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the collection: a new folder, or one to go on with"
    )
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other demonstrations (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="of randomisation and variation; 0 is the plain world (default 1)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Collect; exit code 1 for an error in one sentence, 130 after SIGINT."""
    arguments = _parser().parse_args(argv)
    began = time.monotonic()
    performed: list[Attempt] = []
    try:
        plan = Plan(seed=arguments.seed, strength=arguments.strength)
        before = resume(arguments.out, plan)
        with tqdm(total=arguments.count, initial=before.successes, desc="successes", unit="", file=sys.stderr) as bar:

            def show(attempt: Attempt) -> None:
                performed.append(attempt)
                bar.update(attempt.success)
                bar.set_postfix(attempts=len(before.done) + len(performed))

            tally = collect(arguments.out, plan, count=arguments.count, workers=arguments.workers, on_attempt=show)
    except (ValueError, VlaRftError) as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    print(_table(tally, performed, arguments.out, minutes=(time.monotonic() - began) / 60.0))
    return 0 if tally.successes >= arguments.count else INTERRUPTED


def _table(tally: Tally, performed: list[Attempt], collection: Path, *, minutes: float) -> str:
    megabytes = sum(file.stat().st_size for file in collection.rglob("*.mcap")) / 1e6
    rows = [("successes", f"{tally.successes}"), ("failures", f"{len(tally.done) - tally.successes}")]
    qualities = [attempt.quality for attempt in performed]
    rows += [(f"  {name} now", f"{qualities.count(name)}") for name in sorted(set(qualities))]
    rows += [("minutes", f"{minutes:.1f}"), ("MB", f"{megabytes:.0f}")]
    if performed:
        simulated = sum(attempt.duration_s for attempt in performed)
        rows += [("seconds/episode", f"{60.0 * minutes / len(performed):.1f}")]
        rows += [("× real time", f"{simulated / (60.0 * minutes):.1f}")]
    return "\n".join(f"{name:<16}{value:>8}" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())
