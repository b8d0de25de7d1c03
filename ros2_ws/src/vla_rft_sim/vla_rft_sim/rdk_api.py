"""What a module of the vendor's kind exports, as plain facts in one notation, from whatever source.

Sources: the table of this package, a dump of the library's own documentation (JSON), the library imported here, and
the stand-in. `compare` names every difference. The notation is that of `rdk_api_1_9_4.yaml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

TABLE = "rdk_api_1_9_4.yaml"
_REPLACED = (
    ("flexivrdk._flexivrdk.", ""),
    ("collections.abc.", ""),
    ("typing.", ""),
    ("SupportsFloat | SupportsIndex", "float"),
    ("SupportsInt | SupportsIndex", "int"),
)
_FIXED = re.compile(r'Annotated\[(?:Sequence|list)\[([^\[\]]*)\], "FixedSize\((\d+)\)"\]')
_ANY = re.compile(r"(?:Sequence|list)\[([^\[\]]*(?:\[\])?)\]")
_MAP = re.compile(r"(?:Mapping|dict)\[")
_VALUE = "int | float | str | JPos | Coord | int[] | float[] | str[] | JPos[] | Coord[]"


def notation(text: str) -> str:
    """A signature or type in our notation."""
    for long, short in _REPLACED:
        text = text.replace(long, short)
    text = _ANY.sub(r"\1[]", _ANY.sub(r"\1[]", _FIXED.sub(r"\1[\2]", text)))
    return _MAP.sub("map[", text).replace(_VALUE, "value")


def _without_self(signature: str) -> str:
    """`Stop(self: Robot) -> None` as `() -> None`."""
    return re.sub(r"^\w*\(self: [\w.]+(, )?", "(", notation(signature.strip()))


@dataclass(frozen=True)
class Api:
    """Names to facts: "Robot.Stop" to its signatures, "RobotInfo.DoF" to type and default, "Mode.IDLE" to its value."""

    facts: Mapping[str, Any]
    names: frozenset[str]
    """Classes, structs and enums of the module, the ones left out included."""
    left_out: frozenset[str] = frozenset()


def from_table() -> Api:
    """The table of this package."""
    table = yaml.safe_load(resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    facts: dict[str, Any] = {}
    for cls, methods in table["classes"].items():
        for name, lines in methods.items():
            facts[f"{cls}.{name}"] = [lines] if isinstance(lines, str) else lines
    for struct, content in table["structs"].items():
        facts[f"{struct}.__init__"] = content["init"]
        facts |= {f"{struct}.{name}": tuple(field) for name, field in content["fields"].items()}
    facts |= {f"{enum}.{name}": value for enum, members in table["enums"].items() for name, value in members.items()}
    left_out = frozenset(table["not_implemented"])
    return Api(facts, frozenset([*table["classes"], *table["structs"], *table["enums"]]) | left_out, left_out)


def from_dump(path: Path) -> Api:
    """A dump of the library's documentation: classes, enums and structs with signatures, members and fields."""
    dump = json.loads(path.read_text(encoding="utf-8"))
    facts: dict[str, Any] = {}
    for cls, content in [*dump["classes"].items(), *dump["structs"].items()]:
        for name, method in content["methods"].items():
            if name == "__init__" or not name.startswith("__"):
                facts[f"{cls}.{name}"] = [_without_self(line) for line in method["signatures"]]
        for name, field in content["fields"].items():
            facts[f"{cls}.{name}"] = notation(field["getter"].split("-> ")[1]), field.get("default")
    for enum, content in dump["enums"].items():
        facts |= {f"{enum}.{name}": value for name, value in content["members"].items()}
    return Api(facts, frozenset([*dump["classes"], *dump["structs"], *dump["enums"]]))


def from_module(module: Any) -> Api:
    """The library itself, or the stand-in."""
    facts: dict[str, Any] = {}
    names = {name for name in dir(module) if isinstance(getattr(module, name), type)}
    for name in names:
        facts |= _facts_of(getattr(module, name), name)
    return Api(facts, frozenset(names))


def _facts_of(cls: Any, owner: str) -> dict[str, Any]:
    if hasattr(cls, "__members__"):
        return {f"{owner}.{name}": int(member) for name, member in cls.__members__.items()}
    facts: dict[str, Any] = {}
    for name in dir(cls):
        if name.startswith("_") and name != "__init__":
            continue
        attribute = getattr(cls, name)
        if isinstance(attribute, type):
            continue
        signatures = list(_signatures(attribute))
        if signatures:
            facts[f"{owner}.{name}"] = signatures
        else:
            facts[f"{owner}.{name}"] = _field_type(attribute), repr(getattr(cls(), name))
    return facts


def _signatures(attribute: Any) -> Iterator[str]:
    """Of a method: our own know theirs, the library's write them into their documentation."""
    if hasattr(attribute, "signature_lines"):
        yield from map(_without_self, attribute.signature_lines)
    elif callable(attribute):
        for line in (attribute.__doc__ or "").splitlines():
            if re.match(rf"(\d+\. )?{attribute.__name__}\(self: ", line):
                yield _without_self(line.split(". ", 1)[-1] if line[0].isdigit() else line)


def _field_type(attribute: Any) -> str:
    if hasattr(attribute, "kind"):
        return notation(attribute.kind.returns)
    return notation(attribute.fget.__doc__.strip().split("-> ")[1])


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same in both."""

    name: str
    expected: Any
    found: Any


def compare(expected: Api, found: Api, *, left_out: frozenset[str]) -> list[Difference]:
    """Every difference, save the classes that are left out; facts that `expected` gives no default for count equal."""
    differences = []
    for name in sorted({*expected.facts, *found.facts}):
        if name.partition(".")[0] in left_out:
            continue
        one, other = expected.facts.get(name), found.facts.get(name)
        if isinstance(one, tuple) and isinstance(other, tuple) and one[1] is None:
            one, other = one[0], other[0]
        if one != other:
            differences.append(Difference(name, one, other))
    for name in sorted((expected.names ^ found.names) - left_out):
        differences.append(Difference(name, name in expected.names, name in found.names))
    return differences
