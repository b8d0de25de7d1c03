"""`python -m calibration.board --out board.pdf`: the ChArUco board, as a definition and as a sheet at true scale.

The board's frame is OpenCV's: origin at the outer corner of the first square, x right, y down, z into the board.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vla_rft_core.config import did_you_mean
from vla_rft_core.geometry import Array
from vla_rft_core.types import Image

MM_PER_INCH = 25.4
SHEETS_MM = {"A4": (297.0, 210.0), "A3": (420.0, 297.0)}
"""Width and height, landscape."""
PRINT_DPI = 600
_SUFFIXES = (".pdf", ".png")
_RULER_MM = 100.0


@dataclass(frozen=True, kw_only=True)
class Board:
    """A ChArUco board. The defaults fill a sheet of A4 and are seen from 1.2 m in a picture of 640x480."""

    squares_x: int = 7
    squares_y: int = 5
    square: float = 0.036
    """Side of a square [m]; measure it on the print."""
    marker: float = 0.027
    """Side of a marker [m]."""
    dictionary: str = "DICT_4X4_50"
    """Name of the markers' dictionary in `cv2.aruco`."""

    def __post_init__(self) -> None:
        if min(self.squares_x, self.squares_y) < 3:
            raise ValueError(f"board: at least 3 squares each way are needed, got {self.squares_x}x{self.squares_y}")
        if not 0.0 < self.marker < self.square:
            raise ValueError(f"board: markers must be smaller than squares, got {self.marker} and {self.square} m")
        known = [name for name in dir(cv2.aruco) if name.startswith("DICT_")]
        if self.dictionary not in known:
            raise ValueError(f"board: no dictionary {self.dictionary!r}{did_you_mean(self.dictionary, known)}")

    def __str__(self) -> str:
        size = f"{1e3 * self.square:g} mm squares, {1e3 * self.marker:g} mm markers"
        return f"{self.squares_x}x{self.squares_y}, {size}, {self.dictionary}"

    @cached_property
    def cv(self) -> Any:
        """The same as OpenCV's object."""
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        return cv2.aruco.CharucoBoard((self.squares_x, self.squares_y), self.square, self.marker, dictionary)

    @cached_property
    def corners(self) -> Array:
        """Inner corners (N, 3) in the board's frame [m], by their id."""
        return np.asarray(self.cv.getChessboardCorners(), dtype=np.float64)

    @property
    def marker_count(self) -> int:
        """How many markers it has; their ids count from 0."""
        return len(self.cv.getIds())

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of all squares [m]."""
        return self.squares_x * self.square, self.squares_y * self.square

    def picture(self, pixels_per_square: int) -> Image:
        """The squares without margin, grey (H, W)."""
        size = (self.squares_x * pixels_per_square, self.squares_y * pixels_per_square)
        return np.asarray(self.cv.generateImage(size), dtype=np.uint8)


def print_sheet(board: Board, path: Path) -> str:
    """Write the board on the smallest sheet it fits, at true scale, as PDF or PNG; the sheet's name.

    ValueError when it fits none, for another suffix, or when the file exists.
    """
    from matplotlib.figure import Figure

    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: must end in {' or '.join(_SUFFIXES)}")
    if path.exists():
        raise ValueError(f"{path}: exists already and is not overwritten")
    width, height = (1e3 * side for side in board.size_m)
    sheet = next((n for n, (w, h) in SHEETS_MM.items() if width + 20.0 <= w and height + 22.0 <= h), None)
    if sheet is None:
        raise ValueError(f"{path}: {width:g} x {height:g} mm fit none of {', '.join(SHEETS_MM)}")
    sheet_w, sheet_h = SHEETS_MM[sheet]
    figure = Figure(figsize=(sheet_w / MM_PER_INCH, sheet_h / MM_PER_INCH))
    left, bottom = 0.5 * (sheet_w - width), 0.5 * (sheet_h - height) + 4.0
    axes = figure.add_axes((left / sheet_w, bottom / sheet_h, width / sheet_w, height / sheet_h))
    pixels = math.ceil(PRINT_DPI * 1e3 * board.square / MM_PER_INCH)
    axes.imshow(board.picture(pixels), cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
    axes.set_axis_off()
    note = f"ChArUco {board}. Print at 100 %. This line is {_RULER_MM:g} mm long:"
    figure.text(left / sheet_w, (bottom - 7.0) / sheet_h, note, fontsize=7)
    ruler = figure.add_axes(
        ((sheet_w - left - _RULER_MM) / sheet_w, (bottom - 7.0) / sheet_h, _RULER_MM / sheet_w, 0.01)
    )
    ruler.plot([0, 0, 1, 1], [1, 0, 0, 1], "k-", linewidth=0.5)
    ruler.set(xlim=(0, 1), ylim=(0, 1))
    ruler.set_axis_off()
    figure.savefig(path, dpi=PRINT_DPI)
    return sheet


def add_board_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that describe the board, one per field of `Board`."""
    group = parser.add_argument_group("board", "what was printed; measure a square on the print")
    for field in fields(Board):
        kind = {"int": int, "float": float, "str": str}[str(field.type)]
        option = f"--{field.name.replace('_', '-')}"
        group.add_argument(option, type=kind, default=field.default, help=f"default {field.default}")


def board_from(options: argparse.Namespace) -> Board:
    """The board that the options describe."""
    return Board(**{field.name: getattr(options, field.name) for field in fields(Board)})


def main(argv: Sequence[str] | None = None) -> int:
    """Print a board; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m calibration.board", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="PDF or PNG file to write")
    add_board_arguments(parser)
    options = parser.parse_args(argv)
    try:
        board = board_from(options)
        sheet = print_sheet(board, options.out)
    except (ValueError, OSError) as error:
        print(f"board: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {board}, on {sheet} landscape; print at 100 %, glue it on something flat, measure a square")
    return 0


if __name__ == "__main__":
    sys.exit(main())
