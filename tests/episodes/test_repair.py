"""Attempts cut off anywhere, and at every step of finishing: what is recovered, what is lost, and that it is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_rft_core import manifest
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.errors import ManifestError
from vla_rft_episodes import channels, layout
from vla_rft_episodes.attempt import State, examine
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.fsck import Kind, fsck
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import REPAIR_PREFIX, repair_attempt
from vla_rft_episodes.salvage import Salvage
from vla_rft_episodes.synthetic import SyntheticConfig, synthetic_info, synthetic_messages
from vla_rft_episodes.writer import EpisodeWriter


@pytest.fixture(scope="module")
def cell() -> CellFolder:
    return find_cell("vla_rft_sim:towel_cell")


def open_attempt(collection: Path, cell: CellFolder) -> EpisodeWriter:
    """An attempt with two seconds of messages, all of them written but for the newest half second."""
    settings = SyntheticConfig(duration_s=2.0)
    writer = EpisodeWriter.create(collection, synthetic_info(cell, settings), cell=cell)
    for message in synthetic_messages(cell, settings):
        writer.write(message.channel, message.data, stamp_ns=message.stamp_ns, received_ns=message.received_ns)
    return writer


@pytest.fixture(scope="module")
def abandoned(tmp_path_factory: pytest.TempPathFactory, cell: CellFolder) -> Path:
    """The folder of an attempt whose recorder died; copy it before changing it."""
    writer = open_attempt(tmp_path_factory.mktemp("abandoned"), cell)
    writer.abandon()
    return writer.path


def copied(folder: Path, collection: Path, *, size: int | None = None) -> Path:
    """A copy of an open attempt in another collection, its file cut to `size` bytes."""
    target = collection / folder.name
    shutil.copytree(folder, target)
    if size is not None:
        with (target / layout.MCAP_NAME).open("r+b") as file:
            file.truncate(size)
    return target


def contents(path: Path) -> list[tuple[str, int, int, bytes]]:
    return [(m.channel.topic, m.stamp_ns, m.received_ns, m.data) for m in Episode.open(path).messages()]


def test_what_is_recovered_is_what_was_recorded(tmp_path: Path, cell: CellFolder, abandoned: Path) -> None:
    folder = copied(abandoned, tmp_path)
    before = (folder / layout.MCAP_NAME).read_bytes()
    found = fsck(tmp_path)
    assert [finding.kind for finding in found.findings] == [Kind.TRUNCATED]
    assert not found.clean

    done = repair_attempt(folder)

    assert done.path is not None
    recorded = [(m.channel.topic, m.stamp_ns, m.received_ns, m.data) for m in synthetic_messages(cell, SETTINGS)]
    recovered = contents(done.path)
    assert sorted(recovered) == sorted(recorded[: len(recovered)])
    assert recorded[-1][2] - recovered[-1][2] <= 1_000_000_000
    assert (folder / layout.MCAP_NAME).read_bytes() == before
    assert f"recovered {len(recovered)} messages" in done.describe()


SETTINGS = SyntheticConfig(duration_s=2.0)


def test_a_repaired_episode_is_like_any_other(tmp_path: Path, abandoned: Path) -> None:
    folder = copied(abandoned, tmp_path)
    done = repair_attempt(folder)
    assert done.path == tmp_path / abandoned.name.removeprefix(layout.OPEN_PREFIX)
    manifest.verify(done.path, kind=layout.KIND)
    episode = Episode.open(done.path)
    assert episode.info.termination_reason.startswith("repaired: lost are 0 bytes")
    assert episode.info.prompt == "fold the towel in half"
    assert episode.info.ended_ns > episode.info.started_ns
    assert dict(episode.info.messages) == {channel.topic: count for channel, count in episode.counts.items()}
    assert episode.info.verdict is not None
    assert any("it did not end as usual: repaired" in reason for reason in episode.info.verdict.reasons)
    assert set(episode.attachments()) == {"spec.yaml", "calibration.yaml", "safety.yaml", "motion.yaml"}
    assert len(list(episode.robot_states())) == episode.info.messages[channels.ROBOT_STATE.topic]

    after = fsck(tmp_path)
    assert after.clean
    assert after.intact == (episode.info.id,)
    assert [finding.kind for finding in after.findings] == [Kind.REPAIRED]
    assert repair_attempt(folder).path is None


def test_cut_at_any_byte(tmp_path: Path, abandoned: Path) -> None:
    """However much of the file there is: never fewer messages than with less of it, and never a wrong one."""
    size = (abandoned / layout.MCAP_NAME).stat().st_size
    full = _messages(abandoned / layout.MCAP_NAME)
    last = 0
    cut = tmp_path / "cut.mcap"
    data = (abandoned / layout.MCAP_NAME).read_bytes()
    for length in [*range(0, 64), *range(64, size, 97), size]:
        cut.write_bytes(data[:length])
        salvage = Salvage(cut)
        messages = [record for record in salvage.records() if type(record).__name__ == "Message"]
        assert [m.data for m in messages] == [m.data for m in full[: len(messages)]]
        assert len(messages) >= last
        assert not salvage.complete
        assert 0 <= salvage.lost_bytes <= length
        last = len(messages)
    assert last == len(full)


def _messages(path: Path) -> list:
    return [record for record in Salvage(path).records() if type(record).__name__ == "Message"]


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9, 0.97])
def test_cut_within_a_chunk(tmp_path: Path, abandoned: Path, share: float) -> None:
    size = int(share * (abandoned / layout.MCAP_NAME).stat().st_size)
    folder = copied(abandoned, tmp_path, size=size)
    attempt = examine(folder)
    assert attempt.state is State.TRUNCATED
    assert attempt.lost_bytes < size
    done = repair_attempt(folder)
    assert done.path is not None
    info = Episode.open(done.path).info
    assert sum(info.messages.values()) == attempt.messages
    assert info.extra["repaired_lost_bytes"] == attempt.lost_bytes
    assert fsck(tmp_path).clean


@pytest.mark.parametrize("size", [0, 5, 30, 300])
def test_cut_before_the_first_message(tmp_path: Path, abandoned: Path, size: int) -> None:
    folder = copied(abandoned, tmp_path, size=size)
    assert examine(folder).state is State.EMPTY
    done = repair_attempt(folder)
    assert done.path is None
    assert "nothing to repair" in done.describe()
    report = fsck(tmp_path)
    assert report.clean
    assert [finding.kind for finding in report.findings] == [Kind.EMPTY]


def test_a_chunk_altered_on_the_disk_is_left_out(tmp_path: Path, abandoned: Path) -> None:
    folder = copied(abandoned, tmp_path)
    path = folder / layout.MCAP_NAME
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    intact = len(_messages(abandoned / layout.MCAP_NAME))
    done = repair_attempt(folder)
    assert done.path is not None
    assert 0 < sum(Episode.open(done.path).info.messages.values()) < intact
    assert done.attempt.lost_bytes > 0


# --- dying while finishing ------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def die(*_: object, **__: object) -> None:
    raise Killed


def die_with_half_a_manifest(folder: Path, **_: object) -> None:
    (folder / f".{manifest.FILE_NAME}.4711").write_text('{"kind": "epis', encoding="utf-8")
    raise Killed


@pytest.mark.parametrize(
    ("where", "how", "state"),
    [
        ("vla_rft_episodes.writer.write_manifest", die, State.NO_MANIFEST),
        ("vla_rft_episodes.writer.write_manifest", die_with_half_a_manifest, State.NO_MANIFEST),
        ("vla_rft_episodes.writer.sync", die, State.NOT_RENAMED),
    ],
)
def test_dying_while_finishing_loses_nothing(
    tmp_path: Path,
    cell: CellFolder,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    how: Callable[..., None],
    state: State,
) -> None:
    writer = open_attempt(tmp_path, cell)
    with monkeypatch.context() as patch:
        patch.setattr(where, how)
        with pytest.raises(Killed):
            writer.finish(ended_ns=writer.info.started_ns + 2_000_000_000, termination_reason="operator stop")
    assert examine(writer.path).state is state
    assert [finding.kind for finding in fsck(tmp_path).findings] == [Kind.UNFINISHED]

    done = repair_attempt(writer.path)

    assert done.path is not None
    assert done.describe() == f"{done.path.name}: finished, nothing is lost"
    assert not writer.path.exists()
    manifest.verify(done.path, kind=layout.KIND)
    assert [path.name for path in sorted(done.path.iterdir())] == [layout.MCAP_NAME, manifest.FILE_NAME]
    info = Episode.open(done.path).info
    assert info.termination_reason == "operator stop"
    assert sum(info.messages.values()) == len(list(synthetic_messages(cell, SETTINGS)))
    assert fsck(tmp_path).findings == ()


def test_dying_while_repairing_loses_nothing(tmp_path: Path, abandoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(abandoned, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("vla_rft_episodes.repair.manifest.write_manifest", die)
        with pytest.raises(Killed):
            repair_attempt(folder)
    assert (tmp_path / f"{REPAIR_PREFIX}{abandoned.name.removeprefix(layout.OPEN_PREFIX)}").is_dir()
    kinds = {finding.kind for finding in fsck(tmp_path).findings}
    assert kinds == {Kind.TRUNCATED, Kind.UNFINISHED}
    assert repair_attempt(folder).path is not None
    assert fsck(tmp_path).clean


# --- refusals -------------------------------------------------------------------------------------------------


def test_a_living_recorder_is_left_alone(tmp_path: Path, cell: CellFolder) -> None:
    writer = open_attempt(tmp_path, cell)
    with pytest.raises(EpisodeError, match="is being recorded"):
        repair_attempt(writer.path)
    report = fsck(tmp_path)
    assert report.clean
    assert [finding.kind for finding in report.findings] == [Kind.RECORDING]
    writer.abandon()


def test_nothing_is_overwritten(tmp_path: Path, abandoned: Path) -> None:
    folder = copied(abandoned, tmp_path)
    target = tmp_path / abandoned.name.removeprefix(layout.OPEN_PREFIX)
    target.mkdir()
    (target / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(EpisodeError, match="exists already and is not overwritten"):
        repair_attempt(folder)
    assert [path.name for path in target.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("text", [b"not an MCAP file at all", b"\x89PNG\r\n"])
def test_a_foreign_file_is_refused(tmp_path: Path, abandoned: Path, text: bytes) -> None:
    folder = tmp_path / abandoned.name
    folder.mkdir()
    (folder / layout.MCAP_NAME).write_bytes(text)
    with pytest.raises(EpisodeError, match="is not an MCAP file"):
        repair_attempt(folder)
    assert [finding.kind for finding in fsck(tmp_path).findings] == [Kind.FOREIGN]


def test_a_finished_episode_is_no_open_attempt(tmp_path: Path, abandoned: Path) -> None:
    done = repair_attempt(copied(abandoned, tmp_path))
    assert done.path is not None
    with pytest.raises(EpisodeError, match="is not the folder of an open attempt"):
        repair_attempt(done.path)


def test_a_changed_original_is_no_longer_the_repaired_one(tmp_path: Path, abandoned: Path) -> None:
    folder = copied(abandoned, tmp_path)
    repair_attempt(folder)
    with (folder / layout.MCAP_NAME).open("ab") as file:
        file.write(b"more")
    assert [finding.kind for finding in fsck(tmp_path).findings] == [Kind.DUPLICATE]


def test_manifest_of_a_truncated_copy_does_not_pass(tmp_path: Path, cell: CellFolder) -> None:
    """A finished episode whose file was cut afterwards is never mistaken for a whole one."""
    writer = open_attempt(tmp_path, cell)
    path = writer.finish(ended_ns=writer.info.started_ns + 2_000_000_000, termination_reason="operator stop")
    with (path / layout.MCAP_NAME).open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(ManifestError):
        manifest.verify(path, kind=layout.KIND)
    assert [finding.kind for finding in fsck(tmp_path).findings] == [Kind.ALTERED]
