"""The HD transform of Phi-3-vision: an image enlarged or reduced to a grid of crops, and one view of the whole.

Source: the published image processor of Phi-3-vision-128k-instruct, which resizes with Pillow and interpolates with
torch; equal to it but for the last bits of the float32 view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import RequestError

if TYPE_CHECKING:
    from PIL import Image

F32 = NDArray[np.float32]
SIDE = 336  # pixels of a crop
PATCHES = 12  # features of a crop, in each direction
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # of CLIP's pictures, R, G, B


@dataclass(frozen=True)
class Grid:
    """How an image is cut.   rows, columns: of crops.

    resized: (width, height) that the image is scaled to before it is padded with white; is_tall: padded left and right,
    not above and below.
    """

    rows: int
    columns: int
    resized: tuple[int, int]
    is_tall: bool

    @property
    def n_views(self) -> int:
        """Crops, and the view of the whole."""
        return self.rows * self.columns + 1

    @property
    def n_tokens(self) -> int:
        """A feature for each place, one more at the end of each row of them, and one between crops and whole."""
        return self.n_views * PATCHES * PATCHES + 1 + (self.rows + 1) * PATCHES


@dataclass(frozen=True, eq=False)
class HdImage:
    """An image as the model sees it.

    pixels: (rows * 336, columns * 336, 3), bytes.   digest: of them.   name: what messages call it.
    """

    name: str
    grid: Grid
    pixels: NDArray[np.uint8]
    digest: bytes

    def views(self, first: int, last: int) -> F32:
        """Views [first, last), (count, 3, 336, 336): the first of all is the whole, then come the crops."""
        crops = crop_views(self.pixels, max(first - 1, 0), last - 1)
        return crops if first else np.concatenate([whole_view(self.pixels)[None], crops])


def grid_of(width: int, height: int, num_crops: int, name: str = "the image") -> Grid:
    """The largest grid of at most num_crops crops in the image's shape.   Raises RequestError for too thin an image."""
    long, short = max(width, height), min(width, height)
    ratio = long / short
    scale = 1
    while scale * math.ceil(scale / ratio) <= num_crops:
        scale += 1
    scale = max(scale - 1, 1)
    new_long = SIDE * scale
    new_short = int(new_long / ratio)
    if new_short < 1:
        raise RequestError(
            f"{name} is {width} x {height} pixels, and scaled to a length of {new_long} it would be 0 wide; cut it, or "
            f"pad it to at most {new_long} times as long as wide"
        )
    lines = math.ceil(new_short / SIDE)
    if height > width:
        return Grid(scale, lines, (new_short, new_long), True)
    return Grid(lines, scale, (new_long, new_short), False)


def hd_pixels(image: Image.Image, grid: Grid) -> NDArray[np.uint8]:
    """An RGB image scaled and padded with white: (rows * 336, columns * 336, 3)."""
    from PIL import Image

    # The reference turns a tall image on its side, and back at the end; so its rounding is that of a wide one.
    turned = image.transpose(Image.Transpose.TRANSPOSE) if grid.is_tall else image
    width, height = grid.resized[::-1] if grid.is_tall else grid.resized
    scaled = np.asarray(turned.resize((width, height), Image.Resampling.BILINEAR))
    lines = max(grid.rows, 1) if not grid.is_tall else grid.columns
    padded = np.full((lines * SIDE, width, 3), 255, np.uint8)
    above = (lines * SIDE - height) // 2
    padded[above : above + height] = scaled
    return np.ascontiguousarray(padded.swapaxes(0, 1)) if grid.is_tall else padded


def normalized(pixels: NDArray[np.uint8]) -> F32:
    """Bytes as the model takes them, by the mean and deviation of CLIP's pictures."""
    mean, deviation = np.array(MEAN, np.float32), np.array(STD, np.float32)
    out: F32 = (pixels.astype(np.float32) / np.float32(255) - mean) / deviation
    return out


def whole_view(hd: NDArray[np.uint8]) -> F32:
    """All of the image in one crop, (3, 336, 336): bicubic interpolation (a = -0.75) of the normalized pixels.

    Every output takes 4 x 4 pixels, however large the image is: no antialiasing, as in torch's `interpolate`.
    """
    rows, by_row = _taps(hd.shape[0])
    columns, by_column = _taps(hd.shape[1])
    view = np.zeros((SIDE, SIDE, 3), np.float32)
    for i in range(4):
        line = np.zeros_like(view)
        for j in range(4):
            line += normalized(hd[rows[:, i]][:, columns[:, j]]) * by_column[:, j, None]
        view += line * by_row[:, i, None, None]
    return np.ascontiguousarray(view.transpose(2, 0, 1))


def crop_views(hd: NDArray[np.uint8], first: int, last: int) -> F32:
    """Crops [first, last), counted row by row: (count, 3, 336, 336)."""
    columns = hd.shape[1] // SIDE
    tiles = hd.reshape(-1, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)[first:last]
    return np.ascontiguousarray(normalized(tiles).transpose(0, 3, 1, 2))


def _taps(size: int) -> tuple[NDArray[np.intp], F32]:
    """For each of 336 outputs the 4 inputs of `size` that it takes, and their weights."""
    at = (np.arange(SIDE, dtype=np.float32) + np.float32(0.5)) * np.float32(size / SIDE) - np.float32(0.5)
    below = np.floor(at)
    t = (at - below).astype(np.float32)[:, None]
    distance = np.abs(t + np.array([1, 0, -1, -2], np.float32))
    a = np.float32(-0.75)
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    inputs = below.astype(np.intp)[:, None] + np.arange(-1, 3)
    return inputs.clip(0, size - 1), np.where(distance <= 1, near, far).astype(np.float32)
