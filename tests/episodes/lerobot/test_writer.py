"""Writing datasets: the same bytes every time, old files untouched, nothing half done, wrong input refused."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from vla_rft_core.errors import SpecMismatchError
from vla_rft_episodes.lerobot import layout, writer
from vla_rft_episodes.lerobot.check import problems
from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.lerobot.writer import DatasetWriter

REWRITTEN = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/provenance.json", "meta/spec.yaml"}


def test_the_same_episodes_give_the_same_bytes(write, files, tmp_path):
    assert files(write(tmp_path / "a", "e1", "e2")) == files(write(tmp_path / "b", "e1", "e2"))


def test_adding_episodes_leaves_old_files_alone_and_equals_one_export_of_all(write, files, tmp_path):
    before = files(write(tmp_path / "a", "e1", "e2"))
    after = files(write(tmp_path / "a", "e3", prompt="unfold it"))
    for name, data in before.items():
        assert name in REWRITTEN or after[name] == data, name
    write(tmp_path / "b", "e1", "e2")
    assert after == files(write(tmp_path / "b", "e3", prompt="unfold it"))
    assert len(after) == len(before) + 3  # rows, video, line of the index
    assert Dataset.open(tmp_path / "a").tasks == ("fold the towel", "unfold it")
    assert list(problems(Dataset.open(tmp_path / "a"))) == []


def test_adding_nothing_changes_nothing(write, files, spec, tmp_path):
    before = files(write(tmp_path / "a", "e1"))
    with DatasetWriter(tmp_path / "a", spec=spec, fps=10) as again:
        again.commit({"name": "another version"})
    assert files(tmp_path / "a") == before


def test_an_exception_leaves_the_dataset_as_it_was(write, make_rows, files, spec, tmp_path):
    before = files(write(tmp_path / "a", "e1"))
    with (
        pytest.raises(LerobotError, match="e1 is there already"),
        DatasetWriter(tmp_path / "a", spec=spec, fps=10) as again,
    ):
        again.add(make_rows("e2"))
        again.add(make_rows("e1"))
    assert files(tmp_path / "a") == before
    with pytest.raises(LerobotError, match="has no row"), DatasetWriter(tmp_path / "new", spec=spec, fps=10) as new:
        rows = make_rows("e1")
        empty = {name: values[:0] for name, values in rows.columns.items()}
        new.add(replace(rows, columns=empty, videos={"front": replace(rows.videos["front"], frames=0)}))
    assert not (tmp_path / "new").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from vla_rft_episodes.lerobot import writer
left = int(sys.argv[2])
def killing(original):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    return call
Path.rename, writer.write_atomic = killing(Path.rename), killing(writer.write_atomic)
import pickle
spec, rows = pickle.loads(Path(sys.argv[3]).read_bytes())
with writer.DatasetWriter(Path(sys.argv[1]), spec=spec, fps=10) as added:
    for row in rows:
        added.add(row)
    added.commit({"name": "test"})
"""


@pytest.mark.parametrize("step", [0, 1, 3, 5, 6, 8, 10, 11])
def test_killed_at_any_step_the_old_dataset_stands_and_the_export_can_be_run_again(
    step, write, make_rows, files, spec, tmp_path
):
    path = write(tmp_path / "a", "e1")
    old = Dataset.open(path).columns(0)["action"].tobytes()
    rows = [make_rows("e2", length=6), make_rows("e3", length=7)]
    (tmp_path / "rows").write_bytes(pickle.dumps((spec, rows)))
    command = [sys.executable, "-c", KILLED, str(path), str(step), str(tmp_path / "rows")]
    code = subprocess.run(command, check=False).returncode
    # 6 files of two episodes are renamed, then 5 files about the whole are written
    assert code == (-signal.SIGKILL if step < 11 else 0)
    if step < 11:
        data = Dataset.open(path)
        assert len(data.episodes) == 1
        assert data.columns(0)["action"].tobytes() == old
        assert data.frames(0, "front", [0, 4]).shape == (2, 48, 64, 3)
        write(path, "e2", "e3")
    assert files(path) == files(write(tmp_path / "whole", "e1", "e2", "e3"))


