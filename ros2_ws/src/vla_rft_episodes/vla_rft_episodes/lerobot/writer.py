"""DatasetWriter: episodes in, a LeRobot v3.0 dataset out; one data file, one video per camera and one index file each.

Everything is prepared in a folder of its own and put in place by `commit`, the files that say what there is last: until
then, and if the process dies at any moment, the dataset is the one from before. Files of earlier episodes are not
touched. Does not know where rows come from.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vla_rft_core import config
from vla_rft_core.files import sync, write_atomic
from vla_rft_core.manifest import hash_file
from vla_rft_core.spec import RobotSpec
from vla_rft_episodes.lerobot import layout, stats, tables
from vla_rft_episodes.lerobot.files import dump_json, locked, read_json
from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.lerobot.video import EncodedVideo


@dataclass(frozen=True, kw_only=True)
class EpisodeRows:
    """One episode as it goes into a dataset."""

    id: str
    prompt: str
    success: bool
    columns: Mapping[str, NDArray]
    """(n,) or (n, d) for every feature of `layout.features_of(spec)` that is in the table."""
    videos: Mapping[str, EncodedVideo]
    """Per camera; the files are moved."""
    origin: Mapping[str, Any]
    """Plain data for provenance.json."""


class DatasetWriter:
    """Use as a context: leaving it without `commit` leaves the dataset as it was.

    Example: `with DatasetWriter(path, spec=spec, fps=10) as writer: writer.add(rows); writer.commit()`
    """

    def __init__(self, path: Path, *, spec: RobotSpec, fps: int) -> None:
        """Open a dataset to add to, or begin one where there is none.

        LerobotError when the folder holds something else, SpecMismatchError when it is of another robot.
        """
        if fps < 1:
            raise ValueError(f"fps must be a whole number of at least 1, got {fps}")
        self.path, self.spec, self.fps = path, spec, fps
        self.features = layout.features_of(spec) | layout.DEFAULT_FEATURES
        self.staging = path / layout.STAGING
        self._new = not path.exists()
        self._putting_in_place = False
        path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(locked(path))
            stack.callback(self._tidy)
            self._begin()
            self._resources = stack.pop_all()

    def _begin(self) -> None:
        """Take stock of what is there and clear away what an interrupted export left."""
        self._old: Dataset | None = None
        self._added: list[tuple[dict[str, Any], dict[str, NDArray], dict[str, stats.Histogram]]] = []
        self.origins: list[dict[str, Any]] = []
        """What provenance.json says of each episode, in order."""
        self.prompts: list[str] = []
        self.hashes: dict[str, dict[str, Any]] = {}
        if (self.path / layout.INFO).exists():
            self._old = self._require_ours()
            provenance = read_json(self.path / layout.PROVENANCE)
            self.origins = provenance["episodes"][: len(self._old.episodes)]
            self.prompts = list(self._old.tasks)[: read_json(self.path / layout.INFO)["total_tasks"]]
            known = self._known_files()
            self.hashes = {name: entry for name, entry in provenance["files"].items() if name in known}
        elif not self.staging.exists() and (others := sorted(p.name for p in self.path.iterdir())):
            raise LerobotError(f"{self.path}: is neither empty nor a dataset (it holds {', '.join(others[:3])})")
        self.frames = sum(origin["rows"] for origin in self.origins)
        if self.staging.exists():
            self._clear_leftovers()
        self.staging.mkdir()

    def _require_ours(self) -> Dataset:
        old = Dataset.open(self.path)
        if old.spec is None or not (self.path / layout.PROVENANCE).exists():
            raise LerobotError(f"{self.path}: a dataset that was not exported from episodes; nothing is added to it")
        old.spec.require_same(self.spec, ours=str(self.path / layout.SPEC), theirs="the episodes")
        if old.fps != self.fps:
            raise LerobotError(f"{self.path}: has {old.fps} rows per second, these episodes {self.fps}")
        if old.features != self.features:
            differing = sorted(set(old.features.items()) ^ set(self.features.items()), key=str)
            raise LerobotError(f"{self.path}: has other columns than this exporter writes, first {differing[0][0]!r}")
        return old

    def _clear_leftovers(self) -> None:
        """Remove what an interrupted export had put in place already: files no index speaks of."""
        known = self._known_files()
        for folder in ("data", "videos", "meta/episodes"):
            for file in sorted((self.path / folder).rglob("file-*")):
                if file.relative_to(self.path).as_posix() not in known:
                    file.unlink()
        shutil.rmtree(self.staging)

    def _known_files(self) -> set[str]:
        return {name for origin in self.origins for name in episode_files(self.features, origin["index"])}

    def add(self, episode: EpisodeRows) -> int:
        """Prepare one more episode; its number. LerobotError when its id is there already or it does not fit."""
        if episode.id in self.ids:
            raise LerobotError(f"{self.path}: episode {episode.id} is there already")
        length = self._check(episode)
        number, first = len(self.origins), self.frames
        if episode.prompt not in self.prompts:
            self.prompts.append(episode.prompt)
        task = self.prompts.index(episode.prompt)
        last_row = np.arange(length) == length - 1
        columns = dict(episode.columns) | {
            "timestamp": (np.arange(length) / self.fps).astype(np.float32),
            "frame_index": np.arange(length, dtype=np.int64),
            "episode_index": np.full(length, number, dtype=np.int64),
            "index": np.arange(first, first + length, dtype=np.int64),
            "task_index": np.full(length, task, dtype=np.int64),
            "next.done": last_row,
            layout.SUCCESS: last_row & episode.success,
        }
        self.origins.append({"index": number, "id": episode.id, "rows": length, **episode.origin})
        self.frames += length
        self._write_files(episode, columns, number=number, first=first)
        histograms = {camera: video.histogram for camera, video in episode.videos.items()}
        self._added.append((self.origins[-1], columns, histograms))
        return number

    @property
    def ids(self) -> set[str]:
        """Ids of the episodes in the dataset and of those added."""
        return {origin["id"] for origin in self.origins}

    def _check(self, episode: EpisodeRows) -> int:
        """Its number of rows, when every column and video has as many and the right shape."""
        lengths = {name: len(values) for name, values in episode.columns.items()}
        lengths |= {f"video {camera}": video.frames for camera, video in episode.videos.items()}
        for name, feature in layout.features_of(self.spec).items():
            if feature.in_table and name not in episode.columns:
                raise LerobotError(f"episode {episode.id}: column {name!r} is missing")
            camera = layout.camera_name(name)
            if not feature.in_table and camera not in episode.videos:
                raise LerobotError(f"episode {episode.id}: the video of camera {camera!r} is missing")
            found = np.shape(episode.columns[name])[1:] or (1,) if feature.in_table else episode.videos[camera].shape
            if found != feature.shape:
                raise LerobotError(f"episode {episode.id}: {name!r} has shape {found}, expected {feature.shape}")
        if len(set(lengths.values())) != 1:
            raise LerobotError(f"episode {episode.id}: columns and videos of different lengths {lengths}")
        length = lengths[layout.ACTION]
        if not length:
            raise LerobotError(f"episode {episode.id}: has no row")
        for name in (layout.STATE, layout.ACTION):
            if not np.isfinite(episode.columns[name]).all():
                raise LerobotError(f"episode {episode.id}: {name!r} has values that are not finite")
        return length

    def _write_files(self, episode: EpisodeRows, columns: Mapping[str, NDArray], *, number: int, first: int) -> None:
        length = len(columns[layout.ACTION])
        position = layout.file_position(number)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [episode.prompt],
            "length": length,
            "data/chunk_index": position["chunk_index"],
            "data/file_index": position["file_index"],
            "dataset_from_index": first,
            "dataset_to_index": first + length,
        }
        statistics = stats.of_columns(columns)
        for camera, video in episode.videos.items():
            key = layout.IMAGES + camera
            row |= {f"videos/{key}/{name}": value for name, value in position.items()}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": length / self.fps}
            statistics[key] = stats.of_images(video.histogram, video.frames)
            statistics[key]["histogram"] = video.histogram
            target = self.staging / layout.VIDEO_PATH.format(video_key=key, **position)
            target.parent.mkdir(parents=True, exist_ok=True)
            video.path.replace(target)
        row |= {f"meta/episodes/{name}": value for name, value in position.items()}
        row |= {"episode_id": episode.id, "success": episode.success}
        for template, table in (
            (layout.DATA_PATH, tables.data_table(columns, self.features)),
            (layout.EPISODES_PATH, tables.episode_table(row, statistics)),
        ):
            path = self.staging / template.format(**position)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tables.to_bytes(table))
        for name in episode_files(self.features, number):
            sync(self.staging / name)
            entry = hash_file(self.staging / name)
            self.hashes[name] = {"sha256": entry.sha256, "size": entry.size}

    def commit(self, exporter: Mapping[str, Any]) -> None:
        """Put what was added in place. LerobotError when nothing ever was."""
        if not self.origins:
            raise LerobotError(f"{self.path}: no episode to write")
        if self._added:
            statistics = dump_json(self._statistics())
            self._putting_in_place = True
            for origin, _, _ in self._added:
                for name in episode_files(self.features, origin["index"]):
                    target = self.path / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (self.staging / name).rename(target)
            for folder in {parent for name in self._known_files() for parent in Path(name).parents}:
                sync(self.path / folder)
            self._write_meta(statistics, exporter)
            self._putting_in_place = False
        self._resources.close()

    def _write_meta(self, statistics: bytes, exporter: Mapping[str, Any]) -> None:
        """The files about the whole; info.json, which says how many episodes count, last."""
        totals = {"episodes": len(self.origins), "frames": self.frames, "tasks": len(self.prompts)}
        info = layout.info(self.features, robot_type=self.spec.name, fps=self.fps, totals=totals)
        spec = yaml.safe_dump(config.to_mapping(self.spec), sort_keys=False)
        provenance = {
            "exporter": dict(exporter),
            "spec_sha256": hashlib.sha256(spec.encode()).hexdigest(),
            "episodes": self.origins,
            "files": dict(sorted(self.hashes.items())),
        }
        write_atomic(self.path / layout.SPEC, spec.encode())
        write_atomic(self.path / layout.TASKS, tables.to_bytes(tables.tasks_table(self.prompts)))
        write_atomic(self.path / layout.STATS, statistics)
        write_atomic(self.path / layout.PROVENANCE, dump_json(provenance))
        write_atomic(self.path / layout.INFO, dump_json(info))

    def _statistics(self) -> dict[str, Any]:
        """Over everything, exactly: the numbers of old episodes are read again, their pictures' histograms added."""
        old = range(len(self._old.episodes)) if self._old else range(0)
        tables_ = [self._old.columns(i) for i in old] + [columns for _, columns, _ in self._added]
        names = [name for name, values in tables_[0].items() if values.dtype.kind in "fiub"]
        whole = {name: stats.of_column(np.concatenate([columns[name] for columns in tables_])) for name in names}
        for camera in (layout.camera_name(n) for n, feature in self.features.items() if feature.is_camera):
            counts = sum(histograms[camera] for _, _, histograms in self._added)
            counts = counts + sum(self._old.histogram(i, camera) for i in old)
            whole[layout.IMAGES + camera] = stats.of_images(counts, self.frames)
        return {name: {key: value.tolist() for key, value in of.items()} for name, of in sorted(whole.items())}

    def _tidy(self) -> None:
        """Remove the preparations; when putting them in place failed they stay, as a sign for the next export."""
        if not self._putting_in_place:
            shutil.rmtree(self.staging, ignore_errors=True)
        if self._new and not any(self.path.iterdir()):
            self.path.rmdir()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


def episode_files(features: Mapping[str, layout.Feature], number: int) -> list[str]:
    """Paths of one episode's own files, relative to the dataset: its videos, its rows, its line of the index."""
    position = layout.file_position(number)
    videos = [n for n, feature in features.items() if feature.dtype == "video"]
    return [
        *(layout.VIDEO_PATH.format(video_key=key, **position) for key in videos),
        layout.DATA_PATH.format(**position),
        layout.EPISODES_PATH.format(**position),
    ]
