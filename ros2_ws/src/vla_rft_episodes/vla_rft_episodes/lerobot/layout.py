"""Where things are in a LeRobot v3.0 dataset and what its columns are called. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vla_rft_core.errors import VlaRftError
from vla_rft_core.spec import RobotSpec

CODEBASE_VERSION = "v3.0"
CHUNK_SIZE = 1000
"""Files per folder."""
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

INFO = PurePosixPath("meta/info.json")
STATS = PurePosixPath("meta/stats.json")
TASKS = PurePosixPath("meta/tasks.parquet")
SPEC = PurePosixPath("meta/spec.yaml")
PROVENANCE = PurePosixPath("meta/provenance.json")
STAGING = ".export"
"""Folder inside a dataset where an export prepares files; one that is still there was interrupted."""

STATE = "observation.state"
COMMANDED = "observation.commanded"
ACTION = "action"
SUCCESS = "next.success"
IMAGES = "observation.images."

SET_POINT_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "width")
"""A set-point as a row: position [m] and orientation xyzw of the tcp in base, gripper width [m]."""


class LerobotError(VlaRftError):
    """A dataset that is not what it should be; one sentence that names the file and the field."""


@dataclass(frozen=True)
class Feature:
    """One column. Example: Feature("float32", (10,), ("tcp.x", ...))."""

    dtype: str
    """numpy's name, or "string", "video" (an MP4 beside the table), "image" (encoded, in the table)."""
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def in_table(self) -> bool:
        """Whether it is a column of the data files."""
        return self.dtype != "video"

    @property
    def is_camera(self) -> bool:
        """Whether it holds pictures."""
        return self.dtype in ("video", "image")

    @classmethod
    def from_info(cls, entry: Mapping[str, Any]) -> Feature:
        """From `features` of info.json."""
        names = entry.get("names")
        if isinstance(names, Mapping):  # {"motors": [...]} in older recordings
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        return cls(
            str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), tuple(map(str, names)) if names else None
        )


DEFAULT_FEATURES = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
    "next.done": Feature("bool", (1,)),
    SUCCESS: Feature("bool", (1,)),
}
"""What the writer fills in by itself."""


def features_of(spec: RobotSpec) -> dict[str, Feature]:
    """All columns of a dataset of this robot, without the default ones."""
    set_point = Feature("float64", (len(SET_POINT_NAMES),), SET_POINT_NAMES)
    stamp, age = Feature("int64", (1,)), Feature("float32", (1,))
    features = {
        STATE: Feature("float32", (spec.state_dim,), spec.state_layout),
        ACTION: Feature("float32", (spec.action_dim,), spec.action_layout),
    }
    for camera in spec.cameras:
        shape = (camera.height, camera.width, 3)
        features[IMAGES + camera.name] = Feature("video", shape, ("height", "width", "channels"))
    features |= {
        COMMANDED: set_point,
        "action.requested": set_point,
        "action.safe": set_point,
        "action.sent": set_point,
    }
    features |= {"stamp_ns": stamp, "observation.state.stamp_ns": stamp, "observation.state.age_ms": age}
    for camera in spec.cameras:
        features |= {f"observation.{camera.name}.stamp_ns": stamp, f"observation.{camera.name}.age_ms": age}
    return features | {"intervention": Feature("bool", (1,)), "source": Feature("string", (1,))}


def camera_name(key: str) -> str:
    """The camera of an image column: "observation.images.front" and "observation.front" are "front"."""
    return key.removeprefix(IMAGES).removeprefix("observation.")


def file_position(index: int) -> dict[str, int]:
    """Folder and file of the `index`-th file, as the path templates want them."""
    return {"chunk_index": index // CHUNK_SIZE, "file_index": index % CHUNK_SIZE}


def info(features: Mapping[str, Feature], *, robot_type: str, fps: int, totals: Mapping[str, int]) -> dict[str, Any]:
    """The content of info.json; totals: episodes, frames, tasks."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        **{f"total_{name}": count for name, count in totals.items()},
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{totals['episodes']}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {name: _info_entry(feature, fps) for name, feature in features.items()},
    }


def _info_entry(feature: Feature, fps: int) -> dict[str, Any]:
    names = list(feature.names) if feature.names else None
    entry: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
    if feature.dtype == "video":
        height, width, channels = feature.shape
        entry["info"] = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": channels,
            "has_audio": False,
        }
    return entry
