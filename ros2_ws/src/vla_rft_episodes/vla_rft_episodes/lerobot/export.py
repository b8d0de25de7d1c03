"""export: finished attempts of one or more collections into a LeRobot v3.0 dataset, one episode each.

By default kept successes; adding to a dataset touches none of its old files. Refuses rather than guesses: two robots,
an id twice, another rate than the spec's, an altered file, a decision changed since it was exported.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vla_rft_core import manifest
from vla_rft_core.spec import RobotSpec
from vla_rft_episodes.collection import Collection, EpisodeRef
from vla_rft_episodes.labels import Outcome
from vla_rft_episodes.layout import KIND, MCAP_NAME
from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.rows import Row, columns, rows
from vla_rft_episodes.lerobot.video import VideoEncoder
from vla_rft_episodes.lerobot.writer import DatasetWriter, EpisodeRows
from vla_rft_episodes.reader import Episode

FORMAT = "lerobot-v3"


@dataclass(frozen=True)
class Exported:
    """What an export did."""

    added: tuple[str, ...]
    """Ids of the episodes that are new in the dataset."""
    episodes: int
    """In the dataset now."""
    rows: int
    """In the dataset now."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `export`."""
    parser.add_argument("episodes", type=Path, nargs="+", metavar="EPISODES", help="collection of episodes")
    parser.add_argument("--format", choices=[FORMAT], default=FORMAT)
    parser.add_argument("--fps", type=float, help="rows per second; the spec's control rate, and refused if it differs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset to make or to add to")
    parser.add_argument("--all", action="store_true", help="every finished attempt, not only kept successes")


def run(args: argparse.Namespace) -> int:
    """Export and say what was done."""
    done = export(args.episodes, args.out, fps=args.fps, everything=args.all)
    print(f"{args.out}: {len(done.added)} episodes added, {done.episodes} episodes and {done.rows} rows in all")
    return 0


def export(collections: Sequence[Path], out: Path, *, fps: float | None = None, everything: bool = False) -> Exported:
    """Add to the dataset at `out` what the collections hold and it does not; an error leaves it as it was."""
    found = _finished(collections)
    chosen = [ref for ref in found if everything or (ref.kept and ref.outcome == Outcome.SUCCESS)]
    if not chosen:
        where = ", ".join(map(str, collections))
        raise LerobotError(
            f"{where}: none of {len(found)} finished attempts is a kept success; --all takes the rest too"
        )
    spec = _common_spec(chosen)
    with DatasetWriter(out, spec=spec, fps=_rate(fps, spec)) as writer:
        _require_unchanged(writer, found, chosen)
        new = [ref for ref in chosen if ref.id not in writer.ids]
        workers = ThreadPoolExecutor(max_workers=max(1, len(os.sched_getaffinity(0))))
        try:
            # Decoding and encoding release the interpreter's lock, so that threads are enough.
            for episode in workers.map(lambda ref: _prepare(ref, writer), new):
                writer.add(episode)
        finally:
            workers.shutdown(cancel_futures=True)
        writer.commit({"name": "vla-rft", "version": version("vla-rft")})
        return Exported(tuple(ref.id for ref in new), len(writer.origins), writer.frames)


def _finished(collections: Sequence[Path]) -> list[EpisodeRef]:
    """All finished attempts, oldest first."""
    found: dict[str, EpisodeRef] = {}
    for path in collections:
        if not path.is_dir():
            raise LerobotError(f"{path}: no such collection")
        collection = Collection(path)
        for ref in collection.episodes():
            if ref.id in found:
                raise LerobotError(f"episode {ref.id} is in {found[ref.id].path.parent} and in {path}")
            found[ref.id] = ref
        if collection.unreadable:
            raise LerobotError(collection.unreadable[0])
    return [found[id] for id in sorted(found)]


def _common_spec(refs: Sequence[EpisodeRef]) -> RobotSpec:
    """The robot of all of them; SpecMismatchError names the first field in which two differ."""
    spec = refs[0].info.robot_spec
    for ref in refs[1:]:
        spec.require_same(ref.info.robot_spec, ours=f"episode {refs[0].id}", theirs=f"episode {ref.id}")
    return spec


def _rate(fps: float | None, spec: RobotSpec) -> int:
    """Rows per second: the spec's control rate, whatever was asked for."""
    rate = 1.0 / spec.control_period_s
    if fps is not None and not fps > 0.0:
        raise ValueError(f"--fps must be positive, got {fps:g}")
    if fps is not None and abs(fps - rate) > 1e-6 * rate:
        raise ValueError(
            f"--fps {fps:g}: spec {spec.name!r} has control_period_s {spec.control_period_s:g}, so {rate:g} rows per "
            "second; at another rate an action would mean another motion"
        )
    if abs(rate - round(rate)) > 1e-6 * rate:
        raise ValueError(
            f"spec {spec.name!r}: control_period_s {spec.control_period_s:g} gives {rate:g} rows per second, "
            "and LeRobot's fps is a whole number"
        )
    return round(rate)


def _require_unchanged(writer: DatasetWriter, found: Sequence[EpisodeRef], chosen: Sequence[EpisodeRef]) -> None:
    """What was exported before must still be what it was then; a dataset never forgets an episode."""
    refs, wanted = {ref.id: ref for ref in found}, {ref.id for ref in chosen}
    for origin in writer.origins:
        ref = refs.get(origin["id"])
        if ref is None:
            continue  # from another collection
        name = f"{writer.path}: episode {ref.id}"
        if manifest.read_manifest(ref.path, kind=KIND).digest() != origin["manifest"]:
            raise LerobotError(f"{name} was exported from a file with other content than {ref.path}")
        if ref.id not in wanted:
            raise LerobotError(f"{name} is no kept success any more; export into a new folder")
        if ref.outcome != origin["outcome"]:
            raise LerobotError(
                f"{name} was exported as {origin['outcome']}, it is {ref.outcome}; export into a new folder"
            )


def _prepare(ref: EpisodeRef, writer: DatasetWriter) -> EpisodeRows:
    """Rows, encoded videos and provenance of one episode."""
    hashed = manifest.verify(ref.path, kind=KIND)
    kept: list[Row] = []
    with ExitStack() as stack:
        encoders = {
            camera.name: stack.enter_context(
                VideoEncoder(writer.staging / f"{ref.id}.{camera.name}.mp4", fps=writer.fps)
            )
            for camera in writer.spec.cameras
        }
        for row in rows(Episode.open(ref.path)):
            for camera, encoder in encoders.items():
                encoder.write(row.observation.images[camera])
            kept.append(row.without_images())
        videos = {camera: encoder.close() for camera, encoder in encoders.items()}
    return EpisodeRows(
        id=ref.id,
        prompt=ref.info.prompt,
        success=ref.outcome == Outcome.SUCCESS,
        columns=columns(kept, writer.spec),
        videos=videos,
        origin=_origin(ref, hashed),
    )


def _origin(ref: EpisodeRef, hashed: manifest.Manifest) -> dict[str, Any]:
    """Where an episode comes from, for provenance.json."""
    names = ("task", "prompt", "operator", "source", "policy_id", "simulated", "seed", "calibration_id")
    names += ("safety_profile", "started_ns", "ended_ns", "termination_reason")
    return {
        "manifest": hashed.digest(),
        "mcap_sha256": hashed.files[MCAP_NAME].sha256,
        "label": str(ref.label.label) if ref.label else "",
        "outcome": str(ref.outcome),
        **{name: getattr(ref.info, name) for name in names},
        "software": dict(ref.info.software),
    }
