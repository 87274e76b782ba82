"""Frames of a video, sampled evenly: of a folder of images, of an animated image, or of a video file by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmkit.errors import MissingDependency, RequestError
from slmkit.untrusted import brief, shown
from slmkit.vision.picture import (
    MOST_BYTES,
    MOST_PIXELS,
    Picture,
    open_picture,
    opened,
    picture_of,
    pillow,
    read_file,
    upright_rgb,
)

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")  # of files in a folder
ANIMATED = (".gif", ".webp", ".png", ".apng")
# A playlist or the like would lead to other files, and to servers.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf"
_FFMPEG = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
MOST_FRAMES = 64
MOST_LISTED = 100_000  # files of a folder, and frames of a video that are decoded on the way to those wanted


def frames(source: str | os.PathLike[str], count: int) -> list[Picture]:
    """`count` frames from the first to the last, at equal distances; all of them if there are fewer.

    source: a folder, whose images are taken in the order of their names, an animated image, or a video file.
    Raises RequestError for what cannot be read, MissingDependency where a video file needs PyAV.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_FRAMES:
        raise RequestError(f"frames is {count!r}; it takes a whole number from 1 to {MOST_FRAMES}")
    if "://" in str(source):
        raise RequestError(f"{shown(str(source))} is a URL, and videos are read from files; fetch it first")
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, count)
    if not path.exists():
        raise RequestError(f"there is no file {path}; check the name of the video")
    if not path.is_file():
        raise RequestError(f"{path} is not an ordinary file; give a video, or a folder of images")
    return _of_animation(path, count) if path.suffix.lower() in ANIMATED else _of_video(path, count)


def sampled(total: int, count: int) -> list[int]:
    """Which of `total` frames: the first, the last, and others between them at equal distances."""
    if total <= count:
        return list(range(total))
    return [0] if count == 1 else [round(i * (total - 1) / (count - 1)) for i in range(count)]


def _of_folder(path: Path, count: int) -> list[Picture]:
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(ENDINGS))
    if not names or len(names) > MOST_LISTED:
        raise RequestError(f"the folder {path} has {len(names) or 'no'} images; 1 to {MOST_LISTED} can be frames")
    return [open_picture(path / names[i]) for i in sampled(len(names), count)]


def _of_animation(path: Path, count: int) -> list[Picture]:
    with _decoding(path):
        image: Any = opened(read_file(path, MOST_BYTES, "an image"), str(path))
        wanted = sampled(min(getattr(image, "n_frames", 1), MOST_LISTED), count)
        found = []
        for i in wanted:
            image.seek(i)
            found.append(picture_of(upright_rgb(image.copy(), str(path)), f"frame {i} of {path}"))
        return found


def _of_video(path: Path, count: int) -> list[Picture]:
    pillow()
    try:
        import av
    except ImportError:
        raise MissingDependency("frames of a video file need PyAV; pip install 'slmkit[video]', or give a folder of "
                                "images") from None  # fmt: skip
    with _decoding(path), av.open(str(path), options=_FFMPEG) as container:
        if not container.streams.video:
            raise RequestError(f"{path} has no stream of pictures; give a video, and the whole of it")
        stream = container.streams.video[0]
        if stream.width * stream.height > MOST_PIXELS:
            raise RequestError(f"{path} has frames of {stream.width} x {stream.height} pixels, too many to read")
        stream.thread_type = "AUTO"
        total = 0
        for _ in container.decode(stream):
            total += 1
            if total > MOST_LISTED:
                raise RequestError(f"{path} has over {MOST_LISTED} frames; cut out the part that you mean")
        if not total:
            raise RequestError(f"{path} has no frame that can be decoded; is it a video?")
        container.seek(0)
        wanted = set(sampled(total, count))
        found = []
        for i, frame in enumerate(container.decode(container.streams.video[0])):
            if i in wanted:
                found.append(picture_of(frame.to_image(), f"frame {i} of {path}"))
            if i >= max(wanted):
                break
        return found


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    try:
        yield
    except (RequestError, MissingDependency, MemoryError):
        raise
    except Exception as reason:  # PyAV has an error class for each of FFmpeg's
        raise RequestError(f"{path} cannot be decoded as a video ({_why(reason)}); is it one, and whole?") from None


def _why(reason: Exception) -> str:
    """Without FFmpeg's numbers, where it has words."""
    return getattr(reason, "strerror", None) or brief(reason)
