"""The tables of `docs/faults.md`: read, printed at the end of a run, and written where FAULTS_MD names a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "faults.md"


def table_of(text: str, name: str) -> str:
    """The table between the markers of that name."""
    return text.split(_begin(name))[1].split(_end(name))[0]


def rows_of(table: str) -> dict[str, list[str]]:
    """A table's rows by their first cell, each as its cells; without the head."""
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells}


def line_of(*cells: str) -> str:
    """One row; whatever a cell says stays on its line and in its cell."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |\n"


def head_of(*names: str) -> str:
    """The first two lines."""
    return line_of(*names) + "|---" * len(names) + "|\n"


def publish(table: str, name: str, config: pytest.Config) -> None:
    """Print the table past pytest's capture; put it into the file that FAULTS_MD names."""
    plugins = config.pluginmanager
    with plugins.get_plugin("capturemanager").global_and_fixture_disabled():
        plugins.get_plugin("terminalreporter").write(f"\n{table}")
    target = os.environ.get("FAULTS_MD")
    if target:
        text = Path(target).read_text()
        head, rest = text.split(_begin(name))
        Path(target).write_text(f"{head}{_begin(name)}{table}{_end(name)}{rest.split(_end(name))[1]}")


def _begin(name: str) -> str:
    return f"<!-- {name} -->\n\n"


def _end(name: str) -> str:
    return f"\n<!-- end of {name} -->\n"
