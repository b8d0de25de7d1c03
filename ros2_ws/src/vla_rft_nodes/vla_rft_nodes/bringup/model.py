"""What a launch file says, before any argument has a value. Knows neither YAML nor processes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class LaunchError(ValueError):
    """A mistake in a launch file or on the command line; the message is one sentence for the user."""


def alternatives(value: str, known: Iterable[str]) -> str:
    """`"; did you mean 'trials'? Known: seed, trials"` for an unknown `value`."""
    known = sorted(known)
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"


@dataclass(frozen=True)
class Substitution:
    """`$(var backend)` is `Substitution("var", (("backend",),))`: a name and its arguments, each a template."""

    name: str
    args: tuple[Template, ...]

    def __str__(self) -> str:
        return f"$({' '.join([self.name, *(text_of(arg, quoted=self.name == 'eval') for arg in self.args)])})"


Template = tuple[str | Substitution, ...]
"""Literal text and substitutions in the order written: `$(dirname)/params.yaml` has two parts."""


def text_of(template: Template | None, *, quoted: bool = False) -> str:
    """A template as its author would write it."""
    text = "".join(map(str, template or ()))
    return f'"{text}"' if quoted else text


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`if: $(var x)`, or with `negated` the `unless:` form."""

    template: Template
    negated: bool

    def __str__(self) -> str:
        return f"{'unless' if self.negated else 'if'} {text_of(self.template)}"


@dataclass(frozen=True, kw_only=True)
class Argument:
    """`arg`: a value that the command line or an including file may give."""

    condition: Condition | None
    name: str
    default: Template | None
    description: str
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Let:
    """`let`: sets a launch configuration, overwriting what was there."""

    condition: Condition | None
    name: Template
    value: Template


@dataclass(frozen=True, kw_only=True)
class ParamFile:
    """`param: [{from: FILE}]`."""

    path: Template


@dataclass(frozen=True, kw_only=True)
class Param:
    """`param: [{name: rate, value: 10.0, type: float}]`; a text value is a template, anything else is kept as typed.

    As with upstream, a text that contains a substitution gets its type from YAML rules after expansion unless `type`
    says otherwise: `$(var trials)` becomes the integer 3, while the literal text `"3"` stays text.
    """

    name: Template
    value: object
    type: str | None


@dataclass(frozen=True, kw_only=True)
class Process:
    """`node` (has `executable`) or `executable` (has `command`)."""

    condition: Condition | None
    name: Template | None
    package: Template | None = None
    executable: Template | None = None
    namespace: Template | None = None
    args: Template = ()
    command: Template = ()
    params: tuple[Param | ParamFile, ...] = ()
    remaps: tuple[tuple[Template, Template], ...] = ()
    env: tuple[tuple[Template, Template], ...] = ()
    output: Template = ("log",)
    required: bool = False
    emulate_tty: bool = False


@dataclass(frozen=True, kw_only=True)
class Include:
    """`include`: another launch file, with values set before it is read. Not a scope: what it sets stays set."""

    condition: Condition | None
    file: Template
    args: tuple[tuple[Template, Template], ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """`group`: actions under one condition; `scoped` (the default) forgets what they set at its end."""

    condition: Condition | None
    actions: tuple[Action, ...]
    scoped: bool


Action = Argument | Let | Process | Include | Group


@dataclass(frozen=True, kw_only=True)
class LaunchFile:
    """One parsed `*.launch.yaml`."""

    path: Path
    actions: tuple[Action, ...]


def title(action: Action) -> str:
    """`node 'robot_node'`, for messages and tables."""
    match action:
        case Process(executable=None):
            return f"executable '{process_name(action)}'"
        case Process():
            return f"node '{process_name(action)}'"
        case Argument(name=name):
            return f"arg '{name}'"
        case Let(name=name):
            return f"let '{text_of(name)}'"
        case Include(file=file):
            return f"include '{text_of(file)}'"
    return "group"


def process_name(process: Process) -> str:
    """A process's name before any argument has a value."""
    return text_of(process.name or process.executable) or text_of(process.command).split()[0].rpartition("/")[2]
