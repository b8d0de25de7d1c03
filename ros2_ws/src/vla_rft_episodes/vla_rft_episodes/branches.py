"""Branches: short labelled continuations of demonstrations, most of which go wrong, for a world model to learn failure.

    DIR/shard-<name>/            immutable; there is no open shard without a leading dot
      branches.parquet           one row per branch: label, actions, states, truth, and where its frames lie
      frames.bin                 all JPEGs, one after the other
      manifest.json              kind "branches": spec, plan, sha256

Frames are the policy's images (`image.policy_image` of the rendered ones): a branch is for learning, not an episode.
What only a simulator knows is in the columns named `truth.*`, and nowhere else. No simulator is needed to read.
"""

from __future__ import annotations

import itertools
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_rft_core import config
from vla_rft_core.action import action_between
from vla_rft_core.errors import ManifestError
from vla_rft_core.files import sync
from vla_rft_core.image import policy_image
from vla_rft_core.manifest import read_manifest, write_manifest
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import Image, Observation
from vla_rft_episodes.errors import EpisodeError

KIND = "branches"
PREFIX = "shard-"
TABLE, FRAMES = "branches.parquet", "frames.bin"
TRUTH = "truth."
JPEG_QUALITY = 92
EXPERT = "expert"
"""The kind that does nothing differently."""
FINISHED, VERTEX_DEVIATION = "finished", "vertex_deviation_m"
"""Parameters of branches that were played to the end: is the towel folded there (0 or 1); mean distance of its vertices
from where the expert's branch from the same tick has them after the last observation [m]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Branch:
    """T control periods after a tick of a demonstration, T + 1 observations. Lengths in metres, base frame."""

    kind: str
    """What was done differently: "expert" (nothing), "never close", "drop", ..."""
    parameters: Mapping[str, float]
    """By how much, for example {"periods": 3.0}; units are in the names."""
    episode: str
    """Id of the demonstration."""
    tick: int
    """Control period of the demonstration at which the branch leaves it, from 0."""
    prompt: str
    commanded: NDArray[np.float64]
    """(T + 1, 8) set-point in force: x y z qx qy qz qw width."""
    actions: NDArray[np.float32]
    """(T, action_dim) in the spec's layout: from one commanded set-point to the next."""
    states: NDArray[np.float32]
    """(T + 1, state_dim) in the spec's layout, measured."""
    truth: Mapping[str, NDArray[np.float64]]
    """(T + 1,) each, privileged: edge_gap, mirrored_gap, area_ratio, max_height, held (vertices), success (0 or 1)."""
    jpegs: Mapping[str, Sequence[bytes]]
    """Camera -> T + 1 policy images."""

    def images(self, camera: str) -> Image:
        """uint8 RGB (T + 1, S, S, 3), decoded now."""
        return np.stack([_decoded(jpeg) for jpeg in self.jpegs[camera]])


class JudgedTowel(Protocol):
    """What only a simulator knows of a towel; lengths in metres."""

    edge_gap: float
    mirrored_gap: float
    area_ratio: float
    max_height: float
    grasped_vertices: int
    success: bool


def branch_of(
    observations: Sequence[Observation],
    truths: Sequence[JudgedTowel],
    spec: RobotSpec,
    *,
    kind: str,
    parameters: Mapping[str, float],
    episode: str,
    tick: int,
    prompt: str,
) -> Branch:
    """What was seen and judged, T + 1 times a control period apart, with its labels."""
    commanded = [observation.commanded for observation in observations]
    return Branch(
        kind=kind,
        parameters=parameters,
        episode=episode,
        tick=tick,
        prompt=prompt,
        commanded=np.array([[*s.T_base_tcp.position, *s.T_base_tcp.quaternion, s.width] for s in commanded]),
        actions=np.array([action_between(a, b, spec) for a, b in itertools.pairwise(commanded)]),
        states=np.array([observation.state for observation in observations]),
        truth={
            "edge_gap": np.array([t.edge_gap for t in truths]),
            "mirrored_gap": np.array([t.mirrored_gap for t in truths]),
            "area_ratio": np.array([t.area_ratio for t in truths]),
            "max_height": np.array([t.max_height for t in truths]),
            "held": np.array([float(t.grasped_vertices) for t in truths]),
            "success": np.array([float(t.success) for t in truths]),
        },
        jpegs={
            camera.name: [compress(policy_image(o.images[camera.name], camera.policy_size)) for o in observations]
            for camera in spec.cameras
        },
    )


