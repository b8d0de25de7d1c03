"""Whatever is wrong with a file or a message, its reader says so in one sentence: no traceback, nothing written.

Each target is a folder of valid files and the reader that a user meets. A file is altered (bytes changed, cut or
repeated; in YAML and JSON also values, names and kinds) and read. `make fuzz` does so for FUZZ_SECONDS per target; here
it takes seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from deploy.runtime import load as load_bundle
from deploy.stand_in import make_replay
from vla_rft_core import config, manifest
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.geometry import Pose
from vla_rft_core.safety import SafetyFilter
from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.fsck import fsck
from vla_rft_episodes.lerobot.export import export
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.synthetic import SyntheticConfig, write_synthetic
from vla_rft_hardware.teleop.keyboard import KeyboardMap
from vla_rft_hardware.teleop.mapping import load_map
from vla_rft_nodes.bringup.parse import read_launch_file
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.records import TrialStart
from vla_rft_trials.study import lock, open_study
from vla_rft_trials.trial_log import RecordLog, read_log

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""Per target; 0: a few examples."""
ROOT = Path(__file__).parents[1]
CELL = "vla_rft_sim:towel_cell"
CHECKPOINT = ROOT / "vla_rft_train" / "checkpoints" / "sim" / "policy"
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e-300,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "../..",
    "é\0",
    [],
    {},
    [[]],
)
"""What stands where something else is expected."""


# --- targets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Valid files, which of them are altered, and how they are read."""

    name: str
    make: Callable[[Path], object]
    """Write the files below an empty folder."""
    altered: str
    """Pattern of the files that are altered."""
    read: Callable[[Path], object]
    """Read them as a user's command does; ValueError or VlaRftError when something is wrong."""


def copy_cell(folder: Path) -> None:
    copytree(find_cell(CELL).path, folder, dirs_exist_ok=True)


def copy_launch_file(folder: Path) -> None:
    (folder / "teleop.launch.yaml").write_bytes((ROOT / "launch" / "teleop.launch.yaml").read_bytes())


def copy_protocol(folder: Path) -> Path:
    path = folder / "protocol.yaml"
    path.write_bytes((ROOT / "launch" / "protocols" / "grasp_noise.yaml").read_bytes())
    return path


def copy_map(folder: Path) -> None:
    (folder / "map.yaml").write_text(yaml.safe_dump(config.to_mapping(load_map(KeyboardMap, "keyboard"))))


def make_study(folder: Path) -> None:
    lock(copy_protocol(folder), folder / "study")


def make_records(folder: Path) -> None:
    log = RecordLog(folder / "records.jsonl")
    for index in range(2):
        log.start(TrialStart(
            index=index, slot=index, study="0" * 64, seed=index, placement_id="P01", placement="x +2 cm", policy="A",
            policy_stamp="1" * 64, started_ns=1_700_000_000_000_000_000, video=f"videos/{index}.mp4",
        ))  # fmt: skip
    log.close()


def make_manifest(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(200)))
    manifest.write_manifest(folder, kind="test", metadata={"step": 3})


def make_episodes(folder: Path, size: tuple[int, int] = (32, 24)) -> None:
    small = SyntheticConfig(duration_s=1.5, color_hz=5.0, pictures=2, size=size)
    write_synthetic(folder, find_cell(CELL), small)


def read_episodes(folder: Path) -> None:
    fsck(folder)  # finds, and refuses nothing
    refs = Collection(folder).episodes()
    for ref in refs:
        episode = Episode.open(ref.path)
        for _ in episode.robot_states():
            pass


def make_dataset(folder: Path) -> None:
    make_episodes(folder / "episodes", (640, 480))
    export([folder / "episodes"], folder / "dataset", everything=True)


def read_dataset(folder: Path) -> None:
    data = Dataset.open(folder / "dataset")
    try:
        for entry in range(len(data.episodes)):
            data.columns(entry)
            data.prompts(entry)
            for camera in data.cameras:
                data.frames(entry, camera, [0])
        _ = data.stats
    finally:
        data.close()


def read_checkpoint(folder: Path) -> None:
    released = pytest.importorskip("vla_rft_train.released")
    released.load_policy(folder)


def make_bundle(folder: Path) -> None:
    cell = find_cell(CELL)
    home = SetPoint(Pose(cell.spec.home.position, cell.spec.home.quaternion), cell.spec.home.width)
    make_replay(folder / "bundle", cell.spec, [home] * 5, source="a test")


TARGETS = (
    Target("cell", copy_cell, "*.yaml", CellFolder.load),
    Target("launch", copy_launch_file, "*.yaml", lambda folder: read_launch_file(folder / "teleop.launch.yaml")),
    Target("keyboard map", copy_map, "*.yaml", lambda folder: load_map(KeyboardMap, str(folder / "map.yaml"))),
    Target("protocol", copy_protocol, "*.yaml", lambda folder: config.load(Protocol, folder / "protocol.yaml")),
    Target("study", make_study, "study/**/*", lambda folder: open_study(folder / "study")),
    Target("records", make_records, "*.jsonl", lambda folder: read_log(folder / "records.jsonl")),
    Target("manifest", make_manifest, "*", lambda folder: manifest.verify(folder, kind="test")),
    Target("episodes", make_episodes, "**/*", read_episodes),
    Target("dataset", make_dataset, "dataset/**/*", read_dataset),
    Target("bundle", make_bundle, "bundle/*", lambda folder: load_bundle(folder / "bundle")),
    Target("checkpoint", lambda folder: copytree(CHECKPOINT, folder, dirs_exist_ok=True), "*", read_checkpoint),
)


