"""YAML launch file → `LaunchFile`. Takes a subset of upstream's keys, each with upstream's type; refuses the rest.

Upstream reads `default: 3` or `if: true` as a type error because it wants text there; so does this parser, so that a
file that passes here passes there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .model import (
    Action,
    Argument,
    Condition,
    Group,
    Include,
    LaunchError,
    LaunchFile,
    Let,
    Param,
    ParamFile,
    Process,
    Template,
    alternatives,
    text_of,
)
from .template import parse_template

PARAM_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
OUTPUTS = ("screen", "log", "both")


def read_launch_file(path: Path) -> LaunchFile:
    """Parse one file; the error names the file and the place in it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LaunchError(f"cannot read launch file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or list(document) != ["launch"] or not isinstance(document["launch"], list):
        raise LaunchError(f"{path}: expected one top-level key 'launch' holding a list")
    return LaunchFile(path=path, actions=_actions(document["launch"], Place(path, "launch")))


@dataclass(frozen=True)
class Place:
    """Where in which file, for messages: `demo.launch.yaml: launch[3].node.param[0]`."""

    path: Path
    where: str

    def __truediv__(self, step: str) -> Place:
        return Place(self.path, f"{self.where}{step}")

    def error(self, message: str) -> LaunchError:
        return LaunchError(f"{self.path}: {self.where}: {message}")


class Fields:
    """The keys of one entity, each read once and with its type; `done` refuses keys that nobody read."""

    def __init__(self, entity: object, place: Place) -> None:
        if not isinstance(entity, dict):
            raise place.error(f"expected keys and values, got {entity!r}")
        self.entity: dict[Any, Any] = entity
        self.place = place
        self.known: list[str] = []

    def get(self, key: str, kind: type, default: Any = None, *, wanted: str = "") -> Any:
        self.known.append(key)
        if key not in self.entity:
            return default
        value = self.entity[key]
        if not isinstance(value, kind):
            hint = "text (put it in quotes)" if kind is str else wanted or kind.__name__
            raise self.place.error(f"'{key}' must be {hint}, got {value!r}")
        return value

    def required(self, key: str) -> str:
        value = self.get(key, str)
        if value is None:
            raise self.place.error(f"'{key}' is missing")
        return str(value)

    def template(self, key: str) -> Template | None:
        value = self.get(key, str)
        return None if value is None else self._parsed(key, value)

    def required_template(self, key: str) -> Template:
        return self._parsed(key, self.required(key))

    def _parsed(self, key: str, value: str) -> Template:
        try:
            return parse_template(value)
        except LaunchError as error:
            raise self.place.error(f"'{key}': {error}") from None

    def condition(self) -> Condition | None:
        wanted, unwanted = self.template("if"), self.template("unless")
        if wanted and unwanted:
            raise self.place.error("'if' and 'unless' cannot stand together")
        template = wanted or unwanted
        return None if template is None else Condition(template=template, negated=unwanted is not None)

    def children(self, key: str) -> list[Fields]:
        """A non-empty list of entities under `key`, or nothing."""
        items = self.get(key, list, [], wanted="a list")
        if key in self.entity and not items:
            raise self.place.error(f"'{key}' is an empty list; leave it out")
        return [Fields(item, self.place / f".{key}[{index}]") for index, item in enumerate(items)]

    def pairs(self, key: str, first: str, second: str) -> tuple[tuple[Template, Template], ...]:
        pairs = []
        for item in self.children(key):
            pairs.append((item.required_template(first), item.required_template(second)))
            item.done()
        return tuple(pairs)

    def done(self) -> None:
        for key in self.entity:
            if key not in self.known:
                raise self.place.error(f"unknown key '{key}'{alternatives(str(key), self.known)}")


def _actions(items: list[object], place: Place) -> tuple[Action, ...]:
    actions = []
    for index, item in enumerate(items):
        here = place / f"[{index}]"
        if not isinstance(item, dict) or len(item) != 1:
            raise here.error(f"expected one action, one of {', '.join(sorted(_PARSERS))}; got {item!r}")
        ((kind, entity),) = item.items()
        if kind not in _PARSERS:
            raise here.error(f"unknown action '{kind}'{alternatives(str(kind), _PARSERS)}")
        actions.append(_PARSERS[kind](entity, here / f".{kind}"))
    return tuple(actions)


def _argument(entity: object, place: Place) -> Argument:
    fields = Fields(entity, place)
    choices = []
    for choice in fields.children("choice"):
        choices.append(choice.required("value"))
        choice.done()
    argument = Argument(
        condition=fields.condition(),
        name=fields.required("name"),
        default=fields.template("default"),
        description=fields.get("description", str, ""),
        choices=tuple(choices),
    )
    fields.done()
    return argument


def _let(entity: object, place: Place) -> Let:
    fields = Fields(entity, place)
    let = Let(
        condition=fields.condition(),
        name=fields.required_template("name"),
        value=fields.required_template("value"),
    )
    fields.done()
    return let


def _node(entity: object, place: Place) -> Process:
    fields = Fields(entity, place)
    node = Process(
        **_common(fields),
        package=fields.required_template("pkg"),
        executable=fields.required_template("exec"),
        namespace=fields.template("namespace"),
        args=fields.template("args") or (),
        params=tuple(_param(item) for item in fields.children("param")),
        remaps=fields.pairs("remap", "from", "to"),
    )
    fields.done()
    return node


def _executable(entity: object, place: Place) -> Process:
    fields = Fields(entity, place)
    if fields.get("shell", bool, False, wanted="false"):
        raise place.error("'shell: true' is not supported; write the command as one program and its arguments")
    process = Process(**_common(fields), command=fields.required_template("cmd"))
    fields.done()
    return process


def _common(fields: Fields) -> dict[str, Any]:
    """What `node` and `executable` share."""
    on_exit = fields.get("on_exit", str)
    if on_exit not in (None, "shutdown"):
        raise fields.place.error(f"'on_exit' can only be 'shutdown', got '{on_exit}'")
    output = fields.template("output") or ("log",)
    if isinstance(output[0], str) and text_of(output) not in OUTPUTS:
        raise fields.place.error(f"'output' must be one of {', '.join(OUTPUTS)}, got '{text_of(output)}'")
    return {
        "condition": fields.condition(),
        "name": fields.template("name"),
        "env": fields.pairs("env", "name", "value"),
        "output": output,
        "required": on_exit == "shutdown",
        "emulate_tty": fields.get("emulate_tty", bool, False, wanted="true or false"),
    }


def _param(fields: Fields) -> Param | ParamFile:
    if (path := fields.template("from")) is not None:
        fields.done()
        return ParamFile(path=path)
    name = fields.required_template("name")
    kind = fields.get("type", str)
    if kind is not None and kind not in PARAM_TYPES:
        raise fields.place.error(f"unknown parameter type '{kind}'{alternatives(kind, PARAM_TYPES)}")
    value = fields.get("value", object)
    fields.done()
    if value is None:
        raise fields.place.error("'value' is missing; a parameter has 'name' and 'value', or 'from'")
    typed = _typed_value(value, fields.place)
    substituted = isinstance(typed, tuple) and not all(isinstance(part, str) for part in typed)
    if kind and not substituted and not isinstance(value, PARAM_TYPES[kind]):
        raise fields.place.error(f"'value' must be of type {kind}, got {value!r}")
    return Param(name=name, value=typed, type=kind)


def _typed_value(value: object, place: Place) -> object:
    """Templates for text, scalars as they are; a list holds one kind of either."""
    if isinstance(value, list):
        if not value or len({type(item) for item in value}) > 1:
            raise place.error(f"a parameter's list must hold values of one type and not be empty, got {value!r}")
        return [_typed_value(item, place) for item in value]
    if isinstance(value, str):
        try:
            return parse_template(value)
        except LaunchError as error:
            raise place.error(f"'value': {error}") from None
    if not isinstance(value, bool | int | float):
        raise place.error(f"a parameter is text, a number, true/false or a list of one of them, got {value!r}")
    return value


def _include(entity: object, place: Place) -> Include:
    fields = Fields(entity, place)
    include = Include(
        condition=fields.condition(),
        file=fields.required_template("file"),
        args=fields.pairs("arg", "name", "value"),
    )
    fields.done()
    return include


def _group(entity: object, place: Place) -> Group:
    if isinstance(entity, list):
        return Group(condition=None, actions=_actions(entity, place), scoped=True)
    fields = Fields(entity, place)
    children = fields.get("children", list, wanted="a list")
    if children is None:
        raise place.error(
            "'children' is missing: a group has a list of actions, or 'if'/'unless'/'scoped' and 'children'"
        )
    group = Group(
        condition=fields.condition(),
        actions=_actions(children, place / ".children"),
        scoped=fields.get("scoped", bool, True, wanted="true or false"),
    )
    fields.done()
    return group


_PARSERS: dict[str, Callable[[object, Place], Action]] = {
    "arg": _argument,
    "let": _let,
    "node": _node,
    "executable": _executable,
    "include": _include,
    "group": _group,
}