def test_killed_in_the_very_first_export_it_can_be_run_again(write, make_rows, files, spec, tmp_path):
    (tmp_path / "rows").write_bytes(pickle.dumps((spec, [make_rows("e1", length=5)])))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a"), "4", str(tmp_path / "rows")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(LerobotError, match=r"info\.json: no such file"):
        Dataset.open(tmp_path / "a")
    assert files(write(tmp_path / "a", "e1")) == files(write(tmp_path / "b", "e1"))


def test_two_exports_at_once_are_refused(write, spec, make_rows, tmp_path):
    path = write(tmp_path / "a", "e1")
    with DatasetWriter(path, spec=spec, fps=10) as first:
        first.add(make_rows("e2", length=6))
        with pytest.raises(LerobotError, match="another export is writing there"):
            DatasetWriter(path, spec=spec, fps=10)
        first.commit({"name": "test"})
    assert len(Dataset.open(path).episodes) == 2


def test_a_folder_that_holds_something_else_is_left_alone(spec, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(LerobotError, match=r"neither empty nor a dataset \(it holds thesis\.tex\)"):
        DatasetWriter(tmp_path, spec=spec, fps=10)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_foreign_datasets_other_robots_and_other_rates_are_refused(write, spec, files, tmp_path):
    path = write(tmp_path / "a", "e1")
    before = files(path)
    with pytest.raises(SpecMismatchError, match=r"differs in tool\.mass"):
        DatasetWriter(path, spec=replace(spec, tool=replace(spec.tool, mass=2.0)), fps=10)
    with pytest.raises(LerobotError, match="has 10 rows per second, these episodes 20"):
        DatasetWriter(path, spec=spec, fps=20)
    with pytest.raises(ValueError, match="fps must be a whole number of at least 1, got 0"):
        DatasetWriter(path, spec=spec, fps=0)
    assert files(path) == before
    (path / layout.PROVENANCE).unlink()
    with pytest.raises(LerobotError, match="not exported from episodes"):
        DatasetWriter(path, spec=spec, fps=10)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c, v: (dict(c, action=c["action"][:, :6]), v), r"'action' has shape \(6,\), expected \(7,\)"),
        (lambda c, v: ({k: x for k, x in c.items() if k != "action"}, v), "column 'action' is missing"),
        (lambda c, v: (dict(c, stamp_ns=c["stamp_ns"][:-1]), v), "different lengths"),
        (lambda c, v: (c, {}), "video of camera 'front' is missing"),
        (lambda c, v: (dict(c, action=np.full_like(c["action"], np.nan)), v), "not finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, sentence, make_rows, spec, tmp_path):
    rows = make_rows("e1")
    columns, videos = change(rows.columns, rows.videos)
    with pytest.raises(LerobotError, match=sentence), DatasetWriter(tmp_path / "a", spec=spec, fps=10) as new:
        new.add(replace(rows, columns=columns, videos=videos))
    assert not (tmp_path / "a").exists()


def test_what_lerobot_wants_is_there(write, spec, tmp_path):
    path = write(tmp_path / "a", "e1", "e2")
    info = json.loads((path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 2, 11)
    assert info["splits"] == {"train": "0:2"}
    assert info["features"]["observation.images.front"]["info"]["video.codec"] == "h264"
    assert info["features"]["action"] == {"dtype": "float32", "shape": [7], "names": list(spec.action_layout)}
    rows = Dataset.open(path).columns(1)
    np.testing.assert_array_equal(rows["index"], np.arange(5, 11))
    np.testing.assert_array_equal(rows["next.done"], [False] * 5 + [True])
    np.testing.assert_array_equal(rows["next.success"], rows["next.done"])
    assert set(info["features"]) == set(layout.features_of(spec)) | set(layout.DEFAULT_FEATURES)
    assert writer.episode_files(layout.features_of(spec), 1001)[1] == "data/chunk-001/file-001.parquet"
    assert os.stat(path / "meta/stats.json").st_size > 0
