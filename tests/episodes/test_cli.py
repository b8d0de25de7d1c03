"""The commands as an operator types them: what is printed and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import cv2
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_episodes import layout, play
from vla_rft_episodes.__main__ import main
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.synthetic import (
    STARTED_NS,
    SyntheticConfig,
    synthetic_info,
    synthetic_messages,
    write_synthetic,
)
from vla_rft_episodes.writer import EpisodeWriter


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good kept episode, one that was cut short and failed, one undecided."""
    collection = tmp_path_factory.mktemp("pristine")
    cell = find_cell("vla_rft_sim:towel_cell")
    good = write_synthetic(collection, cell, started_ns=STARTED_NS)
    short = write_synthetic(collection, cell, SyntheticConfig(duration_s=0.5), started_ns=STARTED_NS + 60 * NS_PER_S)
    write_synthetic(
        collection, cell, SyntheticConfig(grasp_offset=(0.05, -0.04)), started_ns=STARTED_NS + 90 * NS_PER_S
    )
    labels = Labels(collection)
    labels.append(good.name, Label.KEEP, Outcome.SUCCESS, "test")
    labels.append(short.name, Label.DISCARD, Outcome.FAILURE, "test")
    return collection


@pytest.fixture
def collection(pristine: Path, tmp_path: Path) -> Path:
    target = tmp_path / "demos"
    shutil.copytree(pristine, target)
    return target


def ids(collection: Path) -> list[str]:
    return [ref.id for ref in Collection(collection).episodes()]


def test_ls(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(collection), "--goal", "5"]) == 0
    header, *rows, summary = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert header.split() == ["id", "seconds", "outcome", "label", "verdict", "reasons"]
    assert [row.split()[:5] for row in rows] == [
        [ids(collection)[0], "6.0", "success", "keep", "good"],
        [ids(collection)[1], "0.5", "failure", "discard", "bad"],
        [ids(collection)[2], "6.0", "unknown", "-", "good"],
    ]
    assert "it lasted 0.5 s (at least 1 s)" in rows[1]
    assert summary.startswith("kept 1/5 (1 successes), 1 in the trash, 1 undecided")


