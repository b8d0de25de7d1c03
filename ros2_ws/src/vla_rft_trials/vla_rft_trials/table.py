"""Tables in the terminal: a run's trials, a study's figures; plain text when the output is no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vla_rft_trials import wording
from vla_rft_trials.records import Outcome, TrialRecord, score

_STYLES = {Outcome.SUCCESS: "green", Outcome.FAILURE: "red", Outcome.VOID: "dim"}
_PLAIN_WIDTH = 1000
"""Columns assumed when nothing says how wide the output is: a file or pipe shall not wrap."""


def print_table(
    records: tuple[TrialRecord, ...], *, names: Mapping[str, str] | None = None, file: IO[str] | None = None
) -> None:
    """Print one row per trial, then `success k/n` alone on the last line (void trials are not in n).

    `names`: what to call the policies' codes, in order; of several, each has its score.
    """
    console = _console(file)
    several = names if names is not None and len(names) > 1 else {}
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    columns = [("trial", "right"), ("placement", "left"), ("outcome", "left"), ("seconds", "right")]
    columns += [("edge gap", "right"), ("reason", "left")]
    if several:
        columns.insert(1, ("policy", "left"))
    for name, justify in columns:
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for record in records:
        policy = [Text(several[record.policy])] if several else []
        table.add_row(
            str(record.index + 1),
            *policy,
            Text(record.placement),
            Text(wording.outcome(record), _STYLES[record.outcome]),
            wording.seconds(record.seconds),
            wording.centimetres(record.edge_gap),
            Text(wording.reason(record)),
        )
    console.print(table)
    if void := score(records).void:
        console.print(f"{void} void, not counted")
    for code, name in several.items():
        console.print(f"{name}: success {_score(tuple(r for r in records if r.policy == code))}", soft_wrap=True)
    if not several:
        console.print(f"success {_score(records)}")


def print_figures(found: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
    """What a study found (`results`): one row per method, over its training seeds; and of each, per policy."""
    console = _console(file)
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for name in ("policy", "success", "95 %", "each training seed", "median time"):
        table.add_column(name)
    for method in found["methods"]:
        policies = [policy for policy in found["policies"] if policy["method"] == method["name"]]
        times = [wording.seconds(policy["median_s"]) for policy in policies if policy["median_s"] is not None]
        table.add_row(
            Text(method["name"]),
            f"{method['successes']}/{method['trials']}",
            f"{method['low']:.0%} to {method['high']:.0%}" if method["trials"] else "",
            ", ".join(f"{policy['successes']}/{policy['trials']}" for policy in policies),
            ", ".join(times),
        )
    console.print(Text(f"{found['title']}: study {found['study'][:16]}, {found['placements']} placements"))
    console.print(table)


def _console(file: IO[str] | None) -> Console:
    console = Console(file=file, highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(file=file, highlight=False, width=_PLAIN_WIDTH)


def _score(records: tuple[TrialRecord, ...]) -> str:
    result = score(records)
    return f"{result.successes}/{result.counted}"
