"""Launch file + arguments → the list of processes to start. Starts nothing.

Scoping is upstream's: launch configurations are text in one flat table; `arg` sets its default only where nothing is
set; what an included file sets stays set afterwards; only a scoped group forgets.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import find
from .command import node_argv, split_command
from .model import Action, Argument, Group, Include, LaunchError, Let, Process, Template, alternatives, title
from .outline import outline
from .parse import OUTPUTS, read_launch_file
from .template import Scope, expand, truth


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process: `ProcessSpec(name="robot_node", argv=("/…/lib/vla_rft_nodes/robot_node", "--ros-args", …), …)`.

    `env` is what the launch file adds to the environment; `required` means `on_exit: shutdown`; `output` is "screen"
    (to the terminal as is), "both" (to it with the name before each line) or "log" (to the log file only).
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    required: bool = False
    output: str = "log"
    emulate_tty: bool = False

    def command(self) -> str:
        """The command line as one would type it into a shell."""
        return shlex.join([*(f"{name}={value}" for name, value in self.env.items()), *self.argv])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a launch file starts with one set of arguments; `configurations` are its variables at the end."""

    name: str
    path: Path
    processes: tuple[ProcessSpec, ...]
    configurations: Mapping[str, str]


def load(name: str, arguments: Mapping[str, str] | None = None) -> Plan:
    """Plan of the launch file `name` (or path) with `arguments`; refuses arguments that no file in it declares."""
    path = find.launch_file(name)
    given = dict(arguments or {})
    known = {argument.name for argument in outline(path, given).arguments}
    for argument in given:
        if argument not in known:
            raise LaunchError(f"unknown launch argument '{argument}' for {path.name}{alternatives(argument, known)}")
    builder = _Builder(Scope(path, given))
    builder.run_file(path)
    return Plan(
        name=path.name.removesuffix(find.SUFFIX),
        path=path,
        processes=tuple(builder.processes),
        configurations=dict(builder.scope.configurations),
    )


class _Builder:
    """Walks the actions in order, collecting processes and changing the scope as it goes."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.processes: list[ProcessSpec] = []
        self.files: list[Path] = []

    def run_file(self, path: Path) -> None:
        if path in self.files:
            raise LaunchError(f"{path} includes itself, by way of {' → '.join(file.name for file in self.files)}")
        outer, self.scope.path = self.scope.path, path
        self.files.append(path)
        for action in read_launch_file(path).actions:
            self.run(action)
        self.files.pop()
        self.scope.path = outer

    def run(self, action: Action) -> None:
        with self.naming(action):
            if action.condition and truth(action.condition.template, self.scope) is action.condition.negated:
                return
            if isinstance(action, Process):
                self.processes.append(self.process(action))
            elif isinstance(action, Argument):
                self.argument(action)
            elif isinstance(action, Let):
                self.set(action.name, action.value)
        if isinstance(action, Include):
            self.include(action)
        elif isinstance(action, Group):
            before = dict(self.scope.configurations)
            for child in action.actions:
                self.run(child)
            if action.scoped:
                self.scope.configurations = before

    @contextmanager
    def naming(self, action: Action) -> Iterator[None]:
        """Errors inside say which file and which action they are about."""
        try:
            yield
        except LaunchError as error:
            raise LaunchError(f"{self.scope.path}: {title(action)}: {error}") from None

    def set(self, name: Template, value: Template) -> None:
        self.scope.configurations[expand(name, self.scope)] = expand(value, self.scope)

    def argument(self, action: Argument) -> None:
        values = self.scope.configurations
        if action.name not in values:
            if action.default is None:
                what = f" ({action.description})" if action.description else ""
                raise LaunchError(f"this argument{what} has no default; give {action.name}:=...")
            values[action.name] = expand(action.default, self.scope)
        if action.choices and values[action.name] not in action.choices:
            raise LaunchError(f"cannot be '{values[action.name]}'; choose from {', '.join(action.choices)}")

    def include(self, action: Include) -> None:
        with self.naming(action):
            path = Path(expand(action.file, self.scope)).resolve()
            for name, value in action.args:
                self.set(name, value)
        self.run_file(path)

    def process(self, action: Process) -> ProcessSpec:
        scope = self.scope
        argv = node_argv(action, scope) if action.executable else split_command(action.command, scope)
        if not argv:
            raise LaunchError("'cmd' is empty")
        output = expand(action.output, scope)
        if output not in OUTPUTS:
            raise LaunchError(f"'output' came out as '{output}'; it must be one of {', '.join(OUTPUTS)}")
        return ProcessSpec(
            name=self.unique(expand(action.name, scope) if action.name else Path(argv[0]).name),
            argv=tuple(argv),
            env={expand(key, scope): expand(value, scope) for key, value in action.env},
            required=action.required,
            output=output,
            emulate_tty=action.emulate_tty,
        )

    def unique(self, name: str) -> str:
        """`name`, or `name-2` for its second process: log files and messages go by it."""
        taken = {spec.name for spec in self.processes}
        candidates = (f"{name}-{count}" if count > 1 else name for count in range(1, len(taken) + 2))
        return next(candidate for candidate in candidates if candidate not in taken)
