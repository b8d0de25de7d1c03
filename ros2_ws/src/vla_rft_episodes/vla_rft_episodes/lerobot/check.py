"""check-dataset: recompute what a LeRobot v3.0 dataset says of itself and name every difference.

Columns against features, lengths, indices, timestamps, pictures per video, statistics, and for our own datasets the
grid of true times and the hashes in the provenance. Changes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.errors import VlaRftError
from vla_rft_core.manifest import hash_file
from vla_rft_episodes.lerobot import layout, stats, tables, video
from vla_rft_episodes.lerobot.files import read_json
from vla_rft_episodes.lerobot.reader import Dataset, EpisodeEntry

TIME_TOLERANCE_S = 1e-4
"""LeRobot's own."""
STATS_TOLERANCE = 1e-6
"""Relative, of numbers."""
IMAGE_TOLERANCE = 2.0 / 255.0
"""Of pictures: decoders of other computers may round a colour the other way."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `check-dataset`."""
    parser.add_argument("dataset", type=Path, metavar="DIR", help="folder of a LeRobot v3.0 dataset")


def run(args: argparse.Namespace) -> int:
    """Check, say what is wrong, and return 1 if anything is."""
    data = Dataset.open(args.dataset)
    wrong = list(problems(data))
    for problem in wrong:
        print(problem)
    size = f"{len(data.episodes)} episodes, {len(data)} rows, {len(data.tasks)} prompts, {len(data.cameras)} cameras"
    print(f"{args.dataset}: {size}: {f'{len(wrong)} problems' if wrong else 'all right'}")
    return 1 if wrong else 0


def problems(data: Dataset) -> Iterator[str]:
    """One sentence for everything that is not as it should be."""
    yield from _totals(data)
    whole: list[dict[str, NDArray]] = []
    pictures = {camera: np.zeros((3, 256), dtype=np.int64) for camera in data.cameras}
    first = 0
    for entry in data.episodes:
        try:
            columns = data.columns(entry.index)
            yield from _columns(data, entry, columns, first)
            for camera in data.cameras:
                counts, wrong = _video(data, entry, camera)
                yield from wrong
                pictures[camera] += counts
        except VlaRftError as error:
            yield str(error)
        else:
            whole.append(columns)
        first += entry.length
    if not data.episodes:
        yield f"{data.path / layout.INFO}: total_episodes is 0"
    elif len(whole) == len(data.episodes):
        yield from _statistics(data, whole, pictures)
    yield from _provenance(data)


def _totals(data: Dataset) -> Iterator[str]:
    where = data.path / layout.INFO
    info = read_json(where)
    for name, count in (("total_frames", len(data)), ("total_tasks", len(data.tasks))):
        if info.get(name) != count:
            yield f"{where}: {name} is {info.get(name)}, there are {count}"
    for feature in layout.DEFAULT_FEATURES:
        if feature not in data.features and not feature.startswith("next."):
            yield f"{where}: feature {feature!r} is missing"
    if data.spec is not None:
        for name, feature in layout.features_of(data.spec).items():
            if data.features.get(name) != feature:
                yield f"{where}: feature {name!r} is {data.features.get(name)}, the spec says {feature}"
    if (data.path / layout.STAGING).exists():
        yield f"{data.path / layout.STAGING}: left by an interrupted export; run it again"


def _columns(data: Dataset, entry: EpisodeEntry, columns: dict[str, NDArray], first: int) -> Iterator[str]:
    """Types, numbering and times of one episode's rows."""
    rows = np.arange(entry.length)
    for name in tables.column_names(entry.data):
        if name not in data.features:
            yield f"{entry.data}: column {name!r} is not among the features of info.json"
    for name, values in columns.items():
        feature = data.features[name]
        shape = values.shape[1:] or (1,)
        dtype = "string" if values.dtype == object else str(values.dtype)
        if (dtype, shape) != (feature.dtype, feature.shape):
            yield f"{entry.data}: {name!r} is {dtype} {shape}, info.json says {feature.dtype} {feature.shape}"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            yield f"{entry.data}: {name!r} has values that are not finite"
    for name, expected in (("frame_index", rows), ("index", first + rows)):
        if not np.array_equal(columns[name], expected):
            yield f"{entry.data}: {name!r} of episode {entry.index} does not count up from {expected[0]}"
    if entry.from_index != first:
        yield f"{entry.index_file}: dataset_from_index of episode {entry.index} is {entry.from_index}, not {first}"
    if np.abs(columns["timestamp"] - rows / data.fps).max() > TIME_TOLERANCE_S:
        yield f"{entry.data}: timestamps of episode {entry.index} are not frame_index / {data.fps}"
    if set(data.prompts(entry.index)) != set(entry.prompts):
        yield f"{entry.data}: prompts of episode {entry.index} are not those of {entry.index_file}"
    stamps = columns.get("stamp_ns")
    if data.spec is not None and stamps is not None and (np.diff(stamps) != data.spec.control_period_ns).any():
        yield f"{entry.data}: stamp_ns of episode {entry.index} does not go by {data.spec.control_period_ns} ns"


