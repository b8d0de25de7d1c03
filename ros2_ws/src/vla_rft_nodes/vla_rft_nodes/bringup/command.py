"""A process's command line: words, typed parameters, and what becomes of them behind `--ros-args`."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path

import yaml

from . import find
from .model import LaunchError, Param, Process, Substitution, Template, text_of
from .template import Scope, expand


def node_argv(node: Process, scope: Scope) -> list[str]:
    """`…/lib/pkg/exec args --ros-args -r __node:=… -r __ns:=… [-p …|--params-file …] -r from:=to`, in upstream's order.

    Upstream passes single parameters in temporary files; `-p` means the same and can be read in the process table. (One
    difference: upstream addresses them to `/ns/name` when a node has both, `-p` always to `/**`. Parameter files that
    use the key `/**` never notice.)
    """
    argv = [str(find.package_executable(expand(node.package or (), scope), expand(node.executable or (), scope)))]
    argv += split_command(node.args, scope)
    argv.append("--ros-args")
    if node.name:
        argv += ["-r", f"__node:={expand(node.name, scope)}"]
    if node.namespace is not None:
        argv += ["-r", f"__ns:=/{expand(node.namespace, scope).strip('/')}"]
    for param in node.params:
        if isinstance(param, Param):
            argv += ["-p", f"{expand(param.name, scope)}:={ros_value(param_value(param, scope))}"]
            continue
        path = expand(param.path, scope)
        if not Path(path).is_file():
            raise LaunchError(f"parameter file {path} does not exist")
        argv += ["--params-file", path]
    for old, new in node.remaps:
        argv += ["-r", f"{expand(old, scope)}:={expand(new, scope)}"]
    return argv


def split_command(template: Template, scope: Scope) -> list[str]:
    """Words of a command line as a shell splits them; what a substitution expands to stays in one word."""
    holes: list[Substitution] = []
    text = ""
    try:
        for part in template:
            if isinstance(part, Substitution):
                text += f"\ue000{len(holes)}\ue001"
                holes.append(part)
            else:
                shlex.split(part)  # upstream splits each piece by itself
                text += part
        words = shlex.split(text)
    except ValueError:
        raise LaunchError(
            f"quotes in '{text_of(template)}' are not closed before the next $(...) or the end; "
            "what a substitution expands to is one word without quotes"
        ) from None
    return [re.sub("\ue000(\\d+)\ue001", lambda hole: expand((holes[int(hole[1])],), scope), word) for word in words]


def param_value(param: Param, scope: Scope) -> object:
    """The typed value: see `Param` for where the type comes from."""
    if isinstance(param.value, list):
        values = [_scalar(value, param.type, scope) for value in param.value]
        if len({type(value) for value in values}) > 1:
            raise LaunchError(f"parameter '{text_of(param.name)}' mixes types: {values!r}")
        return values
    return _scalar(param.value, param.type, scope)


def _scalar(value: object, kind: str | None, scope: Scope) -> object:
    if not isinstance(value, tuple):
        return value
    text = expand(value, scope)
    literal = all(isinstance(part, str) for part in value)
    if kind == "str" or (kind is None and (literal or not text)):
        return text
    try:
        if kind in ("int", "float"):
            return int(text) if kind == "int" else float(text)
        if kind == "bool":
            text = {"1": "true", "0": "false"}.get(text, text)
        result = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        result = None
    if kind == "bool" and not isinstance(result, bool):
        result = None
    items = result if isinstance(result, list) else [result]
    if not items or not all(
        type(item) is type(items[0]) and isinstance(item, bool | int | float | str) for item in items
    ):
        raise LaunchError(
            f"parameter value '{text}' is not {kind or 'a scalar or a list of one type'}; 'type: str' keeps text"
        )
    return result


def ros_value(value: object) -> str:
    """A value as ROS's command line wants it: text always quoted, so that "1" stays text."""
    if isinstance(value, list):
        return f"[{', '.join(map(ros_value, value))}]"
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value, ensure_ascii=False)
