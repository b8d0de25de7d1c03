"""Reading datasets: ours, and those of others with several episodes per file or pictures in the table."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_rft_episodes.lerobot import tables
from vla_rft_episodes.lerobot.check import problems
from vla_rft_episodes.lerobot.layout import LerobotError
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.lerobot.video import VideoEncoder

LENGTHS = (5, 8, 3)
FPS = 20


def grey(episode: int, row: int) -> np.ndarray:
    return np.full((48, 64, 3), 20 + 60 * episode + 5 * row, np.uint8)


@pytest.fixture(params=["video", "image"])
def foreign(request, tmp_path) -> Path:
    """A dataset as lerobot itself writes it: three episodes in one file, no spec, no provenance."""
    path, kind = tmp_path / "foreign", request.param
    for folder in ("meta/episodes/chunk-000", "data/chunk-000", "videos/observation.images.top/chunk-000"):
        (path / folder).mkdir(parents=True)
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        "action": {"dtype": "float32", "shape": [1], "names": ["a"]},
        "observation.images.top": {"dtype": kind, "shape": [48, 64, 3], "names": ["height", "width", "channels"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    } | {
        n: {"dtype": "int64", "shape": [1], "names": None}
        for n in ("frame_index", "episode_index", "index", "task_index")
    }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "panda",
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "fps": FPS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (path / "meta/info.json").write_text(json.dumps(info))
    (path / "meta/stats.json").write_text("{}")
    (path / "meta/tasks.parquet").write_bytes(tables.to_bytes(tables.tasks_table(["push", "pull"])))
    rows, index = [], []
    for episode, length in enumerate(LENGTHS):
        index.append(
            {
                "episode_index": episode,
                "tasks": [["push", "pull"][episode % 2]],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": 0,
                "dataset_from_index": len(rows),
            }
        )
        if kind == "video":
            key = "videos/observation.images.top"
            index[-1] |= {f"{key}/chunk_index": 0, f"{key}/file_index": 0}
            index[-1] |= {f"{key}/from_timestamp": len(rows) / FPS, f"{key}/to_timestamp": (len(rows) + length) / FPS}
        for row in range(length):
            rows.append(
                {
                    "observation.state": [float(episode), float(row)],
                    "action": 0.5,
                    "timestamp": row / FPS,
                    "frame_index": row,
                    "episode_index": episode,
                    "index": len(rows),
                    "task_index": episode % 2,
                }
            )
            if kind == "image":
                rows[-1]["observation.images.top"] = {"bytes": cv2.imencode(".png", grey(episode, row))[1].tobytes()}
    types = {"observation.state": pa.list_(pa.float32()), "action": pa.float32(), "timestamp": pa.float32()}
    table = pa.Table.from_pylist(rows)
    for name, type_ in types.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(type_))
    pq.write_table(table, path / "data/chunk-000/file-000.parquet", row_group_size=7)
    pq.write_table(pa.Table.from_pylist(index), path / "meta/episodes/chunk-000/file-000.parquet")
    if kind == "video":
        with VideoEncoder(path / "videos/observation.images.top/chunk-000/file-000.mp4", fps=FPS) as encoder:
            for episode, length in enumerate(LENGTHS):
                for row in range(length):
                    encoder.write(grey(episode, row))
            encoder.close()
    return path


def test_foreign_datasets_are_read_by_episode_and_row(foreign):
    data = Dataset.open(foreign)
    assert (data.spec, data.fps, data.cameras, data.tasks) == (None, FPS, ("top",), ("push", "pull"))
    assert data.features["observation.state"].names == ("a", "b")
    assert len(data) == sum(LENGTHS)
    for episode, length in enumerate(LENGTHS):
        columns = data.columns(episode)
        expected = np.array([[episode, row] for row in range(length)], dtype=np.float32)
        np.testing.assert_array_equal(columns["observation.state"], expected)
        assert "observation.images.top" not in columns
        assert data.prompts(episode) == [["push", "pull"][episode % 2]] * length
        wanted = [length - 1, 0, 1, 0]
        images = data.frames(episode, "top", wanted)
        assert images.shape == (4, 48, 64, 3)
        for image, row in zip(images, wanted, strict=True):
            assert abs(int(image.mean()) - int(grey(episode, row)[0, 0, 0])) <= 2


def test_statistics_that_a_foreign_dataset_lacks_are_named(foreign):
    wrong = list(problems(Dataset.open(foreign)))
    assert [sentence.rpartition(": ")[2] for sentence in wrong] == [
        "has no statistics of 'observation.state'",
        "has no statistics of 'action'",
    ]


def test_frames_in_any_order_are_those_of_the_row(write, tmp_path):
    data = Dataset.open(write(tmp_path / "a", "e1", "e2"))
    in_order = data.frames(1, "front", range(6))
    shuffled = np.random.default_rng(0).permutation(6)
    np.testing.assert_array_equal(data.frames(1, "front", shuffled), in_order[shuffled])
    np.testing.assert_array_equal(data.frames(1, "front", [5, 5]), in_order[[5, 5]])
    assert data.frames(1, "front", []).shape == (0, 48, 64, 3)
    assert len({image.tobytes() for image in in_order}) == 6


def frames_in_child(data: Dataset, queue: multiprocessing.Queue) -> None:
    queue.put([data.frames(0, "front", [row]).tobytes() for row in (4, 0, 3)])


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_other_processes_open_their_own_files(how, write, tmp_path):
    data = Dataset.open(write(tmp_path / "a", "e1"))
    here = [data.frames(0, "front", [row]).tobytes() for row in (4, 0, 3)]
    context = multiprocessing.get_context(how)
    queue = context.Queue()
    child = context.Process(target=frames_in_child, args=(data, queue))
    child.start()
    assert queue.get(timeout=60) == here
    child.join(60)
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.columns(0)["action"], data.columns(0)["action"])


def test_columns_cannot_be_written_to(write, tmp_path):
    columns = Dataset.open(write(tmp_path / "a", "e1")).columns(0)
    with pytest.raises(ValueError, match="read-only"):
        columns["action"][0] = 1.0


def test_what_is_not_there_is_refused_by_name(write, tmp_path):
    data = Dataset.open(write(tmp_path / "a", "e1"))
    with pytest.raises(LerobotError, match="no episode 1, there are 1"):
        data.columns(1)
    with pytest.raises(LerobotError, match="no camera 'fromt'; did you mean 'front'"):
        data.frames(0, "fromt", [0])
    with pytest.raises(LerobotError, match="no row 5 in episode 0, it has 5"):
        data.frames(0, "front", [5])


def edit_info(path: Path, **changes: object) -> None:
    where = path / "meta/info.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | changes))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda p: edit_info(p, fps=0), r"info\.json: fps must be a whole number of at least 1, found 0"),
        (lambda p: edit_info(p, codebase_version="v2.1"), r"codebase_version is 'v2\.1', this software reads 'v3\.0'"),
        (lambda p: edit_info(p, total_episodes=3), "says nothing of episode 2 of 3"),
        (lambda p: edit_info(p, features={"action": {}}), r"info\.json: malformed \(KeyError: 'dtype'\)"),
        (lambda p: (p / "meta/info.json").write_text("{"), r"info\.json: not valid JSON"),
        (lambda p: (p / "meta/info.json").unlink(), r"info\.json: no such file"),
        (lambda p: (p / "meta/tasks.parquet").write_bytes(b"PAR1"), r"tasks\.parquet: not a parquet file"),
    ],
)
def test_broken_descriptions_are_refused_in_one_sentence(break_it, sentence, write, tmp_path):
    path = write(tmp_path / "a", "e1", "e2")
    break_it(path)
    with pytest.raises(LerobotError, match=sentence) as caught:
        Dataset.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
