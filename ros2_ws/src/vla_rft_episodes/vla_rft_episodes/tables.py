"""What the tools print: tables in a terminal, plain columns in a file or pipe. Knows nothing of their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    "good": "green",
    "keep": "green",
    "success": "green",
    "suspect": "yellow",
    "bad": "red",
    "failure": "red",
    "discard": "dim",
}
_PLAIN_WIDTH = 1000
"""Columns assumed when nothing says how wide the output is: a file or pipe shall not wrap."""


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), file: IO[str] | None = None
) -> None:
    """Print rows of text under column names; those in `right` are set to the right. Known words are coloured."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=_PLAIN_WIDTH)
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)
