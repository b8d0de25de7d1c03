"""README's file map is the modules' own first lines. After adding or renaming one: `python tests/test_readme.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- file map -->\n", "<!-- end of file map -->\n"
SOURCES = ("ros2_ws/src", "vla_rft_train", "deploy", "calibration")


def file_map() -> str:
    """One line per Python module that is part of the product, a heading per folder."""
    lines: list[str] = []
    heading = ""
    for path in sorted(path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        folder = str(path.parent.relative_to(ROOT))
        if folder != heading:
            lines.append(f"\n`{folder}/`\n\n")
            heading = folder
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"- `{path.name}` – {docstring.splitlines()[0] if docstring else '?'}\n")
    return "".join(lines)


def with_map(text: str) -> str:
    """README with the map of today."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{file_map()}\n{END}{rest.split(END)[1]}"


def test_the_file_map_is_up_to_date():
    text = README.read_text()
    assert with_map(text) == text, "run: python tests/test_readme.py"


def test_every_module_says_what_it_is():
    assert "– ?" not in file_map()


if __name__ == "__main__":
    README.write_text(with_map(README.read_text()))
