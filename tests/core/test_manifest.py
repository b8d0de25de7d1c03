"""Manifests: written, verified, and every way a folder can differ from its manifest named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_rft_core.errors import ManifestError
from vla_rft_core.manifest import FILE_NAME, amend_manifest, read_manifest, verify, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "video").mkdir()
    (tmp_path / "episode.mcap").write_bytes(b"\x00" * 1000)
    (tmp_path / "video" / "front.mp4").write_bytes(b"frames")
    (tmp_path / "empty").write_bytes(b"")
    write_manifest(tmp_path, kind="episode", metadata={"task": "fold", "operator": "kim"})
    return tmp_path


def test_what_was_written_verifies(folder: Path) -> None:
    manifest = verify(folder, kind="episode")
    assert set(manifest.files) == {"episode.mcap", "video/front.mp4", "empty"}
    assert manifest.files["episode.mcap"].size == 1000
    assert manifest.files["empty"].sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest.metadata == {"task": "fold", "operator": "kim"}
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_the_digest_depends_on_content_and_metadata_only(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def twin(metadata: dict[str, Any], content: bytes) -> str:
        other = tmp_path_factory.mktemp("twin")
        (other / "b").write_bytes(b"b")
        (other / "a").write_bytes(content)
        written = write_manifest(other, kind="bundle", metadata=metadata)
        assert verify(other, kind="bundle").digest() == written.digest()
        return written.digest()

    same = twin({"x": 1, "y": 2}, b"a")
    assert twin({"y": 2, "x": 1}, b"a") == same
    assert twin({"x": 1, "y": 3}, b"a") != same
    assert twin({"x": 1, "y": 2}, b"A") != same


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "episode.mcap").read_bytes())
    data[500] ^= 1
    (folder / "episode.mcap").write_bytes(data)


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / FILE_NAME).read_text())
        change(content)
        (folder / FILE_NAME).write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "episode.mcap: was altered since the manifest was written"),
        (lambda f: (f / "episode.mcap").write_bytes(b"\x00" * 999), "episode.mcap: was altered"),
        (lambda f: (f / "video/front.mp4").unlink(), "front.mp4: is in the manifest but missing"),
        (lambda f: (f / "video/extra.mp4").write_bytes(b""), "extra.mp4: is not in the manifest"),
        (lambda f: (f / "video" / FILE_NAME).write_text("{}"), "video/manifest.json: is not in the manifest"),
        (lambda f: (f / FILE_NAME).unlink(), "no such file, so .* is not a finished episode"),
        (lambda f: (f / FILE_NAME).write_text('{"kind": "epi'), "malformed"),
        (lambda f: (f / FILE_NAME).write_text("[]"), "malformed"),
        (lambda f: (f / FILE_NAME).write_bytes(b"\xff\xfe\x00"), "malformed"),
        (edit(lambda c: c.pop("version")), r"malformed \('version'\)"),
        (edit(lambda c: c.update(files=[])), "malformed"),
        (edit(lambda c: c.update(metadata=3)), "malformed"),
        (edit(lambda c: c["files"].update(empty={"size": 0})), r"malformed \('sha256'\)"),
        (edit(lambda c: c.update(kind="bundle")), "is of kind 'bundle', expected 'episode'"),
        (edit(lambda c: c.update(version=2)), "has format version 2, this software reads 1"),
        (
            edit(lambda c: c["files"].update({"../outside": c["files"]["empty"]})),
            "outside: is in the manifest but missing",
        ),
    ],
)
def test_every_damage_is_named(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ManifestError, match=message):
        verify(folder, kind="episode")


def test_reading_does_not_look_at_the_files(folder: Path) -> None:
    flip_a_byte(folder)
    assert read_manifest(folder, kind="episode").kind == "episode"


def test_a_manifest_is_not_overwritten(folder: Path) -> None:
    before = (folder / FILE_NAME).read_bytes()
    with pytest.raises(ManifestError, match="exists already and is not overwritten"):
        write_manifest(folder, kind="episode", metadata={})
    assert (folder / FILE_NAME).read_bytes() == before


def test_metadata_that_is_not_json_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        write_manifest(tmp_path, kind="trial", metadata={"seconds": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_amended_manifest_has_new_metadata_and_the_same_files(folder: Path) -> None:
    before = read_manifest(folder, kind="episode")
    after = amend_manifest(folder, kind="episode", metadata={"gate": "passed"})
    assert verify(folder, kind="episode") == after
    assert after.files == before.files and after.metadata == {"gate": "passed"} and after.digest() != before.digest()


def test_an_altered_folder_is_not_amended(folder: Path) -> None:
    before = (folder / FILE_NAME).read_bytes()
    (folder / "empty").write_bytes(b"not any more")
    with pytest.raises(ManifestError, match="empty: was altered"):
        amend_manifest(folder, kind="episode", metadata={})
    assert (folder / FILE_NAME).read_bytes() == before