def _video(data: Dataset, entry: EpisodeEntry, camera: str) -> tuple[stats.Histogram, list[str]]:
    """What the pictures of one episode show, and what is wrong with them."""
    height, width, _ = data.features[data.camera_keys[camera]].shape
    if camera not in entry.videos:
        images = data.frames(entry.index, camera, range(entry.length))
        return sum(stats.histogram(image) for image in images), []
    span = entry.videos[camera]
    file = video.VideoFile(span.path)
    try:
        wrong = []
        if file.size != (height, width):
            wrong.append(f"{span.path}: pictures are {file.size[1]}x{file.size[0]}, info.json says {width}x{height}")
        begin = file.number_at(span.from_s)
        times = file.times()[begin : begin + entry.length] - span.from_s
        shown = int(np.sum((file.times() > span.from_s - 0.5 / data.fps) & (file.times() < span.to_s - 0.5 / data.fps)))
        if shown != entry.length:
            wrong.append(f"{span.path}: has {shown} pictures for the {entry.length} rows of episode {entry.index}")
        elif np.abs(times - np.arange(entry.length) / data.fps).max() > TIME_TOLERANCE_S:
            wrong.append(f"{span.path}: pictures of episode {entry.index} are not {data.fps} per second")
    finally:
        file.close()
    return video.file_histogram(span.path, (begin, min(begin + entry.length, len(file)))), wrong


def _statistics(data: Dataset, whole: list[dict[str, NDArray]], pictures: dict[str, stats.Histogram]) -> Iterator[str]:
    """stats.json against what the columns and pictures give; of foreign datasets only what is exact there too."""
    where = data.path / layout.STATS
    expected = {
        name: stats.of_column(np.concatenate([columns[name] for columns in whole]))
        for name, values in whole[0].items()
        if values.dtype.kind in "fiub"
    }
    ours = data.spec is not None
    for camera, counts in pictures.items() if ours else ():
        expected[data.camera_keys[camera]] = stats.of_images(counts, len(data))
    for name, of in expected.items():
        found = data.stats.get(name)
        if found is None:
            if ours or name in (layout.STATE, layout.ACTION):
                yield f"{where}: has no statistics of {name!r}"
            continue
        tolerance = IMAGE_TOLERANCE if data.features[name].is_camera else 0.0
        for key in stats.NAMES if ours else ("min", "max", "mean", "std"):
            value = np.asarray(found.get(key, []), dtype=np.float64)
            scale = np.maximum(np.abs(of[key]), of["max"] - of["min"])
            if value.shape != of[key].shape or (np.abs(value - of[key]) > STATS_TOLERANCE * scale + tolerance).any():
                yield f"{where}: {key} of {name!r} is {value.tolist()}, the data give {of[key].tolist()}"


def _provenance(data: Dataset) -> Iterator[str]:
    """Hashes of our own files, and files that nobody knows."""
    where = data.path / layout.PROVENANCE
    if not where.exists():
        if data.spec is not None:
            yield f"{where}: no such file"
        return
    provenance = read_json(where)
    known = provenance.get("files", {})
    if len(provenance.get("episodes", [])) != len(data.episodes):
        yield f"{where}: speaks of {len(provenance.get('episodes', []))} episodes, there are {len(data.episodes)}"
    present = {
        file.relative_to(data.path).as_posix()
        for folder in ("data", "videos", "meta/episodes")
        for file in (data.path / folder).rglob("*")
        if file.is_file()
    }
    for name in sorted(present - set(known)):
        yield f"{data.path / name}: is not in provenance.json"
    for name in sorted(set(known) - present):
        yield f"{data.path / name}: is in provenance.json but missing"
    for name in sorted(set(known) & present):
        if hash_file(data.path / name).sha256 != known[name]["sha256"]:
            yield f"{data.path / name}: was altered since it was exported"
