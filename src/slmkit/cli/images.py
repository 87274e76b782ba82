"""Images on the command line: files, URLs, and frames of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from slmkit.options import LoadOptions
    from slmkit.vision.picture import Picture

FRAMES = 8


def add_images(parser: argparse.ArgumentParser) -> None:
    """The flags that `given_images` reads."""
    parser.add_argument("--image", metavar="FILE", action="append", default=[],
                        help="an image to ask about, a file or a URL; may be given several times")  # fmt: skip
    parser.add_argument("--video", metavar="FILE", help="a video file, an animated image or a folder of images, of "
                        "which frames are taken as images")  # fmt: skip
    parser.add_argument("--frames", metavar="N", type=int, default=None, help=f"how many frames (default {FRAMES})")


def given_images(args: argparse.Namespace, options: LoadOptions) -> tuple[Picture, ...]:
    """The images, then the video's frames, all of them opened.   Raises RequestError, DownloadError."""
    if args.frames is not None and args.video is None:
        raise RequestError("--frames is for a video; give one with --video FILE, or leave it out")
    pictures = [open_image(name, options) for name in args.image]
    if args.video is not None:
        from slmkit.vision.video import frames

        pictures += frames(args.video, FRAMES if args.frames is None else args.frames)
    return tuple(pictures)


def open_image(name: str, options: LoadOptions) -> Picture:
    """The image that a file or URL holds, opened now, so that it stays what it is."""
    from slmkit.vision.fetch import Fetching
    from slmkit.vision.picture import open_picture

    if not name:
        raise RequestError("the name of an image is empty; give a file or a URL")
    return open_picture(name, Fetching(private=bool(options.private_urls), offline=bool(options.offline)))
