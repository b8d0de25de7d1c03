"""Tables for `--list`, `--show-args` and `--dry-run`. Returns text, prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .find import SUFFIX
from .model import Argument, Process, process_name, text_of
from .outline import outline
from .plan import Plan


def table(rows: list[tuple[str, ...]]) -> str:
    """Left-aligned columns; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def files_table(files: Mapping[str, Path]) -> str:
    """Every launch file with what it starts and which arguments it takes."""
    rows: list[tuple[str, ...]] = [("name", "processes", "arguments")]
    for name, path in files.items():
        found = outline(path)
        processes = ", ".join(process_name(process) for process, _ in found.processes)
        rows.append((name, processes, " ".join(f"{argument.name}:=" for argument in found.arguments)))
    return table(rows)


def file_tables(path: Path) -> str:
    """Arguments and processes of one launch file, included files counted in."""
    found = outline(path)
    arguments: list[tuple[str, ...]] = [("argument", "default", "description")]
    arguments += [(argument.name, _default(argument), _description(argument)) for argument in found.arguments]
    processes: list[tuple[str, ...]] = [("process", "runs", "condition", "its end stops all")]
    for process, conditions in found.processes:
        when = " and ".join(map(str, conditions)) or "always"
        processes.append((process_name(process), _runs(process), when, "yes" if process.required else "no"))
    return f"{path.name.removesuffix(SUFFIX)}  ({path})\n\n{table(arguments)}\n\n{table(processes)}"


def arguments_text(path: Path) -> str:
    """What `ros2 launch --show-args` prints."""
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for argument in outline(path).arguments:
        lines += ["", f"    '{argument.name}':", f"        {_description(argument)}"]
        if argument.default is not None:
            lines.append(f"        (default: '{text_of(argument.default)}')")
    return "\n".join(lines if len(lines) > 1 else [*lines, "", "  No arguments."])


def commands_text(plan: Plan) -> str:
    """One shell command per process, each under a comment with its name."""
    blocks = [
        f"# {spec.name}{' (its end stops all)' if spec.required else ''}\n{spec.command()}" for spec in plan.processes
    ]
    return "\n".join(blocks) or f"# {plan.name} starts nothing with these arguments"


def _default(argument: Argument) -> str:
    if argument.default is None:
        return "(must be given)"
    return text_of(argument.default) or "(empty)"


def _description(argument: Argument) -> str:
    choices = str(list(argument.choices))
    if not argument.description:
        return f"One of: {choices}" if argument.choices else "no description given"
    if not argument.choices:
        return argument.description
    return f"{argument.description.rstrip('.')}. Valid choices are: {choices}"


def _runs(process: Process) -> str:
    if process.executable:
        return f"{text_of(process.package)}/{text_of(process.executable)}"
    return text_of(process.command)
