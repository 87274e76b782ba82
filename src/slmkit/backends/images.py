"""The images of a request: opened, counted in tokens and bytes, and refused with numbers where they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.engine.images import MOST_BYTES, Place
from slmkit.engine.memory import free_bytes
from slmkit.errors import NotEnoughMemory, RequestError
from slmkit.text.image_tags import tagged
from slmkit.vision.fetch import Fetching
from slmkit.vision.hd import SIDE, Grid, grid_of
from slmkit.vision.picture import Picture, open_picture

if TYPE_CHECKING:
    from slmkit.request import Message
    from slmkit.sources.base import Source
    from slmkit.text.prompt import Prompt


@dataclass(frozen=True)
class ImageRoom:
    """What is left for images of the memory that a model may use, beside its weights and its cache.

    bound: as it was given.   encoding: bytes for the images of one request.   kept: for rows of earlier ones.
    """

    bound: str
    encoding: int
    kept: int

    @classmethod
    def of(cls, bound: str, left: int) -> ImageRoom:
        """Of the bytes that are left, a quarter at most keeps rows."""
        kept = min(MOST_BYTES, left // 4)
        return cls(bound, left - kept, kept)

    @staticmethod
    def least(source: Source) -> int:
        """Bytes that have to be left for one image in as many crops as the model takes by itself; 0 if it sees none."""
        if not source.sees:
            return 0
        crops = source.num_crops or 1
        width, height = SIDE, crops * SIDE  # of all shapes this one has the most tokens
        return image_bytes(source, [grid_of(width, height, crops)], width * height) * 4 // 3


@dataclass(frozen=True)
class ImagePlan:
    """What the images of a conversation take, known from their sizes alone.

    tokens: of each.   n_bytes: memory to encode the largest, with all rows, while its pixels are decoded.
    """

    messages: tuple[Message, ...]
    pictures: tuple[Picture, ...]
    num_crops: int
    tokens: tuple[int, ...]
    n_bytes: int

    def places(self, prompt: Prompt, room: ImageRoom | None = None) -> tuple[Place, ...]:
        """The images where the prompt has them, decoded.   Raises RequestError, NotEnoughMemory.

        room: what a bound of memory leaves, where there is one.
        """
        free, left, instead = free_bytes(), "are free", "or lower num_crops"
        if room and room.encoding < free:
            free, left = room.encoding, f"are left of --memory {room.bound} beside weights and cache"
            instead = "lower num_crops or ctx, or raise --memory"
        if self.n_bytes > free:
            raise NotEnoughMemory(
                f"{len(self.pictures)} images of {sum(self.tokens)} tokens need {self.n_bytes / 1e6:,.0f} MB to be "
                f"encoded, and {free / 1e6:,.0f} MB {left}; give fewer or smaller ones, {instead}"
            )
        return tuple(Place(start, n, self.pictures[i].hd(self.num_crops)) for start, n, i in prompt.images)


def plan_images(
    messages: Sequence[Message], source: Source, num_crops: int | None, fetching: Fetching | None = None
) -> ImagePlan:
    """Open the images of a conversation, without decoding them, and count.   Raises RequestError, DownloadError."""
    placed, given = tagged(messages)
    pictures = tuple(open_picture(image, fetching) for image in given)
    crops = num_crops or (crops_of(source) if pictures else 1)
    grids = [picture.grid(crops) for picture in pictures]
    return ImagePlan(
        messages=tuple(placed),
        pictures=pictures,
        num_crops=crops,
        tokens=tuple(grid.n_tokens for grid in grids),
        n_bytes=image_bytes(source, grids, most_pixels(pictures)),
    )


def image_bytes(source: Source, grids: Sequence[Grid], pixels: int) -> int:
    """Memory at the peak: everybody's rows and pixels, and what the largest takes to decode or to encode.

    pixels: of the image that has most.
    """
    if not grids:
        return 0
    hidden, feature_bytes = source.config.hidden_size, source.family.feature_bytes
    kept = sum(4 * grid.n_tokens * hidden + 3 * SIDE**2 * grid.rows * grid.columns for grid in grids)
    decoded = 9 * pixels  # as the file has it, upright, as RGB
    return int(kept + max(decoded, *(feature_bytes(source.config, grid) for grid in grids)))


def most_pixels(pictures: Sequence[Picture]) -> int:
    """Of the largest one."""
    return max((picture.width * picture.height for picture in pictures), default=0)


def crops_of(source: Source) -> int:
    """The model's own num_crops.   Raises RequestError where its files do not say."""
    if source.num_crops is None:
        raise RequestError(
            f"{source.path} has no preprocessor_config.json, which says how many crops an image has; give num_crops "
            "(16 for Phi-3-vision, 4 for Phi-3.5-vision), or fetch the file"
        )
    return source.num_crops
