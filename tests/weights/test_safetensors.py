"""Reading and writing safetensors: exact values, and one sentence for every way a file can be wrong."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import file_bytes, header
from hypothesis import given, settings
from hypothesis import strategies as st

from slmkit.errors import CheckpointError
from slmkit.ops.pack import as_f32
from slmkit.weights.header import MOST_HEADER_BYTES
from slmkit.weights.safetensors import SafetensorsFile, SafetensorsWriter


def entry(shape: list[Any], start: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def opened(tmp_path: Path, content: bytes) -> SafetensorsFile:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    return SafetensorsFile(path)


def test_every_bfloat16_is_read_exactly_also_subnormals_infinities_and_nans(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    read = opened(tmp_path, file_bytes({"w": ("BF16", bits)})).tensor("w")
    assert np.array_equal(read, bits)
    wide = as_f32(read)
    assert np.array_equal(wide.view(np.uint32), bits.astype(np.uint32) << 16)
    assert wide[0x0001] == 2.0**-133  # the smallest subnormal
    assert wide[0x3F80] == 1.0
    assert np.isposinf(wide[0x7F80])
    assert np.isnan(wide[0x7FC0])


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("F64", np.array([1.5, -0.0])),
        ("F32", np.array([np.nan, np.inf, 1e-45], np.float32)),
        ("F16", np.array([[65504], [6e-8]], np.float16)),
        ("I64", np.array([-(2**63), 2**63 - 1])),
        ("I32", np.array([-(2**31)], np.int32)),
        ("I16", np.array([-32768], np.int16)),
        ("I8", np.array([-128, 127], np.int8)),
        ("U8", np.array([[[255]]], np.uint8)),
        ("U16", np.array([65535], np.uint16)),
        ("U32", np.array([2**32 - 1], np.uint32)),
        ("U64", np.array([2**64 - 1], np.uint64)),
        ("BOOL", np.array([True, False])),
        ("F32", np.array(7, np.float32)),  # no dimensions
        ("F32", np.empty((3, 0), np.float32)),
    ],
)
def test_a_tensor_of_each_type_comes_back_to_the_bit(tmp_path: Path, dtype: str, array: np.ndarray) -> None:
    read = opened(tmp_path, file_bytes({"w": (dtype, array)})).tensor("w")
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_tensors_are_views_of_the_file_and_cannot_be_written(tmp_path: Path) -> None:
    read = opened(tmp_path, file_bytes({"w": ("F32", np.ones(16, np.float32))}))
    assert not read.tensor("w").flags.writeable
    assert np.shares_memory(read.tensor("w"), read.tensor("w"))


def test_a_tensor_that_lies_unaligned_is_copied_aligned(tmp_path: Path) -> None:
    tensors = {"odd": ("U8", np.zeros(3, np.uint8)), "w": ("F32", np.arange(5, dtype=np.float32))}
    read = opened(tmp_path, file_bytes(tensors)).tensor("w")
    assert read.flags.aligned
    assert np.array_equal(read, np.arange(5))


def test_views_stay_valid_when_the_file_is_released(tmp_path: Path) -> None:
    file = opened(tmp_path, file_bytes({"w": ("U8", np.arange(200, dtype=np.uint8))}))
    view = file.tensor("w")
    file.release()
    assert np.array_equal(view, file.tensor("w"))
    assert view[199] == 199


GOOD = {"w": entry([4], 0, 16), "v": entry([2], 16, 24)}
WRONG = {
    "empty file": (b"", "too few"),
    "seven bytes": (b"1234567", "too few"),
    "header longer than the file": (struct.pack("<Q", 100) + b"{}", "cut short"),
    "header of 2^64 - 1 bytes": (b"\xff" * 8 + b"{}", "cut short"),
    "no JSON": (struct.pack("<Q", 2) + b"{]", "not valid JSON"),
    "no header": (struct.pack("<Q", 0), "not valid JSON"),
    "no UTF-8": (struct.pack("<Q", 2) + b"\xff\xfe", "UTF-8"),
    "a list": (struct.pack("<Q", 2) + b"[]", "list"),
    "nested too deeply": (struct.pack("<Q", 200_000) + b"[" * 200_000, "nested"),
    "NaN": (struct.pack("<Q", 9) + b'{"a":NaN}', "NaN"),
    "a number of 5000 digits": (struct.pack("<Q", 5006) + b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
    "a name twice": (struct.pack("<Q", 13) + b'{"a":1,"a":2}', "'a' twice"),
    "metadata that is no text": (header({"__metadata__": {"a": 1}}), "metadata"),
    "metadata that is no object": (header({"__metadata__": []}), "metadata"),
    "an entry that is no object": (header({"w": 3}), "'w'"),
    "an entry without shape": (header({"w": {"dtype": "F32", "data_offsets": [0, 0]}}), "'w'"),
    "an entry with more in it": (header({"w": entry([0], 0, 0) | {"scale": 2}}), "'w'"),
    "an unknown type": (header({"w": entry([1], 0, 1, "F8_E4M3")}) + b"1", "F8_E4M3"),
    "a type that is no text": (header({"w": entry([1], 0, 1, ["F32"])}) + b"1", "'w'"),
    "a negative size": (header({"w": entry([-4], 0, 16)}) + bytes(16), "shape"),
    "a size that is a fraction": (header({"w": entry([4.0], 0, 16)}) + bytes(16), "shape"),
    "a size that is a truth": (header({"w": entry([True], 0, 4)}) + bytes(4), "shape"),
    "a size of 2^70": (header({"w": entry([2**70], 0, 16)}) + bytes(16), "shape"),
    "sizes whose product wraps to 16 in 64 bits": (header({"w": entry([2**62 + 1, 4], 0, 16)}) + bytes(16), "shape"),
    "sizes whose product is 2^65": (header({"w": entry([2**33, 2**32], 0, 16)}) + bytes(16), "takes"),
    "33 dimensions": (header({"w": entry([1] * 33, 0, 4)}) + bytes(4), "shape"),
    "offsets backwards": (header({"w": entry([4], 16, 0)}) + bytes(16), "offsets"),
    "three offsets": (header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}}) + bytes(16), "offsets"),
    "negative offsets": (header({"w": entry([4], -16, 0)}) + bytes(16), "offsets"),
    "a shape larger than its bytes": (header({"w": entry([5], 0, 16)}) + bytes(16), "'w'"),
    "a shape smaller than its bytes": (header({"w": entry([3], 0, 16)}) + bytes(16), "'w'"),
    "one byte cut off": (header(GOOD) + bytes(23), "'v'"),
    "one byte too many": (header(GOOD) + bytes(25), "1 bytes after"),
    "overlap": (header({"w": entry([4], 0, 16), "v": entry([2], 12, 20)}) + bytes(20), "overlaps"),
    "hole": (header({"w": entry([4], 0, 16), "v": entry([2], 20, 28)}) + bytes(28), "hole"),
    "a hole at the start": (header({"w": entry([4], 4, 20)}) + bytes(20), "hole"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    content, says = WRONG[name]
    with pytest.raises(CheckpointError) as refused:
        opened(tmp_path, content)
    message = str(refused.value)
    assert says in message
    assert "m.safetensors" in message
    assert "\n" not in message
    assert len(message) < 600 + len(str(tmp_path))


def test_a_header_over_the_limit_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", MOST_HEADER_BYTES + 1))
    os.truncate(path, MOST_HEADER_BYTES + 100)
    with pytest.raises(CheckpointError, match="reads up to"):
        SafetensorsFile(path)


def test_a_name_of_a_megabyte_is_shortened_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        opened(tmp_path, header({"\x1b\ud800" * 300_000: 3}))
    assert len(str(refused.value)) < 1000
    assert str(refused.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_and_an_endless_file_are_refused_and_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.safetensors")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("fifo", "zero", "folder"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            SafetensorsFile(tmp_path / f"{name}.safetensors")


def test_a_file_replaced_after_opening_is_not_read(tmp_path: Path) -> None:
    file = opened(tmp_path, file_bytes({"w": ("F32", np.zeros(4, np.float32))}))
    (tmp_path / "new").write_bytes(file_bytes({"w": ("F32", np.ones(4, np.float32))}))
    os.replace(tmp_path / "new", file.path)
    with pytest.raises(CheckpointError, match="changed"):
        file.tensor("w")


# Headers that are almost right, which plain bytes never are.
number = st.one_of(
    st.integers(-2, 40), st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 2**200]), st.floats(), st.none()
)
loose_entry = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(["F32", "BF16", "U8", "F4", ""]), number),
        "shape": st.one_of(st.lists(number, max_size=4), number, st.text(max_size=2)),
        "data_offsets": st.one_of(st.lists(number, max_size=3), st.text(max_size=2)),
    }
)
loose_header = st.dictionaries(
    st.text(max_size=3) | st.just("__metadata__"), loose_entry | st.text(max_size=2), max_size=4
)
content = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda entries, data: header(entries) + data, loose_header, st.binary(max_size=48)),
    st.builds(
        lambda text, data: struct.pack("<Q", len(text)) + text + data, st.binary(max_size=40), st.binary(max_size=9)
    ),
)


@settings(max_examples=200, deadline=None)
@given(content)
def test_no_bytes_raise_anything_but_our_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return
    for name in file.tensors:
        file.tensor(name).tobytes()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_good_file_with_bytes_changed_raises_nothing_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = bytearray(file_bytes({"a": ("BF16", np.zeros((2, 3), np.uint16)), "b": ("F32", np.zeros(2, np.float32))}))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(good)
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return
    for name in file.tensors:
        file.tensor(name).tobytes()


PLAN = [("a", "BF16", (3,)), ("b", "F32", (5, 2)), ("e", "U8", (64,)), ("c", "U8", (1,)), ("d", "F16", (7,))]


def write(path: Path, plan: list[Any] = PLAN) -> dict[str, np.ndarray]:
    types = {"BF16": np.uint16, "F32": np.float32, "U8": np.uint8, "F16": np.float16}
    arrays = {name: np.arange(np.prod(shape), dtype=types[dtype]).reshape(shape) for name, dtype, shape in plan}
    with SafetensorsWriter(path, plan, {"slmkit.layout": "1"}) as writer:
        writer.begin()
        for name, array in arrays.items():
            for piece in array:  # row by row
                writer.append(name, np.asarray(piece))
        writer.commit()
    return arrays


def test_every_tensor_starts_at_a_multiple_of_64_and_reads_back(tmp_path: Path) -> None:
    arrays = write(tmp_path / "m.safetensors")
    raw = (tmp_path / "m.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + length])
    assert all((8 + length + entries[name]["data_offsets"][0]) % 64 == 0 for name in arrays)
    file = SafetensorsFile(tmp_path / "m.safetensors")
    assert list(file.tensors) == list(arrays)  # no padding shows
    assert all(np.array_equal(file.tensor(name), array) for name, array in arrays.items())
    assert file.metadata == {"slmkit.layout": "1"}


def test_the_official_library_reads_what_we_write(tmp_path: Path) -> None:
    official = pytest.importorskip("safetensors")
    plan = [row for row in PLAN if row[1] != "BF16"]  # which it cannot give to NumPy
    arrays = write(tmp_path / "m.safetensors", plan)
    with official.safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        assert file.metadata() == {"slmkit.layout": "1"}
        for name, array in arrays.items():
            assert np.array_equal(file.get_tensor(name), array)


def test_a_tensor_out_of_order_or_missing_cannot_be_committed(tmp_path: Path) -> None:
    with SafetensorsWriter(tmp_path / "m.safetensors", PLAN, {}) as writer:
        writer.begin()
        with pytest.raises(AssertionError):
            writer.append("b", np.zeros((5, 2), np.float32))
        with pytest.raises(AssertionError):
            writer.commit()
    assert list(tmp_path.iterdir()) == []
