"""Dataset: random access to any LeRobot v3.0 dataset, ours or foreign, without torch. What training builds on.

Several episodes may share a data or video file, pictures may be videos or encoded in the table. Files are opened when
they are needed and a bounded number stays open. Trusts what it reads as far as it must; `check` does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_rft_core.config import did_you_mean
from vla_rft_core.spec import RobotSpec
from vla_rft_episodes.lerobot import layout, tables
from vla_rft_episodes.lerobot.files import read_json
from vla_rft_episodes.lerobot.layout import Feature, LerobotError
from vla_rft_episodes.lerobot.stats import Histogram
from vla_rft_episodes.lerobot.video import Image, OpenVideos

TABLES_KEPT = 16
"""Data files whose numbers stay in memory; of those with pictures in the table a quarter as many."""


@dataclass(frozen=True)
class VideoSpan:
    """Where one camera's pictures of an episode are: a file, and the time in it [s] of the episode's first one."""

    path: Path
    from_s: float
    to_s: float


@dataclass(frozen=True)
class EpisodeEntry:
    """One episode of a dataset."""

    index: int
    length: int
    """Rows."""
    prompts: tuple[str, ...]
    data: Path
    index_file: Path
    """Its line of meta/episodes."""
    from_index: int
    """Number of its first row in the whole dataset."""
    videos: Mapping[str, VideoSpan]
    """Per camera that is a video."""


class Dataset:
    """An opened dataset. Use it from one thread; a copy in another process (fork or pickle) opens its own files.

    Example: `data = Dataset.open(path); data.columns(3)["action"]; data.frames(3, "front", [0, 10])`
    """

    def __init__(self, path: Path, *, info: Mapping[str, Any], tasks: Sequence[str], spec: RobotSpec | None) -> None:
        """Use `open`."""
        self.path = path
        self.fps: int = info["fps"]
        """Rows per second."""
        self.features: dict[str, Feature] = {name: Feature.from_info(e) for name, e in info["features"].items()}
        self.tasks = tuple(tasks)
        """Prompts by task_index."""
        self.spec = spec
        """The robot's; None for datasets from elsewhere."""
        self.robot_type = str(info.get("robot_type"))
        self.camera_keys = {layout.camera_name(n): n for n, feature in self.features.items() if feature.is_camera}
        """Camera name -> column."""
        self._data_path, self._video_path = str(info["data_path"]), str(info.get("video_path"))
        self.episodes: tuple[EpisodeEntry, ...] = self._read_index(int(info["total_episodes"]))
        self._tables = _Recent(TABLES_KEPT)
        self._pictures = _Recent(TABLES_KEPT // 4)
        self._videos = OpenVideos()

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Read what the dataset says of itself; LerobotError names the file and the field that is wrong."""
        where = path / layout.INFO
        if not path.is_dir():
            raise LerobotError(f"{path}: no such folder")
        info = read_json(where)
        version = info.get("codebase_version")
        if version != layout.CODEBASE_VERSION:
            raise LerobotError(
                f"{where}: codebase_version is {version!r}, this software reads {layout.CODEBASE_VERSION!r}"
            )
        tasks = tables.read_tasks(path / layout.TASKS)
        spec = RobotSpec.load(path / layout.SPEC) if (path / layout.SPEC).exists() else None
        try:
            if not (isinstance(info["fps"], int) and info["fps"] >= 1):
                raise LerobotError(f"{where}: fps must be a whole number of at least 1, found {info['fps']!r}")
            return cls(path, info=info, tasks=tasks, spec=spec)
        except (KeyError, TypeError, AttributeError) as error:
            raise LerobotError(f"{where}: malformed ({type(error).__name__}: {error})") from None

    def __len__(self) -> int:
        """Rows of all episodes."""
        return sum(episode.length for episode in self.episodes)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self.camera_keys)

    @property
    def stats(self) -> dict[str, dict[str, Any]]:
        """stats.json: column -> name -> nested list."""
        return read_json(self.path / layout.STATS)

    # --- rows -------------------------------------------------------------------------------------------------

    def episode(self, index: int) -> EpisodeEntry:
        """One episode; LerobotError for a number that is not there."""
        if not 0 <= index < len(self.episodes):
            raise LerobotError(f"{self.path}: no episode {index}, there are {len(self.episodes)}")
        return self.episodes[index]

    def columns(self, episode: int) -> dict[str, NDArray]:
        """One episode without its pictures: (n,) or (n, d) per column; the arrays are shared and read-only."""
        entry = self.episode(episode)
        wanted = [name for name, feature in self.features.items() if not feature.is_camera]
        rows = self._tables.get(entry.data, lambda: self._read(entry.data, wanted))
        chosen = np.flatnonzero(rows["episode_index"] == entry.index)
        first = int(chosen[0]) if len(chosen) else 0
        if not entry.length or not np.array_equal(chosen, first + np.arange(entry.length)):
            found = f"{len(chosen)} rows of episode {entry.index}"
            raise LerobotError(f"{entry.data}: has {found}, the index says {entry.length} in one piece")
        return {name: values[first : first + entry.length] for name, values in rows.items()}

    def prompts(self, episode: int) -> list[str]:
        """The prompt of every row."""
        numbers = self.columns(episode)["task_index"]
        if numbers.min() < 0 or numbers.max() >= len(self.tasks):
            raise LerobotError(f"{self.episode(episode).data}: task_index beyond the {len(self.tasks)} known prompts")
        return [self.tasks[number] for number in numbers]

    def _read(self, path: Path, names: list[str]) -> dict[str, NDArray]:
        rows = tables.to_numpy(tables.read_table(path, names), where=path)
        for values in rows.values():
            values.flags.writeable = False
        return rows

    # --- pictures ---------------------------------------------------------------------------------------------

    def frames(self, episode: int, camera: str, indices: Sequence[int]) -> Image:
        """Pictures of one camera at these rows of an episode, uint8 RGB [n, H, W, 3]."""
        entry = self.episode(episode)
        if camera not in self.camera_keys:
            raise LerobotError(f"{self.path}: no camera {camera!r}{did_you_mean(camera, list(self.cameras))}")
        for index in indices:
            if not 0 <= index < entry.length:
                raise LerobotError(f"{self.path}: no row {index} in episode {episode}, it has {entry.length}")
        if camera not in entry.videos:
            return self._images_in_table(entry, self.camera_keys[camera], indices)
        span = entry.videos[camera]
        return self._videos.frames(span.path, [span.from_s + index / self.fps for index in indices])

    def _images_in_table(self, entry: EpisodeEntry, key: str, indices: Sequence[int]) -> Image:
        names = ["episode_index", key]
        rows = self._pictures.get((entry.data, key), lambda: self._read(entry.data, names))
        encoded = rows[key][rows["episode_index"] == entry.index]
        images = []
        for index in indices:
            data = encoded[index]["bytes"] if index < len(encoded) else None
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
            if picture is None:
                raise LerobotError(f"{entry.data}: {key} has no picture in row {index} of episode {entry.index}")
            images.append(picture)
        return np.stack(images)

    def close(self) -> None:
        """Close the video files."""
        self._videos.close()

    # --- the index --------------------------------------------------------------------------------------------

    def histogram(self, episode: int, camera: str) -> Histogram:
        """Pixel counts (3, 256) of one of our own episodes, as written beside its statistics."""
        entry = self.episode(episode)
        column = f"stats/{self.camera_keys[camera]}/histogram"
        table = tables.read_table(entry.index_file, ["episode_index", column])
        row = table["episode_index"].to_pylist().index(entry.index)
        return np.array(table[column][row].as_py(), dtype=np.int64)

    def _read_index(self, total: int) -> tuple[EpisodeEntry, ...]:
        entries: dict[int, EpisodeEntry] = {}
        for file in sorted((self.path / "meta/episodes").glob("chunk-*/file-*.parquet")):
            if len(entries) >= total:
                break
            for entry in self._read_index_file(file):
                if entry.index < total:
                    entries[entry.index] = entry
        if sorted(entries) != list(range(total)):
            missing = sorted(set(range(total)) - set(entries))
            raise LerobotError(f"{self.path / 'meta/episodes'}: says nothing of episode {missing[0]} of {total}")
        return tuple(entries[i] for i in range(total))

    def _read_index_file(self, file: Path) -> list[EpisodeEntry]:
        videos = [name for name, feature in self.features.items() if feature.dtype == "video"]
        names = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
        places = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        names += [f"videos/{key}/{place}" for key in videos for place in places]
        entries = []
        for row in tables.read_table(file, names).to_pylist():
            position = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
            spans = {
                layout.camera_name(key): self._span(key, *(row[f"videos/{key}/{place}"] for place in places))
                for key in videos
            }
            entries.append(
                EpisodeEntry(
                    index=row["episode_index"],
                    length=row["length"],
                    prompts=tuple(row["tasks"]),
                    data=self.path / self._data_path.format(**position),
                    index_file=file,
                    from_index=row["dataset_from_index"],
                    videos=spans,
                )
            )
        return entries

    def _span(self, key: str, chunk: int, number: int, from_s: float, to_s: float) -> VideoSpan:
        relative = self._video_path.format(video_key=key, chunk_index=chunk, file_index=number)
        return VideoSpan(self.path / relative, from_s, to_s)


class _Recent:
    """The values used last, by key; empty in a copy sent to another process."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value, made when it is not at hand."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)
        return self._values[key]

    def __reduce__(self) -> tuple[type[_Recent], tuple[int]]:
        return _Recent, (self._capacity,)
