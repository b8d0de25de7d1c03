"""Parquet tables of a LeRobot v3.0 dataset from numpy arrays and back. Knows no folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_rft_episodes.lerobot.layout import Feature, LerobotError
from vla_rft_episodes.lerobot.stats import Stats

_INDEX = "__index_level_0__"
"""What pandas calls an index without a name; LeRobot keeps the prompts there."""


def to_bytes(table: pa.Table) -> bytes:
    """A parquet file; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy", version="2.6", use_dictionary=False)
    return bytes(sink.getvalue())


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise LerobotError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise LerobotError(f"{path}: not a parquet file that can be read ({' '.join(str(error).split())})") from None


def column_names(path: Path) -> list[str]:
    """Names of a file's columns, in order."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def read_table(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """A parquet file, or some of its columns; LerobotError when it is missing, no parquet, or lacks one."""
    with _opened(path) as file:
        names = file.schema_arrow.names
        for name in columns or ():
            if name not in names:
                raise LerobotError(f"{path}: has no column {name!r}; it has {', '.join(names)}")
        return file.read(columns=None if columns is None else list(columns))


def data_table(columns: Mapping[str, NDArray], features: Mapping[str, Feature]) -> pa.Table:
    """The rows of an episode, with the types that LeRobot's own loader (Hugging Face datasets) expects."""
    arrays, described = {}, {}
    for name, feature in features.items():
        if not feature.in_table:
            continue
        arrays[name] = _to_arrow(np.asarray(columns[name]), feature)
        value = {"dtype": feature.dtype, "_type": "Value"}
        single = feature.shape == (1,)
        described[name] = value if single else {"feature": value, "length": feature.shape[0], "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _to_arrow(values: NDArray, feature: Feature) -> pa.Array:
    kind = pa.string() if feature.dtype == "string" else pa.from_numpy_dtype(np.dtype(feature.dtype))
    if feature.shape == (1,):
        return pa.array(values, type=kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), type=kind), feature.shape[0])


def to_numpy(table: pa.Table, *, where: Path) -> dict[str, NDArray]:
    """(n,) or (n, d) per column; strings and whatever is no number as objects."""
    return {name: _to_numpy(table[name].combine_chunks(), f"{where}: {name}") for name in table.column_names}


def _to_numpy(array: pa.Array, where: str) -> NDArray:
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    if array.null_count:
        raise LerobotError(f"{where}: has {array.null_count} empty values")
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return array.to_numpy(zero_copy_only=False)
    values = _to_numpy(array.flatten(), where)
    if pa.types.is_fixed_size_list(kind):
        return values.reshape(len(array), kind.list_size, *values.shape[1:])
    lengths = set(np.unique(np.diff(array.offsets.to_numpy())).tolist()) or {0}
    if len(lengths) > 1:
        raise LerobotError(f"{where}: rows of different lengths {sorted(lengths)}")
    return values.reshape(len(array), lengths.pop(), *values.shape[1:])


def tasks_table(prompts: list[str]) -> pa.Table:
    """Prompts and their numbers as a pandas frame whose index is the prompt."""
    index = {"name": None, "field_name": _INDEX, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    column = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    described: dict[str, Any] = {
        "index_columns": [_INDEX],
        "column_indexes": [],
        "columns": [column | {"metadata": None}, index],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.0",
    }
    table = pa.table({"task_index": pa.array(range(len(prompts)), pa.int64()), _INDEX: pa.array(prompts, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def read_tasks(path: Path) -> list[str]:
    """The prompts by task_index; the column that holds them has had several names."""
    table = read_table(path)
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise LerobotError(f"{path}: expected task_index and one column of prompts, found {table.column_names}")
    by_index = dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))
    if sorted(by_index) != list(range(len(by_index))):
        raise LerobotError(f"{path}: task_index is {sorted(by_index)}, expected 0 to {len(by_index) - 1}")
    return [by_index[i] for i in range(len(by_index))]


def episode_table(row: Mapping[str, Any], stats: Mapping[str, Stats]) -> pa.Table:
    """One line of meta/episodes; statistics as columns `stats/<column>/<name>`."""
    columns = {name: pa.array([value]) for name, value in row.items()}
    for feature, values in stats.items():
        for name, value in values.items():
            columns[f"stats/{feature}/{name}"] = pa.array([value.tolist()])
    return pa.table(columns)
