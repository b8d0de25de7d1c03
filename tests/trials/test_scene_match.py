"""The ghost: where the object has to be, where it is seen, and what to do about the difference; on drawn pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vla_rft_core.geometry import Pose
from vla_rft_trials.placements import Placement
from vla_rft_trials.scene_match import View, ghost, match, required_mask, seen_mask

SIZE = (0.28, 0.196)
DOWN = (1.0, 0.0, 0.0, 0.0)
"""A camera that looks straight down: its x is base's x, its y against base's y."""
VIEW = View(width=640, height=480, fx=600.0, fy=600.0, cx=320.0, cy=240.0, T_base_camera=Pose((0.5, 0.0, 1.0), DOWN))
HERE = Placement(id="P01", x=0.5, y=0.0, yaw=math.radians(90.0), seed=0)


def picture(placement: Placement, *, seed: int = 0) -> np.ndarray:
    """A blue towel with white stripes on a board of wood, under uneven light and noise."""
    rng = np.random.default_rng(seed)
    image = np.full((480, 640, 3), (205, 170, 125), np.float64)
    image[:, ::80] -= 60.0
    image *= np.linspace(0.85, 1.1, 640)[None, :, None]
    towel = required_mask(placement, SIZE, VIEW) > 0
    image[towel] = (80, 135, 205)
    stripe = required_mask(placement, (0.2, 0.196), VIEW) ^ required_mask(placement, (0.19, 0.196), VIEW)
    image[stripe > 0] = (240, 240, 240)
    return np.clip(image + rng.normal(0.0, 3.0, image.shape), 0, 255).astype(np.uint8)


def test_the_outline_is_projected() -> None:
    mask = required_mask(HERE, SIZE, VIEW)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max()) == pytest.approx((320 - 58.8, 320 + 58.8), abs=1.5)
    assert (rows.min(), rows.max()) == pytest.approx((240 - 84, 240 + 84), abs=1.5)


def test_where_it_has_to_be_it_is_found() -> None:
    required = required_mask(HERE, SIZE, VIEW)
    found = match(required, seen_mask(picture(HERE), required))
    assert found.overlap > 0.95 and found.seen
    assert str(found).startswith("overlap 0.9")


@pytest.mark.parametrize(
    ("dx", "dy", "turn", "words"),
    [(0.04, 0.0, 0.0, "24 px left"), (0.0, 0.05, 0.0, "30 px down"), (0.0, 0.0, 12.0, "turn 12 deg clockwise")],
)
def test_what_to_do_about_it(dx: float, dy: float, turn: float, words: str) -> None:
    """It lies further in x, further in y (up in the picture), or turned against the clock."""
    required = required_mask(HERE, SIZE, VIEW)
    elsewhere = replace(HERE, x=HERE.x + dx, y=HERE.y + dy, yaw=HERE.yaw + math.radians(turn))
    found = match(required, seen_mask(picture(elsewhere), required))
    assert found.overlap < 0.85
    assert words in str(found)


def test_an_empty_table_is_no_match() -> None:
    required = required_mask(HERE, SIZE, VIEW)
    far = replace(HERE, x=HERE.x + 2.0)
    found = match(required, seen_mask(picture(far), required))
    assert (found.overlap, found.seen) == (0.0, False)
    assert "nothing is seen" in str(found)


def test_the_ghost_marks_and_spares_the_rest() -> None:
    live = picture(HERE)
    required = required_mask(HERE, SIZE, VIEW)
    shown = ghost(live, required, seen_mask(live, required))
    grown = cv2.dilate(required, np.ones((9, 9), np.uint8)) > 0
    assert np.array_equal(shown[~grown], live[~grown])
    assert (shown[required > 0] != live[required > 0]).any(axis=1).mean() > 0.95


def test_a_placement_behind_the_camera_is_refused() -> None:
    with pytest.raises(ValueError, match="behind the camera"):
        required_mask(HERE, SIZE, VIEW, table_z=2.0)
