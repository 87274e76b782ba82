"""Images as people give them: every kind of source, every unusual image, and what is refused."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

from slmkit.errors import RequestError, SlmError
from slmkit.vision.fetch import Fetching
from slmkit.vision.hd import SIDE
from slmkit.vision.picture import MOST_PIXELS, open_picture, upright_rgb

IMAGES = Path(__file__).parents[1] / "data" / "images"


def encoded(image: Image.Image, format: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def rgb(data: bytes | Image.Image) -> np.ndarray:
    image = data if isinstance(data, Image.Image) else Image.open(io.BytesIO(data))
    return np.asarray(upright_rgb(image, "it"))


def test_a_path_bytes_a_data_url_and_an_image_of_pillow_are_the_same_image():
    path = IMAGES / "exceltable.png"
    data = path.read_bytes()
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    with Image.open(path) as image:
        sources = [path, str(path), data, bytearray(data), url, image]
        digests = {open_picture(source).hd(4).digest for source in sources}
    assert len(digests) == 1
    picture = open_picture(path)
    assert open_picture(picture) is picture
    assert (picture.width, picture.height) == (487, 206)


def test_other_crops_are_another_image_to_the_model():
    picture = open_picture(IMAGES / "exceltable.png")
    assert picture.hd(4).digest != picture.hd(16).digest


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_usual_formats_are_read(format):
    if format == "WEBP" and not Image.core.__dict__.get("webp", True):
        pytest.skip("this Pillow has no WebP")
    picture = open_picture(encoded(Image.new("RGB", (40, 30), (200, 10, 10)), format))
    assert (picture.width, picture.height) == (40, 30)
    assert abs(int(picture.hd(1).pixels[168, 168, 0]) - 200) < 4


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn to the right
    image = Image.new("RGB", (40, 20), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 20, 20))  # the left half, which will be the upper one
    picture = open_picture(encoded(image, "PNG", exif=exif))
    assert (picture.width, picture.height) == (20, 40)
    shown = rgb(encoded(image, "PNG", exif=exif))
    assert shown.shape == (40, 20, 3)
    assert tuple(shown[5, 10]) == (255, 0, 0)
    assert tuple(shown[35, 10]) == (0, 0, 0)
    assert picture.grid(16).is_tall


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    assert rgb(encoded(image)).tolist() == [[[255, 255, 255], [127, 127, 127]]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 9, 9])
    assert rgb(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255]]]


def test_16_bits_become_8_by_their_high_byte():
    grey = Image.fromarray(np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16))
    assert rgb(encoded(grey))[0, :, 0].tolist() == [0, 0, 1, 0x80, 0xFF]


def test_32_bits_are_refused():
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(RequestError, match=r"32-bit.*8 bits"):
        open_picture(encoded(image, "TIFF")).hd(4)


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert rgb(encoded(image, "TIFF")).tolist() == [[[0, 255, 255]]]


def test_one_bit_and_palettes_are_read():
    assert rgb(encoded(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([1, 2, 3])
    assert rgb(encoded(palette)).tolist() == [[[1, 2, 3]]]


def test_an_animation_is_refused_with_the_way_out():
    others = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in (90, 200)]
    data = encoded(Image.new("RGB", (8, 8)), "GIF", save_all=True, append_images=others)
    with pytest.raises(RequestError, match=r"3 frames.*as a video"):
        open_picture(data)
    with Image.open(io.BytesIO(data)) as image, pytest.raises(RequestError, match="3 frames"):
        open_picture(image)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("name", ["exceltable.png", "australia.jpg"])
def test_a_truncated_image_is_refused(name, share):
    data = (IMAGES / name).read_bytes()
    with pytest.raises(RequestError, match=r"damaged or cut short|not an image"):
        open_picture(data[: int(len(data) * share)]).hd(4)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(1000)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(RequestError, match=r"not an image that is read here|cut short"):
        open_picture(data)


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels and has a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize("side", [9000, 10_000, 15_000, 100_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    assert side**2 > MOST_PIXELS
    with pytest.raises(RequestError, match=r"pixels.*smaller|cut short"):
        open_picture(bomb(side))


def test_a_line_of_pixels_is_refused_with_its_size():
    with pytest.raises(RequestError, match="1 x 8000 pixels"):
        open_picture(encoded(Image.new("RGB", (1, 8000)))).hd(16)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(RequestError, match="there is no file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(RequestError, match="not a regular file"):
        open_picture(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RequestError, match="not a regular file"):
        open_picture(tmp_path / "pipe.png")
    with pytest.raises(RequestError, match="not int"):
        open_picture(3)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.png", "gopher://x"])
def test_urls_of_other_kinds_are_told_from_paths(url):
    with pytest.raises(RequestError, match="is no URL of http, https or data"):
        open_picture(url)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(RequestError, match="more than the 64 MiB"):
        open_picture(tmp_path / "large.png")


def test_a_broken_data_url_is_refused():
    with pytest.raises(RequestError, match="base64"):
        open_picture("data:image/png;base64,####")
    with pytest.raises(RequestError, match="not an image"):
        open_picture("data:image/png,hello")


def test_offline_fetches_nothing():
    with pytest.raises(RequestError, match="offline"):
        open_picture("http://127.0.0.1:1/a.png", Fetching(private=True, offline=True))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_damaged_images_give_an_image_or_our_error(format):
    """Whatever a decoder raises, callers see one kind of error; and no image larger than the file's header says."""
    whole = encoded(Image.effect_noise((37, 29), 90).convert("RGB"), format)
    rng = np.random.default_rng(len(whole))
    read = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        try:
            picture = open_picture(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data))
            if picture.width * picture.height < 10**6:
                assert picture.hd(1).pixels.shape == (SIDE, SIDE, 3)
                read += 1
        except SlmError:
            pass
    assert read


def test_an_image_is_a_file_again_with_the_same_pixels(tmp_path):
    turned = Image.new("RGBA", (40, 20), (255, 0, 0, 128))
    turned.putpixel((3, 4), (0, 0, 255, 255))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    from_file, from_memory = open_picture(tmp_path / "a.png"), open_picture(Image.open(tmp_path / "a.png"))
    assert from_file.as_file() == (tmp_path / "a.png").read_bytes()
    digests = {open_picture(picture.as_file()).hd(1).digest for picture in (from_file, from_memory)}
    assert digests == {from_file.hd(1).digest}
