"""The policy's image against a slow reference, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.image import policy_image


def reference(color: np.ndarray, size: int) -> np.ndarray:
    """Centre square, then the mean of each block of whole pixels, as floats."""
    height, width = color.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    blocks = color[top : top + side, left : left + side].astype(np.float64)
    factor = side // size
    return blocks.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(("height", "width", "size"), [(480, 640, 240), (480, 640, 96), (240, 180, 60), (96, 96, 96)])
def test_crop_and_area_resize_match_the_reference(height: int, width: int, size: int) -> None:
    color = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = policy_image(color, size)
    assert image.dtype == np.uint8 and image.shape == (size, size, 3)
    np.testing.assert_allclose(image, reference(color, size), atol=0.51)


def test_channels_and_sides_are_not_swapped() -> None:
    color = np.zeros((100, 200, 3), np.uint8)
    color[:50, :, 0] = 200  # red above
    color[:, 100:, 2] = 100  # blue right
    color[:, :50] = color[:, 150:] = 77  # cropped away
    image = policy_image(color, 50)
    assert image[10, 10].tolist() == [200, 0, 0] and image[40, 40].tolist() == [0, 0, 100]
    assert not (image == 77).any()


def test_read_only_and_strided_images_are_taken() -> None:
    color = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    expected = policy_image(color, 32)
    bgr = np.ascontiguousarray(color[..., ::-1])
    bgr.flags.writeable = False
    np.testing.assert_array_equal(policy_image(bgr[..., ::-1], 32), expected)


def test_a_small_image_is_enlarged() -> None:
    assert policy_image(np.full((20, 30, 3), 9, np.uint8), 64).tolist() == np.full((64, 64, 3), 9).tolist()


@pytest.mark.parametrize(
    ("color", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"expected uint8 RGB \[H, W, 3\], got float32 \[4, 4, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \[4, 4, 4\]"),
        (np.zeros((4, 4), np.uint8), r"got uint8 \[4, 4\]"),
        (np.zeros((3, 4, 4), np.uint8), r"got uint8 \[3, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got uint8 \[0, 4, 3\]"),
    ],
)
def test_other_images_are_refused(color: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_image(color, 2)


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_is_not_positive_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be positive, got {size}"):
        policy_image(np.zeros((4, 4, 3), np.uint8), size)
