"""Strict YAML <-> frozen dataclasses: each mistake in a file gets one sentence that names file, field and alternatives.

Knows nothing of what the fields mean; each dataclass checks its own values in `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Hashable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


def did_you_mean(name: str, known: list[str]) -> str:
    """ "; did you mean 'x'?" or the list of what exists, for the end of an error sentence."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


class _StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that names a field twice, where PyYAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f"field {name!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """A YAML mapping from disk; ValueError in one sentence when it is missing, not YAML or not a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a mapping at the top, found {type(content).__name__}")
    return content


def load(cls: type[T], path: Path) -> T:
    """An instance of a dataclass from a YAML file."""
    return from_mapping(cls, read_yaml(path), str(path))


def save(instance: Any, path: Path) -> None:
    """Write a dataclass as YAML; refuses to overwrite (FileExistsError)."""
    text = yaml.safe_dump(to_mapping(instance), sort_keys=False)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def from_mapping(cls: type[T], mapping: Any, where: str) -> T:
    """An instance of a dataclass from nested plain data; `where` opens every error sentence."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where}: expected a mapping with the fields of {cls.__name__}, found {mapping!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise ValueError(f"{where}: unknown field {key!r}{did_you_mean(str(key), list(fields))}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: field {name!r} is missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_mapping(value: Any) -> Any:
    """Plain YAML data (dicts, lists, scalars) of a dataclass tree."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if type(value) in arguments:
            return value
        kinds = [argument for argument in arguments if argument is not type(None)]
        return _convert(kinds[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where}: expected one of {', '.join(map(repr, arguments))}, found {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        return _convert_mapping(arguments, value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_mapping(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        members = [str(member) for member in kind]
        if value not in members:
            raise ValueError(f"{where}: expected one of {', '.join(map(repr, members))}, found {value!r}")
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where}: expected {kind.__name__}, found {value!r}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, found {value!r}")
    return value


def _convert_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, found {value!r}")
    of_key, of_item = arguments
    return {_convert(of_key, k, where): _convert(of_item, item, f"{where}[{k!r}]") for k, item in value.items()}


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: expected a list, found {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise ValueError(f"{where}: expected {len(arguments)} values, found {len(value)}")
    return tuple(
        _convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )
