"""From decoded JSON to a frozen dataclass, strictly: every field present, none unknown, each of its type.

Understands what the dataclasses of this room use: str, int, bool, float, str enums, `X | None` and (nested) mappings
from str. Does not know any of them.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class SchemaError(ValueError):
    """The data do not fit the dataclass; the message names the field, the value received and what was expected."""


def parse(cls: type[T], data: object) -> T:
    """An instance of dataclass `cls` from a decoded JSON object."""
    if not isinstance(data, Mapping):
        raise SchemaError(f"expected a JSON object, got {data!r}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise SchemaError(f"unknown field {unknown[0]!r}; known: {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in data]:
        raise SchemaError(f"field {missing[0]!r} is missing")
    hints = get_type_hints(cls)
    try:
        return cls(**{name: _convert(name, value, hints[name]) for name, value in data.items()})
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(str(error)) from error


def _convert(name: str, value: Any, expected: Any) -> Any:
    """`value` as `expected`, or SchemaError naming `name`."""
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(expected) if option is not type(None)]
        return None if value is None else _convert(name, value, options[0])
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {str(k): _convert(f"{name}.{k}", v, get_args(expected)[1]) for k, v in value.items()}
    elif isinstance(expected, type) and issubclass(expected, StrEnum):
        options = [str(member) for member in expected]
        if value not in options:
            raise SchemaError(f"field {name!r} is {value!r}; known: {', '.join(options)}")
        return expected(value)
    elif expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, expected) and isinstance(value, bool) == (expected is bool):
        return value
    raise SchemaError(f"field {name!r} is {value!r}, expected {getattr(expected, '__name__', expected)}")
