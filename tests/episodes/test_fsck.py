"""Each kind of damage done to a collection is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.errors import VlaRftError
from vla_rft_episodes import layout
from vla_rft_episodes.fsck import Kind, fsck
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.synthetic import STARTED_NS, SyntheticConfig, write_synthetic

SHORT = SyntheticConfig(duration_s=0.5)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled episodes; copy it before changing it."""
    collection = tmp_path_factory.mktemp("pristine")
    cell = find_cell("vla_rft_sim:towel_cell")
    labels = Labels(collection)
    for index in range(3):
        path = write_synthetic(collection, cell, SHORT, started_ns=STARTED_NS + index * NS_PER_S)
        labels.append(path.name, Label.KEEP, Outcome.SUCCESS, "test")
    return collection


@pytest.fixture
def collection(pristine: Path, tmp_path: Path) -> Path:
    target = tmp_path / "collection"
    shutil.copytree(pristine, target)
    return target


def ids(collection: Path) -> list[str]:
    return sorted(path.name for path in collection.iterdir() if path.is_dir())


def edit_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_nothing_is_wrong_with_what_was_written(collection: Path) -> None:
    report = fsck(collection)
    assert report.clean
    assert report.findings == ()
    assert list(report.intact) == ids(collection)


def test_fsck_changes_nothing(collection: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in collection.rglob("*")}
    fsck(collection)
    assert {path: path.stat().st_mtime_ns for path in collection.rglob("*")} == before


def flip_a_byte(collection: Path, name: str) -> str:
    path = collection / name / layout.MCAP_NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return f"{name}/{layout.MCAP_NAME}"


def cut(collection: Path, name: str) -> str:
    path = collection / name / layout.MCAP_NAME
    path.write_bytes(path.read_bytes()[:-100])
    return f"{name}/{layout.MCAP_NAME}"


def lose_the_recording(collection: Path, name: str) -> str:
    (collection / name / layout.MCAP_NAME).unlink()
    return f"{name}/{layout.MCAP_NAME}"


def lose_the_manifest(collection: Path, name: str) -> str:
    (collection / name / "manifest.json").unlink()
    return name


def add_a_file_inside(collection: Path, name: str) -> str:
    (collection / name / "notes.txt").write_text("hello", encoding="utf-8")
    return f"{name}/notes.txt"


def add_a_folder(collection: Path, name: str) -> str:
    (collection / "holiday").mkdir()
    return "holiday"


def add_a_file(collection: Path, name: str) -> str:
    (collection / "cat.jpg").write_bytes(b"\xff\xd8")
    return "cat.jpg"


def add_a_loose_mcap(collection: Path, name: str) -> str:
    shutil.copy(collection / name / layout.MCAP_NAME, collection / "loose.mcap")
    return "loose.mcap"


def other_version(collection: Path, name: str) -> str:
    edit_manifest(collection / name, lambda content: content.update(version=2))
    return f"{name}/manifest.json"


def other_fields(collection: Path, name: str) -> str:
    edit_manifest(collection / name, lambda content: content["metadata"].update(mood="sunny"))
    return f"{name}/manifest.json"


def other_kind(collection: Path, name: str) -> str:
    edit_manifest(collection / name, lambda content: content.update(kind="checkpoint"))
    return f"{name}/manifest.json"


def half_a_manifest(collection: Path, name: str) -> str:
    path = collection / name / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8")[:80], encoding="utf-8")
    return f"{name}/manifest.json"


def a_copy(collection: Path, name: str) -> str:
    shutil.copytree(collection / name, collection / f"copy of {name}")
    return f"copy of {name}"


