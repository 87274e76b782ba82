"""Reading GGUF: the same content as gguf-py reads, mapped; and splits."""

from __future__ import annotations

import gc
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    array,
    entry,
    gguf_bytes,
    pair,
    split_pairs,
    text,
)

from slmkit.errors import CheckpointError
from slmkit.weights.gguf.file import GGUFFile, open_gguf

DATA = Path(__file__).parents[1] / "data" / "gguf"
FILES = sorted(DATA.glob("*.gguf"))


def opened(tmp_path: Path, content: bytes) -> GGUFFile:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    return GGUFFile(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_and_every_tensors_bytes_are_those_that_gguf_py_reads(path: Path) -> None:
    ours, theirs = GGUFFile(path), gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, value in fields.items():
        mine = ours.metadata[name]
        assert (mine.tolist() if isinstance(mine, np.ndarray) else mine) == value
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.type == tensor.tensor_type.name
        assert mine.shape == tuple(tensor.shape.tolist()[::-1])
        assert mine.start == tensor.data_offset
        assert mine.n_bytes == tensor.n_bytes
        assert ours.blocks(tensor.name).tobytes() == tensor.data.tobytes()


def test_every_type_of_value_is_read_exactly(tmp_path: Path) -> None:
    cases = [
        (U8, b"\xff", 255),
        (I8, b"\x80", -128),
        (U16, b"\xff\xff", 65535),
        (I16, b"\x00\x80", -32768),
        (U32, b"\xff" * 4, 2**32 - 1),
        (I32, b"\x00\x00\x00\x80", -(2**31)),
        (F32, struct.pack("<f", 1e-45), 2.0**-149),
        (BOOL, b"\x01", True),
        (BOOL, b"\x00", False),
        (STRING, text("▁é\x00\n"), "▁é\x00\n"),
        (STRING, text(""), ""),
        (U64, b"\xff" * 8, 2**64 - 1),
        (I64, b"\x00" * 7 + b"\x80", -(2**63)),
        (F64, struct.pack("<d", 0.1), 0.1),
        (ARRAY, array(STRING, 2, text("a") + text("")), ["a", ""]),
        (ARRAY, array(STRING, 0, b""), []),
    ]
    read = opened(tmp_path, gguf_bytes([pair(f"k{i}", kind, value) for i, (kind, value, _) in enumerate(cases)]))
    for i, (*_, expected) in enumerate(cases):
        value = read.metadata[f"k{i}"]
        assert value == expected
        assert type(value) is type(expected)


def test_arrays_of_numbers_are_numpy_arrays_and_a_nan_stays_one(tmp_path: Path) -> None:
    floats = np.array([np.nan, -np.inf, 1.5], np.float32)
    file = opened(
        tmp_path,
        gguf_bytes(
            [
                pair("f", ARRAY, array(F32, 3, floats.tobytes())),
                pair("i", ARRAY, array(I16, 2, struct.pack("<2h", -1, 7))),
                pair("b", ARRAY, array(BOOL, 3, b"\x01\x00\x01")),
                pair("none", ARRAY, array(U32, 0, b"")),
            ]
        ),
    )
    f, i, b, none = (file.metadata[key] for key in ("f", "i", "b", "none"))
    assert isinstance(f, np.ndarray)
    assert f.tobytes() == floats.tobytes()
    assert not f.flags.writeable
    assert isinstance(i, np.ndarray)
    assert (i.dtype, i.tolist()) == (np.int16, [-1, 7])
    assert isinstance(b, np.ndarray)
    assert (b.dtype, b.tolist()) == (np.bool_, [True, False, True])
    assert isinstance(none, np.ndarray)
    assert (none.dtype, none.shape) == (np.uint32, (0,))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_data_begins_at_the_next_multiple_of_the_alignment(tmp_path: Path, version: int, alignment: int) -> None:
    values = np.arange(6, dtype=np.float32)
    file = opened(
        tmp_path,
        gguf_bytes(
            [pair("general.alignment", U32, struct.pack("<I", alignment))],
            [entry("w", [3, 2])],
            values.tobytes(),
            alignment=alignment,
            version=version,
        ),
    )
    assert file.blocks("w").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_blocks_keep_the_leading_axes_and_hold_a_rows_bytes_in_place_of_its_values(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 256, 4 * 3 * 2 * 34, np.uint8).astype(np.uint8)
    file = opened(tmp_path, gguf_bytes([], [entry("e", [64, 3, 4], 8)], data.tobytes()))
    assert file.tensors["e"].shape == (4, 3, 64)
    assert np.array_equal(file.blocks("e"), data.reshape(4, 3, 68))
    assert not file.blocks("e").flags.writeable


def test_bfloat16_is_handed_out_as_its_bits_and_float16_as_itself(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([], [entry("b", [2], 30), entry("h", [2], 1, 32)], b"\x80\x3f" * 32))
    assert file.blocks("b").tolist() == [0x3F80, 0x3F80]
    assert file.blocks("h").dtype == np.float16


def test_holes_between_tensors_and_bytes_after_the_last_are_no_fault(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([], [entry("a", [1], 0, 64), entry("b", [1], 0, 0)], bytes(100)))
    assert file.blocks("a").tolist() == file.blocks("b").tolist() == [0]


def test_a_file_that_changed_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([], [entry("w", [1])], bytes(4)))
    file.path.write_bytes(file.path.read_bytes() + b"\x00")
    with pytest.raises(CheckpointError, match="changed while"):
        file.blocks("w")


