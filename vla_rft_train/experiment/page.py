"""OUT/index.html and report.md: what the steps found, beside the paper's figures. What was not run says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rft_train import html_page
from vla_rft_train.experiment import paper, towel
from vla_rft_train.experiment.scale import Scale
from vla_rft_train.experiment.steps import Plan, State

NOT_RUN = "not run"
PAGE, MARKDOWN = "index.html", "report.md"
TITLE = "The towel experiment in the simulated cell"


@dataclass(frozen=True)
class Table:
    """A heading, rows of words, and what a reader must know of them."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """Relative to the page."""

    path: str
    caption: str


def write(plan: Plan, size: Scale) -> Path:
    """Both, from what is on disk."""
    tables, pictures = _tables(plan, size), _pictures(plan, size)
    done = sum(plan.state(name) is State.DONE for name in plan.steps)
    intro = (
        f"{done} of {len(plan.steps)} steps are done. Paper: VLA-RFT, arXiv 2510.00406; its towel was folded by a real "
        "robot (10 trials, limit 180 s), its Tables 1, 3 and 4 are of LIBERO. Ours are of the simulated cell with the "
        f"{size.preset} preset: beside one another, not to be compared in their absolute values. Intervals are 95 % "
        "Clopper\N{EN DASH}Pearson."
    )
    parts = [f"<h1>{TITLE}</h1>", f"<p>{intro}</p>"]
    lines = [f"# {TITLE}", "", intro]
    for table in tables:
        parts += [f"<h2>{table.heading}</h2>", html_page.table(table.head, table.rows)]
        parts += [f"<p>{note}</p>" for note in table.notes]
        lines += ["", f"## {table.heading}", "", *_markdown(table), *(f"\n{note}" for note in table.notes)]
    for picture in pictures:
        parts.append(html_page.figure(picture.path, picture.caption))
        lines += ["", f"![{picture.caption}]({picture.path})"]
    (plan.out / MARKDOWN).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return html_page.save(plan.out / PAGE, TITLE, parts)


def _markdown(table: Table) -> list[str]:
    rows = [table.head, ("---",) * len(table.head), *table.rows]
    return [f"| {' | '.join(row)} |" for row in rows]


def _tables(plan: Plan, size: Scale) -> list[Table]:
    study = _found(plan, towel.STUDY)
    return [
        _table_11(study, size),
        _comparisons("Table 11: the comparisons that were locked", study),
        _table_11(_found(plan, towel.ROS), size, heading="Table 11 through ROS, in real time, first seed"),
        *_rehearsed(_found(plan, towel.REHEARSAL), size),
        _table_1(_read(plan, towel.WORLD_MODEL, "figures.json")),
        _table_4(_found(plan, towel.REWARDS)),
        _comparisons("Table 4: the comparisons that were locked", _found(plan, towel.REWARDS)),
        _table_3(plan),
        _figure_4(_read(plan, towel.ACTIONS, "figures.json")),
        _account(plan),
    ]


# --- what is on disk --------------------------------------------------------------------------------------------


def _read(plan: Plan, step: str, name: str) -> Mapping[str, Any] | None:
    """A JSON file of a step that is done."""
    if step not in plan.steps or plan.state(step) is not State.DONE:
        return None
    found: Mapping[str, Any] = json.loads((plan.folder(step) / name).read_text(encoding="utf-8"))
    return found


def _found(plan: Plan, step: str) -> Mapping[str, Any] | None:
    return _read(plan, step, towel.RESULTS)


def _of(study: Mapping[str, Any] | None, method: str) -> list[Mapping[str, Any]]:
    """A method's policies."""
    name = towel.METHODS[method]
    return [] if study is None else [policy for policy in study["policies"] if policy["method"] == name]


