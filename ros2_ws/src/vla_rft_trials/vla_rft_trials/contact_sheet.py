"""The contact sheet: one row per trial, six moments of each, as a PNG that is looked at or printed.

Reads records and videos; a trial without a readable video keeps its row and says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_rft_trials import wording
from vla_rft_trials.records import Outcome, TrialRecord
from vla_rft_trials.video import VideoError, trial_frames

MOMENTS = 6
_FRACTIONS = [i / (MOMENTS - 1) for i in range(MOMENTS)]
_DPI = 100
_THUMB = (200, 160)
"""Width and height of one picture [px]; pictures of another shape are fitted inside."""
_LABEL = 216
_GAP = 8
_MARGIN = 20
_TITLE = 44
_INK, _FAINT, _PAPER = "#1d2329", "#5d6873", "#f6f5f1"
_BADGES = {Outcome.SUCCESS: "#1b7a55", Outcome.FAILURE: "#b3391f", Outcome.VOID: "#6b7280"}


def contact_sheet(
    folder: Path, records: tuple[TrialRecord, ...], *, title: str, names: Mapping[str, str] | None = None
) -> bytes:
    """The sheet of a study folder's trials as PNG bytes; `names` says what to call the policies' codes."""
    width = 2 * _MARGIN + _LABEL + MOMENTS * _THUMB[0] + (MOMENTS - 1) * _GAP
    height = 2 * _MARGIN + _TITLE + max(1, len(records)) * (_THUMB[1] + _GAP) - _GAP
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    sheet = _Sheet(figure, width, height)
    sheet.text(_MARGIN, _MARGIN + 20, title, size=13, weight="bold")
    if not records:
        sheet.text(_MARGIN, _MARGIN + _TITLE + 20, "no trial was started", color=_FAINT)
    for row, record in enumerate(records):
        top = _MARGIN + _TITLE + row * (_THUMB[1] + _GAP)
        _label(sheet, record, (names or {}).get(record.policy, record.policy), top)
        _moments(sheet, folder, record, top)
    return sheet.png()


class _Sheet:
    """Pixels below, text and badges above; coordinates in pixels from the top left corner."""

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self.figure = figure
        self.figure.patch.set_visible(False)
        self.height = height
        paper = [int(_PAPER[i : i + 2], 16) for i in (1, 3, 5)]
        self.pixels = np.full((height, width, 3), paper, np.uint8)

    def text(self, x: float, y: float, text: str, **style: object) -> None:
        """`text` with its baseline at (x, y)."""
        style = {"color": _INK, "size": 9, "parse_math": False, **style}
        self.figure.text(x, self.height - y, text, transform=None, **style)  # type: ignore[arg-type]

    def badge(self, x: float, y: float, text: str, color: str) -> None:
        """White text on a filled pill, the text's baseline at (x, y)."""
        box = {"boxstyle": "round,pad=0.4,rounding_size=0.7", "facecolor": color, "edgecolor": "none"}
        self.text(x, y, text, color="white", weight="bold", bbox=box)

    def image(self, x: int, y: int, picture: NDArray[np.uint8]) -> None:
        """Paste RGB `picture` with its top left corner at (x, y)."""
        height, width = picture.shape[:2]
        self.pixels[y : y + height, x : x + width] = picture

    def png(self) -> bytes:
        """Text and badges blended over the pixels."""
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        above = np.asarray(canvas.buffer_rgba())
        drawn = above[:, :, 3] > 0
        opacity = above[drawn, 3:].astype(np.float32) / 255
        self.pixels[drawn] = np.round(opacity * above[drawn, :3] + (1 - opacity) * self.pixels[drawn])
        return cv2.imencode(".png", self.pixels[:, :, ::-1])[1].tobytes()


def _label(sheet: _Sheet, record: TrialRecord, policy: str, top: int) -> None:
    sheet.text(_MARGIN, top + 16, f"Trial {record.index + 1}", size=12, weight="bold")
    sheet.badge(_MARGIN + 6, top + 42, wording.outcome(record), _BADGES[record.outcome])
    measured = [wording.seconds(record.seconds)]
    if record.edge_gap is not None:
        measured.append(f"gap {wording.centimetres(record.edge_gap)}")
    lines = [" \N{MIDDLE DOT} ".join(measured)]
    lines += textwrap.wrap(policy, 32, max_lines=1)
    lines += textwrap.wrap(record.placement, 32, max_lines=2)
    lines += textwrap.wrap(wording.reason(record), 32, max_lines=2)
    for i, line in enumerate(lines):
        sheet.text(_MARGIN, top + 68 + 17 * i, line, color=_INK if i == 0 else _FAINT)


def _moments(sheet: _Sheet, folder: Path, record: TrialRecord, top: int) -> None:
    left = _MARGIN + _LABEL
    try:
        moments = trial_frames(folder, record.video, _FRACTIONS)
    except VideoError as error:
        sheet.text(left, top + 42, str(error), color=_FAINT, style="italic")
        return
    for i, (seconds, frame) in enumerate(moments):
        x = left + i * (_THUMB[0] + _GAP)
        scale = min(_THUMB[0] / frame.shape[1], _THUMB[1] / frame.shape[0])
        size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
        picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        sheet.image(x, top, picture)
        box = {"boxstyle": "square,pad=0.35", "facecolor": "#14171a", "edgecolor": "none", "alpha": 0.8}
        sheet.text(x + 5, top + size[1] - 6, wording.seconds(seconds), color="white", size=8, bbox=box)