def test_views_stay_readable_when_the_file_is_released(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([], [entry("w", [1])], struct.pack("<f", 2.5)))
    view = file.blocks("w")
    file.release()
    gc.collect()
    assert view[0] == 2.5
    assert file.blocks("w")[0] == 2.5


def split(folder: Path, count: int = 3, **changed: int) -> list[Path]:
    """A split with one tensor in each piece, and of the first piece metadata of the model."""
    paths = []
    for number in range(count):
        pairs = split_pairs(
            changed.get(f"no{number}", number), changed.get("says", count), changed.get("tensors", count)
        )
        if number == 0:
            pairs.insert(0, pair("general.architecture", STRING, text("phi3")))
        name = "w0" if "twice" in changed else f"w{number}"
        path = folder / f"m-{number + 1:05}-of-{count:05}.gguf"
        path.write_bytes(gguf_bytes(pairs, [entry(name, [1])], struct.pack("<f", number)))
        paths.append(path)
    return paths


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_any_piece_of_a_split_opens_all_in_order(tmp_path: Path, asked: int) -> None:
    files = open_gguf(split(tmp_path)[asked])
    assert [list(file.tensors) for file in files] == [["w0"], ["w1"], ["w2"]]
    assert files[0].metadata["general.architecture"] == "phi3"
    assert files[2].blocks("w2")[0] == 2


def test_the_missing_piece_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].unlink()
    with pytest.raises(CheckpointError, match=r"m-00002-of-00003\.gguf is missing, piece 2 of the 3"):
        open_gguf(paths[0])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"no1": 2}, "split.no 2"),
        ({"says": 4}, "split.count 4"),
        ({"tensors": 4}, "4 tensors in all pieces, which hold 3"),
        ({"twice": 1}, "'w0', which a piece before it holds"),
    ],
)
def test_pieces_that_do_not_belong_together_are_refused(tmp_path: Path, changed: dict[str, int], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_gguf(split(tmp_path, **changed)[0])


def test_a_piece_under_another_name_is_refused_and_told_its_name(tmp_path: Path) -> None:
    path = split(tmp_path)[0].rename(tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match="one of 3 pieces and not named"):
        open_gguf(path)


def test_a_name_that_counts_beyond_its_own_total_is_refused(tmp_path: Path) -> None:
    path = split(tmp_path)[0].rename(tmp_path / "m-00004-of-00003.gguf")
    with pytest.raises(CheckpointError, match="piece 4 of 3 by its name"):
        open_gguf(path)


def test_a_single_file_named_like_the_only_piece_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00001.gguf"
    path.write_bytes(gguf_bytes())
    assert len(open_gguf(path)) == 1
