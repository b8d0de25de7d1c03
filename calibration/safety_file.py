"""Table height and workspace into a cell's safety.yaml: three lines are replaced, all others and their comments stay.

The profile gets a new name, because its limits go with every episode and trial under that; the old file is kept.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError
from calibration.results import HISTORY
from vla_rft_core.calibration import FILE, FOLDER, Calibration
from vla_rft_core.config import load
from vla_rft_core.files import write_atomic
from vla_rft_core.geometry import Array
from vla_rft_core.safety_profile import SafetyProfile

SAFETY_FILE = "safety.yaml"


@dataclass(frozen=True, kw_only=True)
class SafetyChange:
    """What was measured."""

    table_height: float
    """[m, base]"""
    extent: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Lowest and highest xy that was touched [m]: the new workspace; None: the old one stays."""

    @classmethod
    def of(cls, table_height: float, points: Array | None) -> SafetyChange:
        """From the touched points (N, 3) whose extent is the workspace, if that is wanted."""
        if points is None:
            return cls(table_height=table_height)
        low, high = points[:, :2].min(axis=0).tolist(), points[:, :2].max(axis=0).tolist()
        return cls(table_height=table_height, extent=((low[0], low[1]), (high[0], high[1])))


def put_safety_in_force(cell: Path, change: SafetyChange) -> tuple[SafetyProfile, SafetyProfile]:
    """The profile before and after. CalibrationError when the result would be no valid profile; the old one stays."""
    path = cell / SAFETY_FILE
    before, after, text = prepare(cell, change)
    history = cell / FOLDER / HISTORY
    history.mkdir(parents=True, exist_ok=True)
    write_atomic(history / f"safety-{re.sub(r'[^A-Za-z0-9.@_-]', '_', before.name)}.yaml", path.read_bytes())
    write_atomic(path, text.encode())
    return before, after


def prepare(cell: Path, change: SafetyChange) -> tuple[SafetyProfile, SafetyProfile, str]:
    """The profile before and after, and the file's new text; nothing is written. Raises as `put_safety_in_force`."""
    path = cell / SAFETY_FILE
    before, calibration = SafetyProfile.load(path), load(Calibration, cell / FILE)
    low, high = change.extent or (before.workspace_low[:2], before.workspace_high[:2])
    table = round(change.table_height, 5)
    after = replace(
        before,
        name=f"{before.name.partition('@')[0]}@{calibration.id}",
        table_height=table,
        workspace_low=(round(low[0], 4), round(low[1], 4), table),
        workspace_high=(round(high[0], 4), round(high[1], 4), before.workspace_high[2]),
    )
    text = path.read_text(encoding="utf-8")
    for name in ("name", "table_height", "workspace_low", "workspace_high"):
        text = _replaced(text, name, _written(getattr(after, name)), path)
    with tempfile.TemporaryDirectory() as scratch:
        tried = Path(scratch) / SAFETY_FILE
        tried.write_text(text, encoding="utf-8")
        try:
            same = SafetyProfile.load(tried) == after
        except ValueError:
            same = False
    if not same:
        values = f"table_height {after.table_height:.5f}, workspace_low {_written(after.workspace_low)}"
        raise CalibrationError(f"{path}: its lines cannot be replaced one by one; write {values} there by hand")
    return before, after, text


def _written(value: Any) -> str:
    """As YAML has it; a float always with its point, or it would be read as text."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.5f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _replaced(text: str, name: str, value: str, path: Path) -> str:
    """The text with the value of a field at the top level replaced, its comment kept."""
    pattern = re.compile(rf"^{name}:\s*(\[[^\]]*\]|[^#\n]*?)(?P<rest>\s*(#.*)?)$", re.MULTILINE)
    made, count = pattern.subn(lambda m: f"{name}: {value}{m['rest']}", text)
    if count != 1:
        raise CalibrationError(f"{path}: has no single line {name!r} that could be replaced")
    return made
