"""What a launch file declares before anything has a value: its arguments and processes, for tables and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .model import Action, Argument, Condition, Group, Include, LaunchError, Let, Process, Template
from .parse import read_launch_file
from .template import Scope, expand


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a launch file declares whatever the arguments are: arguments in order, processes with their conditions."""

    path: Path
    arguments: tuple[Argument, ...]
    processes: tuple[tuple[Process, tuple[Condition, ...]], ...]


def outline(path: Path, given: Mapping[str, str] | None = None) -> Outline:
    """Arguments and processes of a file and of those it includes, whatever their conditions.

    The path of an include is expanded with `given` and the defaults before it; one that cannot be is left out.
    """
    scope = Scope(path, dict(given or {}))
    arguments: dict[str, Argument] = {}
    processes: list[tuple[Process, tuple[Condition, ...]]] = []

    def visit(actions: tuple[Action, ...], conditions: tuple[Condition, ...], files: tuple[Path, ...]) -> None:
        for action in actions:
            under = (*conditions, action.condition) if action.condition else conditions
            if isinstance(action, Argument):
                arguments.setdefault(action.name, action)
                if action.default is not None and action.name not in scope.configurations:
                    _try_set(scope, (action.name,), action.default)
            elif isinstance(action, Let):
                _try_set(scope, action.name, action.value)
            elif isinstance(action, Process):
                processes.append((action, under))
            elif isinstance(action, Group):
                visit(action.actions, under, files)
            elif isinstance(action, Include) and (file := _included(action, scope)) and file not in files:
                scope.path = file
                visit(read_launch_file(file).actions, under, (*files, file))
                scope.path = files[-1]

    visit(read_launch_file(path).actions, (), (path,))
    return Outline(path=path, arguments=tuple(arguments.values()), processes=tuple(processes))


def _try_set(scope: Scope, name: Template, value: Template) -> None:
    try:
        scope.configurations[expand(name, scope)] = expand(value, scope)
    except LaunchError:
        return


def _included(action: Include, scope: Scope) -> Path | None:
    try:
        path = Path(expand(action.file, scope)).resolve()
    except LaunchError:
        return None
    return path if path.is_file() else None
