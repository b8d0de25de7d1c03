"""Names inside a collection, an episode folder and an MCAP file, in one place because many tools share them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vla_rft_core.cell import CellFolder
from vla_rft_episodes.channels import LATCHED, Channel, is_image
from vla_rft_episodes.info import EpisodeInfo

KIND = "episode"
"""Of the manifest."""
MCAP_NAME = "episode.mcap"
OPEN_PREFIX = ".open-"
"""Of the folder of an attempt that is not finished."""
PROFILE = "ros2"
LIBRARY = "vla_rft_episodes"
SCHEMA_ENCODING = "ros2msg"
MESSAGE_ENCODING = "cdr"
FORMAT_VERSION = "1"
START_RECORD = "episode"
"""Metadata record with what was known at the start; first thing in the file."""
END_RECORD = "episode_end"
"""Metadata record with what was known at the end."""
CELL_FILES = ("spec.yaml", "calibration.yaml", "safety.yaml", "motion.yaml")
"""Attachments, where the cell folder has them."""

_FOREVER = "{sec: 9223372036, nsec: 854775807}"


def start_metadata(info: EpisodeInfo) -> dict[str, str]:
    """The start record: the main facts readable, all of them as JSON under "info"."""
    readable = ("id", "task", "prompt", "operator", "source", "policy_id", "spec_name", "calibration_id", "started_ns")
    facts = {name: str(getattr(info, name)) for name in readable}
    return {"format_version": FORMAT_VERSION, **facts, "info": json.dumps(info.to_plain(), sort_keys=True)}


def end_metadata(info: EpisodeInfo) -> dict[str, str]:
    """The end record."""
    counts = {"messages": dict(info.messages), "dropped": dict(info.dropped)}
    texts = {name: json.dumps(count, sort_keys=True) for name, count in counts.items()}
    return {"ended_ns": str(info.ended_ns), "termination_reason": info.termination_reason, **texts}


def from_metadata(start: Mapping[str, str], end: Mapping[str, str] | None, where: str) -> EpisodeInfo:
    """The info of a file's metadata records; ValueError names what is wrong with them."""
    plain = json.loads(start["info"])
    if end is not None:
        plain["ended_ns"], plain["termination_reason"] = int(end["ended_ns"]), end["termination_reason"]
        plain["messages"], plain["dropped"] = json.loads(end["messages"]), json.loads(end["dropped"])
    return EpisodeInfo.from_plain(plain, where)


def cell_attachments(cell: CellFolder) -> dict[str, bytes]:
    """Name -> content of the cell folder's files."""
    return {name: (cell.path / name).read_bytes() for name in CELL_FILES if (cell.path / name).exists()}


def channel_metadata(channel: Channel, type_hash: str) -> dict[str, str]:
    """What rosbag2 keeps with a topic, so that it can play it as it was offered."""
    reliability = "best_effort" if is_image(channel) else "reliable"
    durability = "transient_local" if channel in LATCHED else "volatile"
    qos = (
        f"- history: keep_last\n  depth: {30 if is_image(channel) else 1}\n  reliability: {reliability}\n"
        f"  durability: {durability}\n  deadline: {_FOREVER}\n  lifespan: {_FOREVER}\n  liveliness: automatic\n"
        f"  liveliness_lease_duration: {_FOREVER}\n  avoid_ros_namespace_conventions: false\n"
    )
    return {"offered_qos_profiles": qos, "topic_type_hash": type_hash}


def mcap_path(path: Path) -> Path:
    """The MCAP file of an episode folder, or the file itself."""
    return path / MCAP_NAME if path.is_dir() else path