# --- altering --------------------------------------------------------------------------------------------------


@st.composite
def alterations(draw: st.DrawFn) -> Callable[[str, bytes], bytes]:
    """A way to alter a file, given its name and content."""
    if draw(st.booleans()):
        where, odd = draw(st.integers(0, 2**16)), draw(st.sampled_from(ODD))
        how = draw(st.sampled_from(("replace", "remove", "rename", "add")))
        return lambda name, content: (
            alter_value(name, content, where, how, odd) or alter_bytes(content, where, 1, b"\xff")
        )
    where, length = draw(st.integers(0, 2**16)), draw(st.integers(0, 64))
    put = draw(st.binary(max_size=16))
    return lambda name, content: alter_bytes(content, where, length, put)


def alter_bytes(content: bytes, where: int, length: int, put: bytes) -> bytes:
    """Replace `length` bytes."""
    at = where % (len(content) + 1)
    return content[:at] + put + content[at + length :]


def alter_value(name: str, content: bytes, where: int, how: str, odd: Any) -> bytes:
    """Alter one value of a YAML or JSON file; nothing for other files."""
    parse, dump = (json.loads, json.dumps) if name.endswith(".json") else (yaml.safe_load, yaml.safe_dump)
    if not name.endswith((".json", ".yaml")):
        return b""
    tree = parse(content.decode())
    places = list(walk(tree))
    if not places:
        return b""
    owner, key = places[where % len(places)]
    if how == "replace":
        owner[key] = odd
    elif how == "remove":
        del owner[key]
    elif how == "rename" and isinstance(owner, dict):
        owner[f"{key}x"] = owner.pop(key)
    elif isinstance(owner, dict):
        owner["unheard_of"] = odd
    else:
        owner.append(odd)
    return str(dump(tree)).encode(errors="surrogatepass")


def walk(tree: Any) -> Any:
    """(owner, key) of every value in nested mappings and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from walk(value)


def listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}


# --- the tests -------------------------------------------------------------------------------------------------


def for_a_while(test: Callable[[], None]) -> None:
    """Once with a fixed seed, or with ever new ones for FUZZ_SECONDS."""
    until, round_number = time.monotonic() + SECONDS, 0
    while True:
        seed(round_number)(test)()
        round_number += 1
        if time.monotonic() >= until:
            return


def examples(count: int) -> settings:
    return settings(
        max_examples=10 * count if SECONDS else count, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where studies keep their second share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLA_RFT_KEEPER", str(tmp_path_factory.mktemp("keeper")))
        yield


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_reader_answers_in_one_sentence_and_writes_nothing(target: Target, tmp_path: Path, keeper: None) -> None:
    target.make(tmp_path)
    target.read(tmp_path)  # as it is, it is fine
    files = sorted(path for path in tmp_path.glob(target.altered) if path.is_file())

    @examples(12)
    @given(st.integers(0, len(files) - 1), alterations())
    def test(chosen: int, alter: Callable[[str, bytes], bytes]) -> None:
        path = files[chosen]
        content = path.read_bytes()
        try:
            path.write_bytes(alter(path.name, content))
            before = listing(tmp_path)
            try:
                target.read(tmp_path)
            except (ValueError, VlaRftError) as error:
                assert str(error).strip() and "\n" not in str(error), f"not one sentence: {error}"
            assert listing(tmp_path) == before, "reading has written"
        finally:
            path.write_bytes(content)

    for_a_while(test)


def test_no_chunk_upsets_the_safety_filter() -> None:
    judge = SafetyFilter(find_cell(CELL).safety)
    number = st.one_of(st.floats(), st.floats(-1.0, 1.0))

    @examples(100)
    @given(
        st.tuples(*(st.lists(number, max_size=24) for _ in range(3))),
        st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.sampled_from(list(Source)),
    )  # fmt: skip
    def test(numbers: tuple[list[float], ...], stamp_ns: int, period_ns: int, source: Source) -> None:
        positions, quaternions, widths = (np.array(part, dtype=np.float64) for part in numbers)
        chunk = ActionChunk(
            stamp_ns=stamp_ns, period_ns=period_ns,
            positions=positions[: len(positions) // 3 * 3].reshape(-1, 3),
            quaternions=quaternions[: len(quaternions) // 4 * 4].reshape(-1, 4),
            widths=widths, sequence=0, source=source,
        )  # fmt: skip
        reason = judge.judge_chunk(chunk, now_ns=1_700_000_000_000_000_000)
        assert reason and "\n" not in reason, "nothing drawn at random may move the arm"

    for_a_while(test)
