"""The HD transform: token counts of every shape that was published or worked out, and the pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

from slmkit.errors import RequestError
from slmkit.vision.hd import SIDE, crop_views, grid_of, hd_pixels, normalized, whole_view
from slmkit.vision.picture import open_picture

IMAGES = Path(__file__).parents[1] / "data" / "images"

# width, height, tokens with 16 and with 4 crops: from the arithmetic of the published processor; 1770 x 1180 with 4
# crops is also what others test for.
TOKENS = [
    (1770, 1180, 1921, 757),
    (336, 336, 2509, 757),
    (640, 480, 1921, 757),
    (480, 640, 1933, 757),
    (1920, 1080, 2353, 757),
    (1000, 50, 2473, 745),
    (50, 8000, 2653, 781),
    (487, 206, 2353, 457),
    (1300, 876, 1921, 757),
    (1344, 1344, 2509, 757),
]


@pytest.mark.parametrize(("width", "height", "of_16", "of_4"), TOKENS)
def test_an_image_takes_the_published_number_of_tokens(width, height, of_16, of_4):
    assert grid_of(width, height, 16).n_tokens == of_16
    assert grid_of(width, height, 4).n_tokens == of_4


@pytest.mark.parametrize(
    ("name", "of_16", "of_4"),
    [("exceltable.png", 2353, 457), ("australia.jpg", 1921, 757), ("standard_s.jpg", 2509, 757)],
)
def test_an_image_file_takes_the_published_number_of_tokens(name, of_16, of_4):
    picture = open_picture(IMAGES / name)
    assert [picture.grid(n).n_tokens for n in (16, 4)] == [of_16, of_4]


def test_a_wide_image_is_scaled_and_padded_as_published():
    grid = grid_of(1770, 1180, 16)
    assert (grid.resized, grid.rows, grid.columns) == ((1344, 896), 3, 4)
    pixels = hd_pixels(Image.new("RGB", (1770, 1180)), grid)
    assert pixels.shape == (1008, 1344, 3)
    assert (pixels[:56] == 255).all()
    assert (pixels[56:952] == 0).all()
    assert (pixels[952:] == 255).all()
    grid = grid_of(1920, 1080, 16)
    assert (grid.resized, grid.rows, grid.columns) == ((1680, 945), 3, 5)
    dark = hd_pixels(Image.new("RGB", (1920, 1080)), grid)[:, 0, 0] == 0
    assert (int(dark.argmax()), int(dark.sum())) == (31, 945)  # 63 lines of white: 31 above and 32 below


def test_a_tall_image_is_the_wide_one_on_its_side():
    wide = open_picture(IMAGES / "australia.jpg")
    pixels = wide.hd(16).pixels
    turned = Image.open(IMAGES / "australia.jpg").convert("RGB").transpose(Image.Transpose.TRANSPOSE)
    tall = open_picture(turned).hd(16).pixels
    np.testing.assert_array_equal(tall, pixels.swapaxes(0, 1))


@pytest.mark.parametrize("crops", [1, 2, 4, 7, 16, 64])
def test_no_shape_takes_more_crops_than_were_allowed(crops):
    for width in (1, 3, 50, 336, 1000, 4000):
        for height in (1, 7, 337, 1500):
            if min(width, height) * 5 * crops < max(width, height):
                continue
            grid = grid_of(width, height, crops)
            assert 1 < grid.n_views <= crops + 1
            assert max(grid.resized) <= SIDE * max(grid.rows, grid.columns)


@pytest.mark.parametrize(("width", "height"), [(1, 8000), (8000, 1)])
def test_an_image_that_would_have_no_height_is_refused(width, height):
    with pytest.raises(RequestError, match=rf"{width} x {height} pixels.*5376 times"):
        grid_of(width, height, 16)
    assert grid_of(1, 5376, 16).n_tokens == grid_of(50, 8000, 16).n_tokens  # the thinnest that can be


def test_crops_lie_row_by_row():
    pixels = np.random.default_rng(1).integers(0, 256, (2 * SIDE, 3 * SIDE, 3), dtype=np.uint8)
    views = crop_views(pixels, 0, 6)
    for i in range(6):
        row, column = divmod(i, 3)
        tile = pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        np.testing.assert_array_equal(views[i], normalized(tile).transpose(2, 0, 1))
    np.testing.assert_array_equal(crop_views(pixels, 2, 5), views[2:5])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 1)])
def test_the_view_of_the_whole_is_cubic_convolution_without_antialiasing(rows, columns):
    pixels = np.random.default_rng(2).integers(0, 256, (rows * SIDE, columns * SIDE, 3), dtype=np.uint8)
    view = whole_view(pixels)
    for y, x in [(0, 0), (0, 335), (335, 0), (335, 335), (17, 200), (168, 3)]:
        # float64, pixel by pixel; 17 numbers of about 2 added in float32 differ by a few times 1e-7
        np.testing.assert_allclose(view[:, y, x], _cubic(pixels, y, x), atol=2e-6)


def _cubic(pixels, y, x):
    """Keys' cubic convolution with a = -0.75 at the centre of output pixel (y, x)."""

    def kernel(d):
        d = abs(d)
        if d <= 1:
            return 1.25 * d**3 - 2.25 * d**2 + 1
        return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0

    height, width, _ = pixels.shape
    cy, cx = (y + 0.5) * height / SIDE - 0.5, (x + 0.5) * width / SIDE - 0.5
    total = np.zeros(3)
    for i in range(math.floor(cy) - 1, math.floor(cy) + 3):
        for j in range(math.floor(cx) - 1, math.floor(cx) + 3):
            pixel = pixels[min(max(i, 0), height - 1), min(max(j, 0), width - 1)].astype(float) / 255
            pixel = (pixel - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
            total += kernel(cy - i) * kernel(cx - j) * pixel
    return total