def compress(image: Image) -> bytes:
    """A policy image (S, S, 3) as it is stored."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _decoded(jpeg: bytes) -> Image:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def write_shard(
    folder: Path, name: str, branches: Sequence[Branch], *, spec: RobotSpec, plan: Mapping[str, Any]
) -> Path:
    """Write `shard-<name>` of a folder of branches and make it appear complete; EpisodeError when it is there already.

    plan: plain data that says how the branches came about; every shard of a folder has the same.
    """
    target, work = folder / f"{PREFIX}{name}", folder / f".{PREFIX}{name}"
    if target.exists():
        raise EpisodeError(f"{target}: exists already and is not overwritten")
    work.mkdir(parents=True, exist_ok=True)
    for left in work.iterdir():  # of a run that was cut short; nothing in there was ever finished
        left.unlink()
    rows, offset = [], 0
    with (work / FRAMES).open("wb") as frames:
        for branch in branches:
            row, offset = _row(branch, offset)
            rows.append(row)
            for jpegs in branch.jpegs.values():
                frames.writelines(jpegs)
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema(spec)), work / TABLE, compression="zstd")
    write_manifest(work, kind=KIND, metadata={"spec": config.to_mapping(spec), "plan": dict(plan)})
    work.rename(target)
    sync(folder)
    return target


def _row(branch: Branch, offset: int) -> tuple[dict[str, Any], int]:
    """A branch as a row, when its frames begin at `offset` of the file; and where they end."""
    row: dict[str, Any] = {
        "kind": branch.kind,
        "parameters": json.dumps(dict(branch.parameters), sort_keys=True),
        "episode": branch.episode,
        "tick": branch.tick,
        "prompt": branch.prompt,
        "commanded": branch.commanded.reshape(-1),
        "action": branch.actions.reshape(-1),
        "observation.state": branch.states.reshape(-1),
    }
    row |= {f"{TRUTH}{name}": values for name, values in branch.truth.items()}
    for camera, jpegs in branch.jpegs.items():
        ends = offset + np.cumsum([0, *(len(jpeg) for jpeg in jpegs)])
        row[f"frames.{camera}"] = ends
        offset = int(ends[-1])
    return row, offset


TRUTHS = ("edge_gap", "mirrored_gap", "area_ratio", "max_height", "held", "success")


def _schema(spec: RobotSpec) -> pa.Schema:
    texts = [(name, pa.string()) for name in ("kind", "parameters", "episode", "prompt")]
    arrays = [("commanded", pa.float64()), ("action", pa.float32()), ("observation.state", pa.float32())]
    arrays += [(f"{TRUTH}{name}", pa.float64()) for name in TRUTHS]
    arrays += [(f"frames.{camera.name}", pa.int64()) for camera in spec.cameras]
    return pa.schema([*texts, ("tick", pa.int32()), *((name, pa.list_(kind)) for name, kind in arrays)])


class Branches(Sequence[Branch]):
    """All branches of a folder, in random access; frames are read when a branch is asked for. Not for several threads.

    Example: `Branches(Path("branches"))[17].images("front")`
    """

    def __init__(self, folder: Path) -> None:
        """EpisodeError when there are none, or they are of several specs; hashes are not compared."""
        shards = sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
        if not shards:
            raise EpisodeError(f"{folder}: holds no branches")
        manifests = [read_shard_manifest(shard) for shard in shards]
        for shard, metadata in zip(shards, manifests, strict=True):
            if metadata != manifests[0]:
                raise EpisodeError(f"{shard}: has another spec or plan than {shards[0]}")
        self.spec = config.from_mapping(RobotSpec, manifests[0]["spec"], f"{shards[0]}: spec")
        self.plan: Mapping[str, Any] = manifests[0]["plan"]
        tables = [pq.read_table(shard / TABLE) for shard in shards]
        self._table = pa.concat_tables(tables)
        self._shards = np.repeat(np.arange(len(shards)), [table.num_rows for table in tables])
        self._paths = [shard / FRAMES for shard in shards]
        self._maps: dict[int, mmap.mmap] = {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def kinds(self) -> list[str]:
        """Of every branch."""
        return self._table["kind"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def episodes(self) -> list[str]:
        """The demonstration of every branch: a split by these keeps test scenes out of training."""
        return self._table["episode"].to_pylist()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Branch]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"branch {index} of {len(self)}")
        number = index % len(self)
        row = self._table.slice(number, 1)

        def array(name: str, dtype: Any) -> NDArray[Any]:
            return row[name].combine_chunks().values.to_numpy().astype(dtype)  # type: ignore[no-any-return]

        frames = self._frames(int(self._shards[number]))
        jpegs = {}
        for camera in self.spec.cameras:
            ends = array(f"frames.{camera.name}", np.int64)
            jpegs[camera.name] = [frames[a:b] for a, b in itertools.pairwise(ends.tolist())]
        return Branch(
            kind=row["kind"][0].as_py(),
            parameters=json.loads(row["parameters"][0].as_py()),
            episode=row["episode"][0].as_py(),
            tick=row["tick"][0].as_py(),
            prompt=row["prompt"][0].as_py(),
            commanded=array("commanded", np.float64).reshape(-1, 8),
            actions=array("action", np.float32).reshape(-1, self.spec.action_dim),
            states=array("observation.state", np.float32).reshape(-1, self.spec.state_dim),
            truth={name: array(TRUTH + name, np.float64) for name in TRUTHS},
            jpegs=jpegs,
        )

    def _frames(self, shard: int) -> mmap.mmap:
        if shard not in self._maps:
            with self._paths[shard].open("rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[shard]


def read_shard_manifest(shard: Path) -> Mapping[str, Any]:
    """Spec and plan of one shard; EpisodeError when it is none."""
    try:
        return read_manifest(shard, kind=KIND).metadata
    except ManifestError as error:
        raise EpisodeError(str(error)) from None
