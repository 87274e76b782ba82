"""Frames: which ones, and of what."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

from slmkit.errors import RequestError
from slmkit.vision.video import frames, sampled


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (level, level, level))


def levels(pictures) -> list[int]:
    return [round(float(picture.hd(1).pixels.mean())) for picture in pictures]


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(10, 1, [0]), (10, 2, [0, 9]), (10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (9, 3, [0, 4, 8]), (1, 1, [0])],
)
def test_frames_are_sampled_from_the_first_to_the_last(total, count, expected):
    assert sampled(total, count) == expected


def test_a_folder_gives_its_images_in_the_order_of_their_names(tmp_path):
    for i in range(5):
        grey(50 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert levels(frames(tmp_path, 3)) == [0, 100, 200]


def test_an_animated_image_gives_its_frames(tmp_path):
    grey(0).save(tmp_path / "a.gif", save_all=True, append_images=[grey(50), grey(100), grey(150), grey(200)])
    assert levels(frames(tmp_path / "a.gif", 3)) == [0, 100, 200]


def test_a_video_file_gives_its_frames(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for i in range(11):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = levels(frames(tmp_path / "a.mp4", 3))
    np.testing.assert_allclose(found, [0, 100, 200], atol=12)  # the codec is not exact


def test_sound_alone_is_refused(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RequestError, match=r"a\.mp4 has no stream of pictures; give a video"):
        frames(tmp_path / "a.mp4", 3)


@pytest.mark.parametrize("data", [b"", b"no video", bytes(5000), b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"])
def test_what_cannot_be_decoded_is_refused(tmp_path, data):
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(RequestError, match=r"a\.mp4 cannot be decoded as a video \((?!\[Errno)"):
        frames(tmp_path / "a.mp4", 3)


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(RequestError, match="there is no file"):
        frames(tmp_path / "none.mp4", 3)
    with pytest.raises(RequestError, match="no images"):
        frames(tmp_path, 3)
    with pytest.raises(RequestError, match=r"'https://example.org/a.mp4' is a URL.*fetch it first"):
        frames("https://example.org/a.mp4", 3)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(RequestError, match=r"a.gif"):
        frames(tmp_path / "a.gif", 3)


@pytest.mark.parametrize("count", [0, 65, True, 2.0, "3"])
def test_a_senseless_number_of_frames_is_refused(tmp_path, count):
    with pytest.raises(RequestError, match="1 to 64"):
        frames(tmp_path, count)


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    import sys

    from slmkit.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(MissingDependency, match=r"slmkit\[video\]"):
        frames(Path(tmp_path / "a.mp4"), 2)


def test_an_animation_in_memory_is_no_image():
    buffer = io.BytesIO()
    grey(0).save(buffer, "GIF", save_all=True, append_images=[grey(9)])
    from slmkit.vision.picture import open_picture

    with pytest.raises(RequestError, match="2 frames"):
        open_picture(buffer.getvalue())
