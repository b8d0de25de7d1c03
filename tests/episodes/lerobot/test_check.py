"""check-dataset: what is right passes, each thing that is wrong is named."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_rft_episodes.lerobot import check, stats
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.lerobot.video import VideoEncoder

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


def change_column(path, name, change):
    table = pq.read_table(path / DATA)
    values = change(np.array(table[name].to_pylist()))
    column = pa.array(values.tolist(), type=table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path / DATA)


def shorten_video(path, data):
    images = data.frames(1, "front", range(5))
    (path / VIDEO).unlink()
    with VideoEncoder(path / VIDEO, fps=10) as encoder:
        for image in images:
            encoder.write(image)
        encoder.close()


def foreign_parquet(path, data):
    pq.write_table(pa.table({"price": [1.0, 2.0]}), path / DATA)


def more_columns(path, data):
    table = pq.read_table(path / DATA)
    pq.write_table(table.append_column("towel", pa.array([0.0] * len(table))), path / DATA)


def other_type(path, data):
    table = pq.read_table(path / DATA)
    position = table.column_names.index("stamp_ns")
    pq.write_table(
        table.set_column(position, "stamp_ns", table["stamp_ns"].cast(pa.float64(), safe=False)), path / DATA
    )


def edit(file, change):
    def edited(path, data):
        content = json.loads((path / file).read_text())
        change(content)
        (path / file).write_text(json.dumps(content))

    return edited


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (foreign_parquet, "has no column 'observation.state'; it has price"),
        (more_columns, "column 'towel' is not among the features of info.json"),
        (other_type, "'stamp_ns' is float64 (1,), info.json says int64 (1,)"),
        (lambda p, d: (p / DATA).unlink(), f"{DATA}: no such file"),
        (lambda p, d: (p / DATA).write_bytes((p / DATA).read_bytes()[:-9]), f"{DATA}: not a parquet file that can"),
        (lambda p, d: (p / VIDEO).unlink(), f"{VIDEO}: no such file"),
        (lambda p, d: (p / VIDEO).write_bytes(b"nothing"), f"{VIDEO}: not a video that can be read"),
        (shorten_video, "has 5 pictures for the 6 rows of episode 1"),
        (lambda p, d: change_column(p, "frame_index", lambda v: v + 1), "'frame_index' of episode 1 does not count up"),
        (lambda p, d: change_column(p, "index", lambda v: v * 0), "'index' of episode 1 does not count up from 5"),
        (
            lambda p, d: change_column(p, "timestamp", lambda v: v * 2),
            "timestamps of episode 1 are not frame_index / 10",
        ),
        (
            lambda p, d: change_column(p, "stamp_ns", lambda v: v[::-1]),
            "stamp_ns of episode 1 does not go by 100000000 ns",
        ),
        (lambda p, d: change_column(p, "action", lambda v: v * np.nan), "'action' has values that are not finite"),
        (lambda p, d: change_column(p, "action", lambda v: v + 1), "max of 'action' is"),
        (lambda p, d: change_column(p, "task_index", lambda v: v + 7), "task_index beyond the 1 known prompts"),
        (lambda p, d: change_column(p, "episode_index", lambda v: v + 1), "has 0 rows of episode 1, the index says 6"),
        (edit("meta/stats.json", lambda c: c["action"]["q99"].reverse()), "stats.json: q99 of 'action' is"),
        (edit("meta/stats.json", lambda c: c.pop("observation.images.front")), "has no statistics of 'observation.im"),
        (edit("meta/info.json", lambda c: c.update(total_frames=99)), "total_frames is 99, there are 11"),
        (edit("meta/info.json", lambda c: c["features"].pop("action.safe")), "feature 'action.safe' is None"),
        (edit("meta/provenance.json", lambda c: c["files"].pop(DATA)), f"{DATA}: is not in provenance.json"),
        (lambda p, d: (p / "meta/provenance.json").unlink(), "provenance.json: no such file"),
        (lambda p, d: (p / ".export").mkdir(), ".export: left by an interrupted export; run it again"),
    ],
)
def test_what_is_wrong_is_named(break_it, sentence, write, tmp_path, capsys):
    path = write(tmp_path / "a", "e1", "e2")
    break_it(path, Dataset.open(path))
    assert check.run(argparse.Namespace(dataset=path)) == 1
    assert sentence in capsys.readouterr().out


def test_a_whole_dataset_passes(write, tmp_path, capsys):
    path = write(tmp_path / "a", "e1", "e2")
    assert check.run(argparse.Namespace(dataset=path)) == 0
    assert capsys.readouterr().out == f"{path}: 2 episodes, 11 rows, 1 prompts, 1 cameras: all right\n"


def test_a_changed_byte_is_found_even_where_nothing_else_tells(write, tmp_path):
    path = write(tmp_path / "a", "e1")
    line = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(line)
    pq.write_table(table, line, compression="zstd")
    assert list(check.problems(Dataset.open(path))) == [f"{line}: was altered since it was exported"]


def test_statistics_are_those_of_numpy():
    random = np.random.default_rng(0)
    values = random.normal(size=(57, 3)).astype(np.float32)
    found = stats.of_column(values)
    np.testing.assert_allclose(found["mean"], values.astype(float).mean(0))
    np.testing.assert_allclose(found["std"], values.astype(float).std(0))
    np.testing.assert_allclose(found["q10"], np.quantile(values.astype(float), 0.1, axis=0))
    assert found["count"] == [57]
    images = random.integers(0, 256, (5, 16, 24, 3)).astype(np.uint8)
    images[..., 2] = 7
    of = stats.of_images(sum(stats.histogram(image) for image in images), 5)
    pixels = images[:, :: stats.PIXEL_STEP, :: stats.PIXEL_STEP].reshape(-1, 3) / 255.0
    for name, q in stats.QUANTILES.items():
        np.testing.assert_allclose(of[name].ravel(), np.quantile(pixels, q, axis=0), err_msg=name)
    np.testing.assert_allclose(of["mean"].ravel(), pixels.mean(0))
    np.testing.assert_allclose(of["std"].ravel(), pixels.std(0), atol=1e-9)
    assert of["max"].shape == (3, 1, 1)
