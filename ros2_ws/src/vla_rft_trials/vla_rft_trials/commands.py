"""What the commands of `python -m vla_rft_trials` do: each takes the parsed arguments and returns the exit code."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from vla_rft_core.files import write_atomic
from vla_rft_trials import compose, table
from vla_rft_trials.progress import check_log, counted, progress
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.ratings import Rating, order_for, rate
from vla_rft_trials.records import Amendment, Outcome
from vla_rft_trials.statistics.comparison import describe_counts
from vla_rft_trials.statistics.paired import Pairs
from vla_rft_trials.study import RATINGS, Study, StudyError, lock, names_of, open_study, unlock
from vla_rft_trials.trial_log import LogContents, RecordLog, read_log


def compare(chosen: Namespace) -> int:
    """Two counts, from the command line."""
    pairs = None
    if chosen.discordant is not None:
        a, b = chosen.a, chosen.b
        only_a, only_b = chosen.discordant
        both = a.successes - only_a
        neither = a.trials - both - only_a - only_b
        if a.trials != b.trials or both != b.successes - only_b or min(both, neither) < 0:
            raise ValueError(f"{a} and {b} are not {a.trials} pairs of which {only_a}:{only_b} differ")
        pairs = Pairs(both, only_a, only_b, neither)
    print(describe_counts(chosen.a, chosen.b, pairs=pairs, alpha=chosen.alpha))
    return 0


def lock_study(chosen: Namespace) -> int:
    """Lock a protocol, and say what it can detect before anybody tries."""
    study = lock(chosen.protocol, chosen.study)
    print(f"locked {study.folder}: study {study.digest[:16]}, {len(study.plan.schedule)} trials")
    print("\n".join(study.plan.detectable))
    if study.protocol.blinded:
        print("Policies go by code names; the keeper's share of the mapping is in the keeper's folder. Do not lose it.")
    return 0


def compose_protocol(chosen: Namespace) -> int:
    """A protocol for what was just made."""
    wanted = compose.Composition(
        policies=tuple(compose.policy_entry(text) for text in chosen.policy),
        comparisons=tuple(compose.comparison(text) for text in chosen.compare),
        title=chosen.title,
        count=chosen.count,
        draw=chosen.draw,
        time_limit_s=chosen.time_limit,
        development=chosen.development,
    )
    compose.write(compose.compose(Protocol.load(chosen.template), wanted), chosen.protocol)
    print(chosen.protocol)
    return 0


def show_results(chosen: Namespace) -> int:
    """What was found, for programs."""
    from vla_rft_trials.results import results

    text = json.dumps(results(chosen.study), indent=1)
    if chosen.out is None:
        print(text)
    else:
        write_atomic(chosen.out, (text + "\n").encode())
    return 0


def show_figures(chosen: Namespace) -> int:
    """What a study found, for people, from the file that `results` wrote."""
    try:
        table.print_figures(json.loads(chosen.results.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{chosen.results}: not what `results` writes ({error!r})") from None
    return 0


def draw_strips(chosen: Namespace) -> int:
    """Film strips of two policies."""
    from vla_rft_trials.strips import strips  # as slow

    write_atomic(chosen.out, strips(chosen.study, chosen.first, chosen.second, count=chosen.count))
    print(chosen.out)
    return 0


def show_status(chosen: Namespace) -> int:
    """How far a study has come; by code names while it is sealed."""
    study, contents = _opened(chosen.study)
    state = progress(study, contents)
    print(f"{study.protocol.title}: {state.settled} of {state.planned} places settled; {state.decision}")
    names = names_of(study.unlocked(), study.plan)
    running_now = {start.index for start in contents.open}
    ended = tuple(record for record in contents.records if record.index not in running_now)
    table.print_table(ended, names={code: names[code] for code in study.codes()})
    for start in contents.open:
        print(f"trial {start.index + 1} is running, or was cut off")
    return 0


def unlock_study(chosen: Namespace) -> int:
    """Open the mapping for good."""
    study, contents = _opened(chosen.study)
    unlocked = unlock(study, complete=progress(study, contents).complete, early=chosen.early)
    for code, sealed in unlocked.mapping.codes.items():
        print(f"{code} = {sealed.name}  {sealed.digest[:16]}")
    return 0


def report(chosen: Namespace) -> int:
    """Make a study's report again."""
    from vla_rft_trials.report import render  # matplotlib is slow to import

    print(render(chosen.study))
    return 0


def void(chosen: Namespace) -> int:
    """A trial that has ended says nothing after all."""
    study, contents = _opened(chosen.study)
    index = chosen.trial - 1
    if all(record.index != index for record in contents.records):
        raise StudyError(f"{study.folder} has no trial {chosen.trial}; it has {len(contents.records)}")
    word = Amendment(index=index, outcome=Outcome.VOID, by=chosen.by, note=chosen.reason, stamp_ns=time.time_ns())
    with RecordLog(study.records) as log:
        log.amend(word)
    print(f"trial {chosen.trial} is void: {chosen.reason}")
    return 0


def undo(chosen: Namespace) -> int:
    """Take back the last later word."""
    study, _ = _opened(chosen.study)
    with RecordLog(study.records) as log:
        taken = log.undo(by=chosen.by, stamp_ns=time.time_ns())
    print(f"trial {taken.index + 1} is no longer {taken.outcome}")
    return 0


def rate_videos(chosen: Namespace, *, answers: Iterable[str] | None = None) -> int:
    """Show a rater the videos in an order of their own and take down what they see, until they stop.

    They are told neither policy nor place in the order nor what the first verdict was.
    """
    study, contents = _opened(chosen.study)
    records = [record for record in counted(contents).values() if record.video]
    order = order_for(chosen.rater, study.plan.study, len(records))
    modes = study.protocol.failure_modes
    typed = iter(answers if answers is not None else sys.stdin)
    print(
        f"s = success; f = failure, with its number: {', '.join(f'{i} {m}' for i, m in enumerate(modes, 1))}; q = stop"
    )
    for position, which in enumerate(order, start=1):
        record = records[which]
        print(f"{position}/{len(order)}: {study.folder / record.video}", flush=True)
        seen = _rated(typed, modes)
        if seen is None:
            break
        rating = Rating(
            index=record.index,
            rater=chosen.rater,
            outcome=seen[0],
            failure_mode=seen[1],
            blind=study.unlocked() is None,
            stamp_ns=time.time_ns(),
        )
        rate(study.folder / RATINGS, rating)
    return 0


def _rated(typed: Iterable[str], modes: tuple[str, ...]) -> tuple[Outcome, str] | None:
    """The next answer that can be understood; None when the rater stops."""
    for line in typed:
        words = line.split()
        if words == ["s"]:
            return Outcome.SUCCESS, ""
        if words[:1] == ["q"]:
            return None
        if len(words) == 2 and words[0] == "f" and words[1].isdecimal() and 1 <= int(words[1]) <= len(modes):
            return Outcome.FAILURE, modes[int(words[1]) - 1]
        print(f"s, f 1 to f {len(modes)}, or q", flush=True)
    return None


def _opened(folder: Path) -> tuple[Study, LogContents]:
    study = open_study(folder)
    contents = read_log(study.records) if study.records.exists() else LogContents(())
    check_log(study, contents)
    return study, contents
