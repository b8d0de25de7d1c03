"""The page of a study: its figures as a table, and the pictures of every measurement. Opens from disk."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

TEMPLATE = "study.html.jinja"
_CAPTIONS = {
    "detections.png": "what was seen: corners found, and how far each is from where it should be, 30 times as long",
    "residuals.png": "corners seen minus expected, over the image and by size",
    "coverage.png": "what of the image was covered",
    "table.png": "points touched, and how far each is from the plane",
    "gripper.png": "width reached over width commanded",
    "latency.png": "how much of the motion each lag explains, and the motion",
    "reference.png": "the reference picture",
}


def write_page(out: Path, figures: list[Mapping[str, Any]], folders: Mapping[str, Path], calibration_id: str) -> Path:
    """Write index.html into `out`; folders: result folders by kind, relative to it."""
    sections = []
    for kind, folder in sorted(folders.items()):
        pictures = [(str(folder / name), words) for name, words in _CAPTIONS.items() if (out / folder / name).exists()]
        sections.append((kind, pictures))
    if (out / "check.png").exists():
        sections.append(("check", [("check.png", "reference, today, and what changed")]))
    text = resources.files("calibration").joinpath(TEMPLATE).read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    page = out / "index.html"
    page.write_text(template.render(figures=figures, sections=sections, id=calibration_id), encoding="utf-8")
    return page
