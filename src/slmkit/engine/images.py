"""Images among a prompt's ids: what stands for them is computed a piece at a time, and kept for the next turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from slmkit.engine.job import Job

F32 = NDArray[np.float32]
MOST_BYTES = 256 << 20  # of rows that are kept: 8 images of the largest kind, 27 of 4 crops
MOST_IMAGES = 4096


class Image(Protocol):
    """What the model's own `features` takes.   digest: two images have the same one only if they are the same."""

    @property
    def digest(self) -> bytes: ...


@dataclass(frozen=True)
class Place:
    """Ids [start, start + length) of a prompt stand for an image."""

    start: int
    length: int
    image: Image


class PromptImages:
    """The images of one prompt, and the rows that take their embeddings' place, once they are there."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self._rows: dict[bytes, F32] = {}

    @property
    def missing(self) -> Image | None:
        """The first image without rows."""
        return next((place.image for place in self.places if place.image.digest not in self._rows), None)

    def give(self, image: Image, rows: F32) -> None:
        """The rows of one image: (length, hidden)."""
        self._rows[image.digest] = rows

    def within(self, begin: int, end: int) -> tuple[NDArray[np.intp], F32] | None:
        """For ids [begin, end): which of them, counted from begin, have rows, and the rows; None if none has."""
        at, parts = [], []
        for place in self.places:
            first, last = max(begin, place.start), min(end, place.start + place.length)
            if first < last:
                at.append(np.arange(first - begin, last - begin))
                parts.append(self._rows[place.image.digest][first - place.start : last - place.start])
        return (np.concatenate(at), np.concatenate(parts)) if at else None


class Encoder:
    """Gives prompts the rows of their images, one piece of one image's work at a time.

    Each image that is known has a number of its own, which is never used again; where it stands in a prompt the ids
    are -1 - number. So ids are equal only where texts and images are, and no id of an image is a token's.
    """

    def __init__(self, model: Any, most_bytes: int = MOST_BYTES) -> None:
        self.model, self.most_bytes = model, most_bytes
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._kept: dict[bytes, F32] = {}
        self._n_numbers = 0
        self._under_way: tuple[bytes, Generator[None, None, F32]] | None = None

    def admit(self, job: Job) -> None:
        """Write the images' numbers into the ids, and give the prompt what is kept already."""
        for sequence in job.live:
            for place in sequence.images.places if sequence.images else ():
                number = self._number(place.image.digest)
                sequence.ids[place.start : place.start + place.length] = [-1 - number] * place.length
                if sequence.images and place.image.digest in self._kept:
                    sequence.images.give(place.image, self._kept[place.image.digest])

    def work(self, job: Job) -> None:
        """The next piece of work for a job that waits. What was begun for another image is dropped."""
        (sequence,) = job.live
        assert sequence.images is not None
        image = sequence.images.missing
        assert image is not None
        if image.digest in self._kept:  # another job has had it made meanwhile
            return sequence.images.give(image, self._kept[image.digest])
        if self._under_way is None or self._under_way[0] != image.digest:
            self._under_way = image.digest, self.model.features(image)
        try:
            next(self._under_way[1])
        except StopIteration as end:
            self._under_way = None
            self._keep(image.digest, end.value)
            sequence.images.give(image, end.value)
        except BaseException:
            self._under_way = None
            raise
        return None

    def stop(self) -> None:
        """Let go of work that nobody waits for any more."""
        self._under_way = None

    def _number(self, digest: bytes) -> int:
        if digest not in self._numbers:
            self._numbers[digest] = self._n_numbers
            self._n_numbers += 1
        self._numbers.move_to_end(digest)
        return self._numbers[digest]

    def _keep(self, digest: bytes, rows: F32) -> None:
        """Those used longest ago make room."""
        self._number(digest)
        self._kept[digest] = rows
        for old in list(self._numbers):
            held = sum(kept.nbytes for kept in self._kept.values())
            if held <= self.most_bytes and len(self._numbers) <= MOST_IMAGES:
                break
            del self._numbers[old]
            self._kept.pop(old, None)
