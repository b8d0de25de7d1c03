"""What the commands of `python -m vla_rft_episodes` do: each takes the parsed arguments and returns the exit code."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_episodes import layout
from vla_rft_episodes.collection import Collection, EpisodeRef
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.fsck import fsck
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import repair_attempt
from vla_rft_episodes.tables import print_table
from vla_rft_episodes.verdict import VerdictLimits, judge

Arguments = argparse.Namespace


def list_episodes(arguments: Arguments) -> int:
    """One line per attempt, then how far the collection has come. 1 when an episode cannot be read."""
    collection = _collection(arguments.collection)
    refs = collection.episodes()
    columns = ("id", "seconds", "outcome", "label", "verdict", "reasons")
    print_table(columns, [_row(ref) for ref in refs], right=("seconds",))
    for attempt in collection.open_attempts():
        print(f"{attempt.path.name}: {'being recorded' if attempt.recording else 'never finished; see repair'}")
    for sentence in collection.unreadable:
        print(f"ls: {sentence}", file=sys.stderr)
    progress = collection.progress(arguments.goal)
    pace = f", {progress.per_hour:.0f} per hour" if progress.per_hour else ""
    room = f", disk for {progress.disk_minutes:.0f} minutes" if progress.disk_minutes is not None else ""
    print(
        f"kept {progress.kept}/{progress.goal} ({progress.successes} successes), {progress.discarded} in the trash, "
        f"{progress.unlabelled} undecided{pace}{room}"
    )
    return 1 if collection.unreadable else 0


def _row(ref: EpisodeRef) -> tuple[str, ...]:
    verdict = ref.info.verdict
    return (
        ref.id,
        f"{ref.info.duration_s:.1f}",
        ref.outcome.value,
        "keep" if ref.kept else "discard" if ref.discarded else "-",
        verdict.quality if verdict is not None else "-",
        "; ".join(verdict.reasons) if verdict is not None else "",
    )


def show_info(arguments: Arguments) -> int:
    """Everything in the manifest, the spec apart; with --limits the verdict by those."""
    limits = VerdictLimits.load(arguments.limits) if arguments.limits else None
    episode = Episode.open(arguments.episode)
    plain = episode.info.to_plain()
    if limits is not None:
        verdict = judge(episode, limits=limits)
        plain["verdict"] = {"quality": verdict.quality, "reasons": verdict.reasons, "figures": dict(verdict.figures)}
    if arguments.json:
        print(json.dumps(plain))
        return 0
    del plain["spec"]
    nested = {name: plain.pop(name) for name in ("software", "messages", "dropped", "extra", "expected_hz", "verdict")}
    plain["duration_s"] = (plain["ended_ns"] - plain["started_ns"]) / NS_PER_S
    rows = [(name, str(value)) for name, value in plain.items()]
    verdict_plain = nested.pop("verdict") or {}
    rows += [(f"{name} {key}", str(value)) for name, mapping in nested.items() for key, value in mapping.items()]
    rows.append(("verdict", verdict_plain.get("quality", "-")))
    rows += [("reason", reason) for reason in verdict_plain.get("reasons", ())]
    rows += [(name, f"{value:.6g}") for name, value in verdict_plain.get("figures", {}).items()]
    print_table(("field", "value"), rows)
    return 0


def check(arguments: Arguments) -> int:
    """fsck: 1 when anything is wrong."""
    report = fsck(arguments.collection)
    if arguments.json:
        print(json.dumps(report.to_plain()))
        return 0 if report.clean else 1
    if report.findings:
        print_table(("what", "where", "why"), [(f.kind.value, f.path, f.sentence) for f in report.findings])
    wrong = sum(finding.wrong for finding in report.findings)
    print(f"{len(report.intact)} episodes intact, {wrong} things wrong")
    return 0 if report.clean else 1


def repair(arguments: Arguments) -> int:
    """Repair attempts one by one; 1 when one of them could not be."""
    failed = False
    for path in arguments.paths:
        is_attempt = path.name.startswith(layout.OPEN_PREFIX)
        folders = [path] if is_attempt else [attempt.path for attempt in _collection(path).open_attempts()]
        if not folders:
            print(f"{path}: nothing to repair")
        for folder in folders:
            try:
                print(repair_attempt(folder).describe())
            except EpisodeError as error:
                print(f"repair: {error}", file=sys.stderr)
                failed = True
    return 1 if failed else 0


def trash(arguments: Arguments) -> int:
    """Append a discarding line for each."""
    folders = _episode_folders(arguments)
    for folder in folders:
        labels = Labels(folder.parent)
        before = labels.state().get(folder.name)
        if before is not None and before.label == Label.DISCARD:
            raise EpisodeError(f"{folder.name} is in the trash already")
        outcome = before.outcome if before is not None else Outcome.UNKNOWN
        labels.append(folder.name, Label.DISCARD, outcome, arguments.by)
        print(f"{folder.name}: in the trash; restore takes it out again")
    return 0


def restore(arguments: Arguments) -> int:
    """Take back the decisions that discarded them; what held before holds again."""
    folders = _episode_folders(arguments)
    for folder in folders:
        labels = Labels(folder.parent)
        entry = labels.state().get(folder.name)
        if entry is None or entry.label != Label.DISCARD:
            raise EpisodeError(f"{folder.name} is not in the trash")
        while entry is not None and entry.label == Label.DISCARD:
            entry = labels.undo(arguments.by, episode_id=folder.name)
        kept = entry is not None and entry.label == Label.KEEP
        print(f"{folder.name}: {'kept again' if kept else 'out of the trash, undecided'}")
    return 0


def play(arguments: Arguments) -> int:
    """A window where there is a display, otherwise an MP4 file in this folder."""
    from vla_rft_episodes import play as player  # loads the codecs

    episode = Episode.open(arguments.episode)
    camera = episode.spec.camera(arguments.camera).name if arguments.camera else episode.spec.cameras[0].name
    if arguments.out is None and player.has_display():
        player.show(episode.frames(camera), title=f"{episode.info.id} {camera}")
        return 0
    path = arguments.out or Path(f"{episode.info.id}-{camera}.mp4")
    count = player.write_mp4(episode.frames(camera), path)
    print(f"{path}: {count} frames")
    return 0


def draw_coverage(arguments: Arguments) -> int:
    """Write the map of towel starts."""
    from vla_rft_episodes import coverage  # matplotlib is slow to import

    collection = _collection(arguments.collection)
    refs = collection.episodes()
    if arguments.region:
        x0, y0, x1, y1 = arguments.region
        region = coverage.Region((x0, y0), (x1, y1), arguments.cell)
    elif refs:
        region = coverage.workspace(refs[-1], cell=arguments.cell)
    else:
        raise EpisodeError(f"{arguments.collection}: holds no finished episode to draw")
    starts = coverage.starts(collection)
    title = f"Towel starts in {arguments.collection.resolve().name}"
    arguments.out.write_bytes(coverage.draw(starts, region, title=title))
    if arguments.json is not None:
        seconds = [ref.info.duration_s for ref in refs if ref.kept and ref.outcome is Outcome.SUCCESS]
        arguments.json.write_text(json.dumps(coverage.as_data(starts, region, seconds)) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(starts)} starts")
    return 0


def run_benchmark(arguments: Arguments) -> int:
    """Print what was measured."""
    from vla_rft_episodes import benchmark

    print(json.dumps(benchmark.run(find_cell(arguments.cell), duration_s=arguments.seconds)))
    return 0


def _collection(path: Path) -> Collection:
    if not path.is_dir():
        raise EpisodeError(f"{path}: no such collection")
    return Collection(path)


def _episode_folders(arguments: Arguments) -> list[Path]:
    """The folders of all that were named, each found before anything is decided."""
    folders = [(arguments.collection / text).resolve() for text in arguments.episodes]
    for folder, text in zip(folders, arguments.episodes, strict=True):
        Episode.open(folder) if folder.is_dir() else _no_episode(arguments.collection, text)
    return folders


def _no_episode(collection: Path, text: str) -> None:
    raise EpisodeError(f"{collection}: no episode {text!r}")
