"""An image as people give it, opened with distrust: a file, a URL, bytes, or an image of Pillow.

What becomes of unusual ones is written in docs/vision.md. Nothing is decoded before size and format were looked at.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.errors import MissingDependency, RequestError
from slmkit.untrusted import brief, open_regular, shown
from slmkit.vision.fetch import Fetching, fetch, is_url
from slmkit.vision.hd import Grid, HdImage, grid_of, hd_pixels

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # of the many that Pillow could read
MOST_BYTES = 64 << 20  # of an image file
MOST_PIXELS = 80_000_000  # as 8-bit RGB 240 MB
_ORIENTATION = 0x0112  # EXIF tag
_ON_THEIR_SIDE = (5, 6, 7, 8)
_WARNINGS = threading.Lock()  # the filters are the process's own


class Picture:
    """One image, its size known and its pixels not decoded yet.

    name: what messages call it.   width, height: in pixels, as it is shown, EXIF rotation applied.
    """

    def __init__(
        self, name: str, image: Image.Image, reopen: Callable[[], Image.Image], data: bytes | None = None
    ) -> None:
        """data: the file that it was opened from, if there is one."""
        self.name = name
        self._data = data
        is_turned = image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE
        self.width, self.height = image.size[::-1] if is_turned else image.size
        self._reopen = reopen
        self._hd: tuple[int, HdImage] | None = None
        if not 1 <= self.width * self.height <= MOST_PIXELS:
            raise RequestError(
                f"{name} has {self.width} x {self.height} pixels; at most {MOST_PIXELS // 10**6} million are read, "
                "so make it smaller"
            )

    def grid(self, num_crops: int) -> Grid:
        """How the image is cut.   Raises RequestError for one that cannot be."""
        return grid_of(self.width, self.height, num_crops, self.name)

    def hd(self, num_crops: int) -> HdImage:
        """The image in at most num_crops crops; the last one asked for is kept.   Raises RequestError."""
        if self._hd is None or self._hd[0] != num_crops:
            grid = self.grid(num_crops)
            with _decoding(self.name):
                pixels = hd_pixels(upright_rgb(self._reopen(), self.name), grid)
            digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
            self._hd = num_crops, HdImage(self.name, grid, pixels, digest)
        return self._hd[1]

    def as_file(self) -> bytes:
        """The file that it was opened from; of an image in memory a PNG with the same pixels.   Raises RequestError."""
        if self._data is None:
            self._data = self.as_png()
        return self._data

    def as_png(self) -> bytes:
        """The pixels as they are shown, 8-bit RGB, as a PNG file.   Raises RequestError."""
        with _decoding(self.name):
            file = io.BytesIO()
            upright_rgb(self._reopen(), self.name).save(file, "PNG")
            return file.getvalue()

    def __repr__(self) -> str:
        return f"<Picture {self.name}, {self.width} x {self.height}>"


def open_picture(source: Any, fetching: Fetching | None = None) -> Picture:
    """The image that `source` is: a Picture, a path, an http(s) or data URL, bytes, or an image of Pillow.

    Raises RequestError for what is no image that can be read, DownloadError for a URL that does not answer.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(source), f"an image of {len(source)} bytes")
    if isinstance(source, str) and is_url(source):
        name = source if len(source) <= 100 else source[:97] + "..."
        return _of_bytes(fetch(source, MOST_BYTES, fetching or Fetching()), name)
    if isinstance(source, str) and "://" in source:
        raise RequestError(
            f"{shown(source)} is no URL of http, https or data; give one of those, or the path of a file"
        )
    if isinstance(source, (str, os.PathLike)):
        return _of_bytes(read_file(Path(source), MOST_BYTES, "an image"), str(source))
    if isinstance(source, pillow().Image):
        return picture_of(source, "an image of Pillow")
    raise RequestError(f"an image is a path, a URL, bytes or an image of Pillow, not {type(source).__name__}")


def picture_of(image: Image.Image, name: str) -> Picture:
    """A Picture of an image in memory, which is copied."""
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise _animated(name, image)
    with _decoding(name):
        held = image.copy()
        return Picture(name, held, lambda: held)


def pillow() -> Any:
    """The module PIL.Image.   Raises MissingDependency."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependency("images need Pillow, which is not installed; pip install 'slmkit[vision]'") from None
    return Image


def read_file(path: Path, limit: int, what: str) -> bytes:
    """The bytes of a regular file.   Raises RequestError."""
    if not path.exists():
        raise RequestError(f"there is no file {path}; check the name of {what}")
    try:
        with os.fdopen(open_regular(path, RequestError), "rb") as file:
            data = file.read(limit + 1)
    except OSError as reason:
        raise RequestError(f"{path} cannot be read ({reason.strerror}); check the disk it lies on") from None
    if len(data) > limit:
        raise RequestError(f"{path} has more than the {limit >> 20} MiB that are read of {what}; make it smaller")
    return data


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB as it is shown: turned as EXIF says, transparent parts over white.

    Raises RequestError for numbers whose range is not known.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return _high_bytes(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise RequestError(f"{name} has 32-bit pixels, whose black and white are not told; save it with 8 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = pillow().new("RGBA", layer.size, (255, 255, 255, 255))
        return pillow().alpha_composite(white, layer).convert("RGB")  # type: ignore[no-any-return]
    return image.convert("RGB")


def _of_bytes(data: bytes, name: str) -> Picture:
    pillow()  # says what to install, before anything else can go wrong

    def reopen() -> Image.Image:
        return opened(data, name)

    image = reopen()
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise _animated(name, image)
    with _decoding(name):
        return Picture(name, image, reopen, data)


def opened(data: bytes, name: str) -> Image.Image:
    """Its header read, its pixels not."""
    image = pillow()
    with _decoding(name), _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("error", image.DecompressionBombWarning)
        found: Image.Image = image.open(io.BytesIO(data), formats=FORMATS)
        return found


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Pillow's errors, which may be of any kind where a file was made to break it, as ours."""
    image = pillow()
    try:
        yield
    except (RequestError, MissingDependency, MemoryError):
        raise
    except image.UnidentifiedImageError:
        raise RequestError(f"{name} is not an image that is read here; the formats are {', '.join(FORMATS)}") from None
    except (image.DecompressionBombError, image.DecompressionBombWarning):
        raise RequestError(
            f"{name} claims more pixels than the {MOST_PIXELS // 10**6} million that are read; make it smaller"
        ) from None
    except Exception as reason:
        raise RequestError(f"{name} cannot be decoded ({brief(reason)}); the file is damaged or cut short") from None


def _animated(name: str, image: Any) -> RequestError:
    return RequestError(
        f"{shown(name)} has {image.n_frames} frames; save the one you mean as an image of its own, or give the file "
        "as a video, of which frames are sampled"
    )


def _high_bytes(image: Image.Image) -> Image.Image:
    """A 16-bit grey image in 8 bits, as Pillow reads 16-bit colour; its own conversion would make most of it white."""
    import numpy as np

    return pillow().fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))  # type: ignore[no-any-return]