def test_ls_names_what_it_cannot_read(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (collection / ids(collection)[0] / "manifest.json").write_text("{}", encoding="utf-8")
    assert main(["ls", str(collection)]) == 1
    assert "manifest.json: malformed" in capsys.readouterr().err


def test_info(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = collection / ids(collection)[1]
    assert main(["info", str(path)]) == 0
    lines = dict(line.strip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line.strip())
    assert lines["prompt"] == "fold the towel in half"
    assert lines["verdict"] == "bad"
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == path.name


def test_info_by_other_limits(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = Path(play.__file__).with_name("verdict.yaml").read_text(encoding="utf-8")
    limits = tmp_path / "mine.yaml"
    limits.write_text(shipped.replace("shortest_s: {suspect: 4.0", "shortest_s: {suspect: 40.0"), encoding="utf-8")
    assert main(["info", str(collection / ids(collection)[0]), "--limits", str(limits), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert verdict["quality"] == "suspect"
    assert verdict["reasons"] == ["it lasted 6.0 s (at least 40 s)"]


def test_fsck(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", str(collection)]) == 0
    assert capsys.readouterr().out == "3 episodes intact, 0 things wrong\n"
    (collection / "cat.jpg").write_bytes(b"\xff\xd8")
    assert main(["fsck", str(collection)]) == 1
    out = capsys.readouterr().out
    assert "foreign" in out
    assert "cat.jpg" in out
    assert main(["fsck", str(collection), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["clean"] is False


def test_repair(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = find_cell("vla_rft_sim:towel_cell")
    assert main(["repair", str(collection)]) == 0
    assert capsys.readouterr().out == f"{collection}: nothing to repair\n"
    settings = SyntheticConfig(duration_s=2.0)
    started_ns = STARTED_NS + 200 * NS_PER_S
    writer = EpisodeWriter.create(collection, synthetic_info(cell, settings, started_ns=started_ns), cell=cell)
    for message in synthetic_messages(cell, settings, started_ns=started_ns):
        writer.write(message.channel, message.data, stamp_ns=message.stamp_ns, received_ns=message.received_ns)
    assert main(["repair", str(collection)]) == 1
    assert "is being recorded" in capsys.readouterr().err
    writer.abandon()
    assert main(["fsck", str(collection)]) == 1
    assert main(["repair", str(writer.path)]) == 0
    assert f"{writer.info.id}: recovered" in capsys.readouterr().out
    assert main(["fsck", str(collection)]) == 0
    assert ids(collection)[-1] == writer.info.id


def test_trash_and_restore(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, discarded, undecided = ids(collection)
    files = sorted(path for path in collection.rglob("*") if path.is_file())
    assert main(["trash", "--in", str(collection), "--by", "ann", kept, undecided]) == 0
    assert all(ref.discarded for ref in Collection(collection).episodes())
    assert Labels(collection).state()[kept].by == "ann"
    assert main(["restore", str(collection / kept), str(collection / undecided)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{kept}: kept again",
        f"{undecided}: out of the trash, undecided",
    ]
    refs = {ref.id: ref for ref in Collection(collection).episodes()}
    assert refs[kept].kept
    assert refs[kept].outcome is Outcome.SUCCESS
    assert refs[discarded].discarded
    assert not refs[undecided].discarded
    assert sorted(path for path in collection.rglob("*") if path.is_file()) == files


def test_all_or_none_are_trashed(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ids(collection)[0]
    assert main(["trash", "--in", str(collection), kept, "20200101T000000.000-0000"]) == 2
    assert "no episode '20200101T000000.000-0000'" in capsys.readouterr().err
    assert Collection(collection).episodes()[0].kept


def test_play_without_a_display_writes_a_file(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    path = collection / ids(collection)[0]
    assert main(["play", str(path)]) == 0
    name = f"{path.name}-front.mp4"
    assert capsys.readouterr().out == f"{name}: 60 frames\n"
    with av.open(name) as video:
        stream = video.streams.video[0]
        times = sorted(float(packet.pts * stream.time_base) for packet in video.demux(stream) if packet.pts is not None)
    stamps = [frame.stamp_ns for frame in Episode.open(path).frames("front")]
    assert times == pytest.approx([(stamp - stamps[0]) / NS_PER_S for stamp in stamps], abs=1e-4)
    assert main(["play", str(path)]) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err


def test_play_in_a_window(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a display every frame is shown, its colours in the order a window wants, until q."""
    monkeypatch.setenv("DISPLAY", ":0")
    shown, keys = [], iter([-1, -1, ord("q")])
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append((title, image)))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append(None))
    path = collection / ids(collection)[0]
    assert main(["play", str(path)]) == 0
    assert shown.pop() is None
    assert [title for title, _ in shown] == [f"{path.name} front"] * 3
    first = next(iter(Episode.open(path).frames("front")))
    assert (shown[0][1][:, :, ::-1] == first.color).all()


def test_coverage(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.png"
    data = tmp_path / "map.json"
    assert main(["coverage", str(collection), "--out", str(out), "--json", str(data)]) == 0
    assert capsys.readouterr().out == f"{out}: 3 starts\n"
    assert cv2.imread(str(out)).shape[2] == 3
    plain = json.loads(data.read_text())
    assert sum(plain["counts"].values()) <= 3 and len(plain["low"]) == len(plain["shape"]) == 2
    kept = [ref for ref in Collection(collection).episodes() if ref.kept and ref.outcome.value == "success"]
    assert plain["seconds"] == pytest.approx([ref.info.duration_s for ref in kept], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ls", "nowhere"], "nowhere: no such collection"),
        (["fsck", "nowhere"], "nowhere: no such collection"),
        (["repair", "nowhere"], "nowhere: no such collection"),
        (["info", "nowhere"], "nowhere: no such episode"),
        (["play", "nowhere"], "nowhere: no such episode"),
        (["trash", "nowhere"], "no episode 'nowhere'"),
        (["coverage", "nowhere", "--out", "map.png"], "nowhere: no such collection"),
    ],
)
def test_what_is_not_there_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip().splitlines() == [captured.err.strip()]
    assert sentence in captured.err


def test_bad_input_gets_one_sentence(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = collection / ids(collection)[0]
    truncated = tmp_path / "cut.mcap"
    truncated.write_bytes((path / layout.MCAP_NAME).read_bytes()[:-50])
    foreign = tmp_path / "foreign.mcap"
    foreign.write_bytes(b"hello")
    for arguments, sentence in (
        (["info", str(truncated)], "repair recovers"),
        (["info", str(foreign)], "is not an MCAP file"),
        (["play", str(path), "--camera", "wrist"], "no camera 'wrist'"),
        (["restore", str(path)], "is not in the trash"),
        (["coverage", str(collection), "--out", str(tmp_path / "m.png"), "--cell", "-1"], "cells positive"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert sentence in err
        assert err.count("\n") == 1


def test_benchmark_measures_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--cell", "vla_rft_sim:towel_cell", "--seconds", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["attempt_s"] == 0.5
    assert result["megabytes"] > 1.0
    assert result["verdict_s"] > 0.0


@pytest.mark.parametrize("command", ["ls", "info", "fsck", "repair", "trash", "restore", "play", "coverage"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"python -m vla_rft_episodes {command}" in capsys.readouterr().out