def _seconds(study: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """Of the successes of some policies, from the table of outcomes."""
    columns = [i for i, column in enumerate(study["outcomes"]["columns"]) if column in names]
    cells = [row[i] for row in study["outcomes"]["rows"] for i in columns]
    return [float(cell) for cell in cells if cell.replace(".", "", 1).isdecimal()]


# --- words ------------------------------------------------------------------------------------------------------


def _rate(found: Mapping[str, Any]) -> str:
    if not found["trials"]:
        return NOT_RUN
    return f"{found['successes']}/{found['trials']} ({100 * found['low']:.0f} to {100 * found['high']:.0f} %)"


def _modes(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {mode}" for mode, count in sorted(found.items(), key=lambda item: -item[1])) or "none"


def _median(seconds: Sequence[float]) -> str:
    return f"{float(np.median(seconds)):.1f}" if seconds else NOT_RUN


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _together(policies: Sequence[Mapping[str, Any]]) -> str:
    """Successes of all seeds; no interval, because trials at one placement are not independent."""
    total = sum(policy["trials"] for policy in policies)
    return f"{sum(policy['successes'] for policy in policies)}/{total}" if total else NOT_RUN


# --- tables -----------------------------------------------------------------------------------------------------


def _table_11(
    study: Mapping[str, Any] | None,
    size: Scale,
    *,
    heading: str = "Table 11: the towel",
    seeded: str = "drawn just before it was locked",
) -> Table:
    """seeded: where the seed of the placements comes from."""
    rows = []
    for method in towel.TABLE_11:
        theirs = paper.TABLE_11[method]
        rows.append(
            (f"paper: {theirs.name}", theirs.score, _median(theirs.seconds), _modes(theirs.failures)),
        )
        mine = _of(study, method)
        if study is None or not mine:
            rows.append((f"ours: {towel.METHODS[method]}", NOT_RUN, NOT_RUN, NOT_RUN))
            continue
        for policy in mine:
            median = _median(_seconds(study, [policy["name"]])) if policy["successes"] else "no success"
            rows.append((f"ours: {policy['name']}", _rate(policy), median, _modes(policy["failure_modes"])))
        if len(mine) > 1:
            rows.append((f"ours: {towel.METHODS[method]}, {len(mine)} seeds", _together(mine), "", ""))
    steps = f"N = {size.sft_steps} steps of supervised training, RFT: {size.rft_steps} steps more"
    played = f"Noise scale of the chunks: {size.noise_scale:g}; joined: {size.splice}."
    notes = [f"{steps} (preset {size.rft_preset or size.preset}). {played}"]
    if study is not None:
        notes.append(
            f"Study {study['study'][:16]}, {study['placements']} placements from seed {study['first_seed']} "
            f"({seeded}), every policy at each; limit {study['time_limit_s']:g} s of simulated time."
        )
    return Table(heading, ("", "success", "median time [s]", "failures"), tuple(rows), tuple(notes))


def _rehearsed(study: Mapping[str, Any] | None, size: Scale) -> list[Table]:
    heading = "Table 11 on placements to develop on: no result"
    return [] if study is None else [_table_11(study, size, heading=heading, seeded="to develop on")]


def _comparisons(heading: str, study: Mapping[str, Any] | None) -> Table:
    head = ("", "only first : only second", "difference [points]", "p", "Holm-adjusted")
    if study is None:
        return Table(heading, head, ((NOT_RUN, "", "", "", ""),))
    rows = []
    for pair in study["pairs"]:
        low, high = (100 * bound for bound in pair["difference"])
        apart = "" if pair["only_a"] is None else f"{pair['only_a']} : {pair['only_b']}"
        words = f"{pair['a']} against {pair['b']} ({pair['test']})"
        rows.append((words, apart, f"{low:+.0f} to {high:+.0f}", _p(pair["p"]), _p(pair["holm"])))
    for pair in study["method_p"]:
        words = f"{pair['a']} against {pair['b']}, all seeds (permutation by placement)"
        rows.append((words, "", "", _p(pair["p"]), ""))
    note = "The permutation test exchanges whole placements; the seeds trained are taken as they are."
    return Table(heading, head, tuple(rows) or ((NOT_RUN, "", "", "", ""),), (note,))


def _table_1(figures: Mapping[str, Any] | None) -> Table:
    head = ("", "MSE", "PSNR [dB]", "SSIM", "perceptual distance")
    theirs = paper.TABLE_1
    rows = [
        (
            "paper: LIBERO, 256 × 256",
            f"{theirs['mse']:.4f}",
            f"{theirs['psnr']:.2f}",
            f"{theirs['ssim']:.3f}",
            f"{theirs['perceptual']:.3f} (LPIPS)",
        )
    ]
    if figures is None:
        rows.append((f"ours: {NOT_RUN}", "", "", "", ""))
        return Table("Table 1: the world model", head, tuple(rows))
    for name, found in figures["quality"].items():
        distance = f"{found['perceptual']:.3f} ({figures['perceptual']})"
        rows.append(
            (f"ours: {name}", f"{found['mse']:.4f}", f"{found['psnr']:.2f}", f"{found['ssim']:.3f}", distance),
        )
    note = (
        f"{figures['episodes']} held-out demonstrations, {figures['windows']} windows, {figures['resolution']} × "
        f"{figures['resolution']} pixels; action gap at the last frame {figures['action_gap_db']:.1f} dB."
    )
    return Table("Table 1: the world model", head, tuple(rows), (note,))


def _table_4(study: Mapping[str, Any] | None) -> Table:
    rows = []
    for method in towel.TABLE_4:
        theirs = f"{paper.TABLE_4[method]:.1f}" if method in paper.TABLE_4 else ""
        mine = _of(study, method)
        each = ", ".join(f"{policy['successes']}/{policy['trials']}" for policy in mine)
        rows.append((towel.METHODS[method], theirs, _together(mine), each))
    head = ("", "paper: LIBERO [%]", "ours: all seeds", "ours: each seed")
    return Table("Table 4: rewards and controls", head, tuple(rows))


def _table_3(plan: Plan) -> Table:
    rows = []
    for draw, title in towel.PERTURBATIONS.items():
        name, base, tuned = paper.TABLE_3[draw]
        study = _found(plan, towel.perturbation(draw))
        mine = [_together(_of(study, method)) for method in (towel.SFT, towel.RFT)]
        tests = [] if study is None else study["method_p"] or study["pairs"]
        rows.append((title, *mine, _p(tests[0]["p"]) if tests else NOT_RUN, f"{name}: {base:.1f} / {tuned:.1f}"))
    head = ("start", "SFT N", "RFT", "p", "paper, LIBERO: base / RFT [%]")
    note = (
        "Towel: its middle lies outside of the square of the demonstrations (10 × 10 cm), by up to so much. Hand: so "
        "much higher or lower than home, and so much to the left or right. All seeds together; p by permutation of "
        "placements, of a single seed by McNemar."
    )
    return Table("Table 3 for the towel: starts beyond the demonstrations'", head, tuple(rows), (note,))


def _figure_4(figures: Mapping[str, Any] | None) -> Table:
    head = ("actions [mm per period]", "x, deviation", "x, span of 98 %", "z, deviation", "z, span of 98 %")
    head += ("chunk's end: owed to x_0, x / y / z [mm]", "owed to the observation, x / y / z [mm]")
    if figures is None:
        return Table("Figure 4: spread of the actions", head, ((NOT_RUN, *[""] * (len(head) - 1)),))
    rows = []
    for name, axes in figures["spread"].items():
        cells = (f"{axes[axis][key]:.2f}" for axis in axes for key in ("deviation_mm", "span_mm"))
        errors = figures.get("errors", {}).get(name, {})
        owed = (" / ".join(f"{e[key]:.1f}" for e in errors.values()) for key in ("of_noise_mm", "of_observation_mm"))
        rows.append((name, *cells, *owed))
    note = (
        f"{figures['actions']} actions on held-out demonstrations, noise scale {figures['noise_scale']:g}, first seed. "
        "A chunk's end: the sum of its actions less that of those demonstrated; the deviation over draws of x_0, and "
        "the root mean square of their mean."
    )
    return Table("Figure 4: spread of the actions", head, tuple(rows), (note,))


def _account(plan: Plan) -> Table:
    rows = []
    for name in plan.steps:
        record, state = plan.record(name), plan.state(name)
        last = record.attempts[-1] if record.attempts else {}
        minutes = f"{record.seconds / 60:.1f}" if record.attempts else ""
        rows.append((name, str(state), minutes, str(last.get("git", ""))[:8], str(last.get("output", ""))[:12]))
    head = ("step", "state", "minutes, wall clock", "code", "digest of what it made")
    return Table("Every step", head, tuple(rows), ("Command lines and inputs are in steps/, what was said in logs/.",))


def _pictures(plan: Plan, size: Scale) -> list[Picture]:
    seed = size.seeds[0]
    wanted = {
        towel.ACTIONS: ("actions.png", "Figure 4: translations along x and z, base, fine-tuned and demonstrated."),
        towel.STUDY: (
            towel.STRIPS,
            f"Figure 8: the same placements by {towel.policy(towel.SFT, seed)} and {towel.policy(towel.RFT, seed)}; "
            "first those that only one of the two solved.",
        ),
    }
    return [
        Picture(f"{plan.label(step)}/{name}", caption)
        for step, (name, caption) in wanted.items()
        if plan.state(step) is State.DONE
    ]