def another_name(collection: Path, name: str) -> str:
    (collection / name).rename(collection / "renamed")
    lines = [line for line in (collection / "labels.jsonl").read_text().splitlines() if name not in line]
    (collection / "labels.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return "renamed"


def other_spec(collection: Path, name: str) -> str:
    edit_manifest(collection / name, lambda content: content["metadata"]["spec"].update(action_horizon=16))
    return name


def label_nobody(collection: Path, name: str) -> str:
    path = collection / "labels.jsonl"
    line = path.read_text(encoding="utf-8").splitlines()[0]
    with path.open("a", encoding="utf-8") as file:
        file.write(line.replace(ids(collection)[0], "20200101T000000.000-0000") + "\n")
    return "labels.jsonl"


def half_a_label(collection: Path, name: str) -> str:
    with (collection / "labels.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"episode": "20200101T')
    return "labels.jsonl"


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (flip_a_byte, Kind.ALTERED, "sha256 differs"),
        (cut, Kind.ALTERED, "bytes, the manifest says"),
        (lose_the_recording, Kind.MISSING, "missing"),
        (lose_the_manifest, Kind.ORPHANED, "without a manifest"),
        (add_a_file_inside, Kind.FOREIGN, "not in the manifest"),
        (add_a_folder, Kind.FOREIGN, "is no episode"),
        (add_a_file, Kind.FOREIGN, "does not belong"),
        (add_a_loose_mcap, Kind.ORPHANED, "without a manifest"),
        (other_version, Kind.VERSION, "format version 2, this software reads 1"),
        (other_fields, Kind.VERSION, "mood"),
        (other_kind, Kind.FOREIGN, "'checkpoint', expected 'episode'"),
        (half_a_manifest, Kind.ALTERED, "cannot be read"),
        (a_copy, Kind.DUPLICATE, "which is here already"),
        (another_name, Kind.FOREIGN, "must have its name"),
        (other_spec, Kind.SPEC, "action_horizon: it has 16"),
        (label_nobody, Kind.ORPHANED, "'20200101T000000.000-0000', which is not here"),
        (half_a_label, Kind.TORN, "line 4 was cut short"),
    ],
)
def test_damage_is_found_and_nothing_else(
    collection: Path, damage: Callable[[Path, str], str], kind: Kind, words: str
) -> None:
    name = ids(collection)[1]
    where = damage(collection, name)
    report = fsck(collection)
    assert [(finding.kind, finding.path) for finding in report.findings] == [(kind, where)]
    assert words in report.findings[0].sentence
    assert not report.clean
    assert set(ids(collection)) - {where.partition("/")[0]} >= set(report.intact)
    assert set(report.intact) >= set(ids(collection)) - {name, where}


def test_all_damage_at_once_is_found(collection: Path) -> None:
    first, second, third = ids(collection)
    flip_a_byte(collection, first)
    add_a_file(collection, first)
    lose_the_recording(collection, second)
    half_a_label(collection, first)
    report = fsck(collection)
    assert {finding.kind for finding in report.findings} == {Kind.ALTERED, Kind.FOREIGN, Kind.MISSING, Kind.TORN}
    assert report.intact == (third,)


def test_the_spec_of_most_is_the_reference(collection: Path) -> None:
    first = ids(collection)[0]
    other_spec(collection, first)
    assert [finding.path for finding in fsck(collection).findings] == [first]


def test_an_episode_recorded_elsewhere_belongs(collection: Path, tmp_path: Path, pristine: Path) -> None:
    cell: CellFolder = find_cell("vla_rft_sim:towel_cell")
    elsewhere = write_synthetic(tmp_path / "elsewhere", cell, SHORT, started_ns=STARTED_NS + 99 * NS_PER_S)
    elsewhere.rename(collection / elsewhere.name)
    report = fsck(collection)
    assert report.findings == ()
    assert len(report.intact) == 4


def test_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VlaRftError, match="no such collection"):
        fsck(tmp_path / "nowhere")


def test_report_as_plain_data(collection: Path) -> None:
    add_a_file(collection, "")
    plain = json.loads(json.dumps(fsck(collection).to_plain()))
    assert plain["clean"] is False
    assert plain["findings"] == [
        {"kind": "foreign", "path": "cat.jpg", "wrong": True, "sentence": "does not belong to a collection"}
    ]
