"""The printed board: true to scale, seen where it is, and not taken for another one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration import board as module
from calibration.board import Board, print_sheet
from calibration.detect import board_pose, detect
from calibration.errors import BoardNotSeenError, WrongBoardError
from vla_rft_core.calibration import Intrinsics
from vla_rft_sim.printed_board import PrintedBoard

CAMERA = Intrinsics(width=900, height=700, fx=900.0, fy=900.0, cx=449.5, cy=349.5)


def seen(board: Board, pixels_per_square: int = 90) -> np.ndarray:
    """The board head-on, filling a picture with a white margin."""
    picture = cv2.copyMakeBorder(board.picture(pixels_per_square), *[90] * 4, cv2.BORDER_CONSTANT, value=255)
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)


def test_the_simulator_prints_the_default_board():
    ours, printed = Board(), PrintedBoard()
    assert {name: getattr(printed, name) for name in vars(ours) if name in vars(printed)} | {"mirrored": False} == vars(
        printed
    )


def test_the_sheet_is_true_to_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PRINT_DPI", 150)
    path = tmp_path / "board.png"
    assert print_sheet(Board(), path) == "A4"
    image = cv2.imread(str(path))
    per_mm = module.PRINT_DPI / module.MM_PER_INCH
    assert image.shape[1] == pytest.approx(297 * per_mm, abs=2)
    found = detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), Board())
    corners = dict(zip(found.ids.tolist(), found.pixels, strict=True))
    across = np.linalg.norm(corners[5] - corners[0]) / per_mm  # five squares
    assert across == pytest.approx(5 * 36.0, abs=0.2)


def test_a_sheet_is_not_overwritten_and_must_fit(tmp_path, capsys):
    (tmp_path / "there.pdf").touch()
    assert module.main(["--out", str(tmp_path / "there.pdf")]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert module.main(["--out", str(tmp_path / "big.pdf"), "--squares-x", "40"]) == 2
    assert "fit none of A4, A3" in capsys.readouterr().err
    assert module.main(["--out", str(tmp_path / "x.pdf"), "--dictionary", "DICT_4X4_5"]) == 2
    assert "did you mean 'DICT_4X4_50'" in capsys.readouterr().err
    assert module.main(["--out", str(tmp_path / "x.pdf"), "--marker", "0.04"]) == 2
    assert "markers must be smaller" in capsys.readouterr().err


def test_the_board_is_where_it_is_seen():
    board = Board()
    pose = board_pose(detect(seen(board), board), board, CAMERA)
    # Head-on, 90 px per 36 mm: 0.36 m away, its origin at pixel (90, 90).
    assert pose.position == pytest.approx([(89.5 - 449.5) * 0.0004, (89.5 - 349.5) * 0.0004, 0.36], abs=5e-4)
    assert pose.distance_to(type(pose).identity())[1] < 0.005


def test_no_board_is_named():
    with pytest.raises(BoardNotSeenError, match="0 corners of the board are seen, 8 are needed"):
        detect(np.full((480, 640, 3), 128, np.uint8), Board())


def test_a_mirrored_picture_is_named():
    with pytest.raises(WrongBoardError, match="mirrored"):
        detect(np.ascontiguousarray(seen(Board())[:, ::-1]), Board())


def test_another_board_is_named():
    with pytest.raises(WrongBoardError, match="this is another board"):
        detect(seen(Board(squares_x=9, squares_y=8), 70), Board())
    with pytest.raises(WrongBoardError, match="another layout"):
        detect(seen(Board(squares_x=5, squares_y=7)), Board())
