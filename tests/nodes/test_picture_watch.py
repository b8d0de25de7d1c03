"""What is told of pictures that come, but too few, too dark or too bright."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_nodes.picture_watch import PictureWatch


def after(fps: float, *, value: int = 120, seconds: float = 4.0) -> str:
    """What is wrong after so long with a camera of that rate and brightness, whose spec says 15 fps."""
    watch = PictureWatch(15.0)
    for number in range(round(seconds * fps) + 1):
        watch.see(np.full((48, 64, 3), value, np.uint8), number / fps)
    return watch.problem(seconds)


def test_a_camera_as_it_should_be_is_no_problem():
    assert after(15.0) == ""
    assert after(6.0) == ""


def test_too_few_pictures_are_told_with_both_rates():
    assert after(3.0) == "3.5 pictures per second come, the spec says 15"


def test_a_rate_is_measured_before_it_is_judged():
    assert after(3.0, seconds=1.0) == ""
    assert PictureWatch(15.0).problem(100.0) == ""


@pytest.mark.parametrize(("value", "word"), [(4, "too dark"), (251, "too bright")])
def test_a_wrong_exposure_is_told_with_the_mean(value, word):
    assert word in after(15.0, value=value)
    assert f"{value} of 255" in after(15.0, value=value)
