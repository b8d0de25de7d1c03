"""What the pages of this package are made of: one HTML file beside its pictures, that opens from disk."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left } thead th { border-bottom: 2px solid #1b1f24 }
tbody tr:nth-child(odd) { background: #f2f4f7 } img { max-width: 100% } figcaption { color: #555 }
"""


def save(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write the page."""
    head = '<!doctype html><html lang="en"><meta charset="utf-8">'
    head += f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    path.write_text(head + "\n".join(parts) + "\n", encoding="utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is left-aligned."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', head)}</thead><tbody>{body}</tbody></table>"


def as_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a terminal."""
    lines = [head, *rows]
    first, *others = (max(len(line[i]) for line in lines) for i in range(len(head)))
    return "\n".join(
        "  ".join([line[0].ljust(first), *(text.rjust(width) for text, width in zip(line[1:], others, strict=True))])
        for line in lines
    )


def figure(name: str, caption: str) -> str:
    """A picture beside the page, with what it shows."""
    text = html.escape(caption)
    return f'<figure><img src="{name}" alt="{text}"><figcaption>{text}</figcaption></figure>'
