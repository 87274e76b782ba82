"""Writing GGUF: what gguf-py and our own reader read back; and float weights in GGUF's types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize as reference
from gguf.quants import quantize as quantized_by_gguf_py
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, StorageError
from slmkit.ops.pack import pack, unpack
from slmkit.weights.gguf.blocks import dequantize
from slmkit.weights.gguf.file import GGUFFile
from slmkit.weights.gguf.repack import repack
from slmkit.weights.gguf.writer import WRITTEN, GGUFWriter, as_type, blocks_of

METADATA: dict[str, Any] = {
    "general.architecture": "phi3",
    "n": 4096,
    "eps": 1e-5,
    "yes": True,
    "no": False,
    "wide": np.uint64(2**64 - 1),
    "small": np.int8(-128),
    "double": np.float64(0.1),
    "texts": ["<unk>", "", "▁é"],
    "none": [],
    "scores": np.array([0.5, -np.inf], np.float32),
    "types": np.array([1, 6], np.int32),
    "flags": np.array([True, False]),
    "big": np.array([1, 2], ">i4"),
}


def weights(n: int = 5, k: int = 64, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, k)).astype(np.float32)


def written(path: Path, tensors: dict[str, tuple[str, NDArray[np.float32]]]) -> Path:
    with GGUFWriter(path, METADATA, [(name, type, w.shape) for name, (type, w) in tensors.items()]) as writer:
        writer.begin()
        for name, (type, w) in tensors.items():
            writer.append(name, as_type(w, type))
        writer.commit()
    assert path.stat().st_size == writer.n_bytes
    return path


TENSORS = {type.lower(): (type, weights(seed=i)) for i, type in enumerate(WRITTEN)}


def test_gguf_py_reads_back_every_key_and_every_tensor(tmp_path: Path) -> None:
    read = gguf.GGUFReader(written(tmp_path / "m.gguf", TENSORS))
    for name, value in METADATA.items():
        expected = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        found = read.fields[name].contents()
        assert found == (np.float32(value).item() if name == "eps" else expected)
    types = {name: field.types[-1].name for name, field in read.fields.items()}
    assert [types[name] for name in ("n", "eps", "yes", "wide", "small", "double", "texts", "scores", "big")] == [
        *("UINT32", "FLOAT32", "BOOL", "UINT64", "INT8", "FLOAT64", "STRING", "FLOAT32", "INT32")
    ]
    assert [tensor.name for tensor in read.tensors] == list(TENSORS)
    for tensor in read.tensors:
        type, w = TENSORS[tensor.name]
        assert tensor.tensor_type.name == type
        assert tensor.shape.tolist() == [64, 5]
        assert tensor.data_offset % 32 == 0
        assert tensor.data.tobytes() == as_type(w, type).tobytes()


def test_our_own_reader_reads_back_every_key_and_every_tensor(tmp_path: Path) -> None:
    file = GGUFFile(written(tmp_path / "m.gguf", TENSORS))
    for name, value in METADATA.items():
        found = file.metadata[name]
        assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == pytest.approx(value)
    for name, (type, w) in TENSORS.items():
        assert file.tensors[name].shape == (5, 64)
        assert np.array_equal(file.blocks(name), as_type(w, type))


def test_the_file_ends_at_a_multiple_of_the_alignment_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    assert written(tmp_path / "m.gguf", {"w": ("F32", weights(1, 1))}).stat().st_size % 32 == 0


def test_a_tensor_can_come_in_pieces(tmp_path: Path) -> None:
    w = weights(48)
    whole = written(tmp_path / "a.gguf", {"w": ("Q4_0", w)}).read_bytes()
    with GGUFWriter(tmp_path / "b.gguf", METADATA, [("w", "Q4_0", w.shape)]) as writer:
        writer.begin()
        for i in range(0, 48, 16):
            writer.append("w", as_type(w[i : i + 16], "Q4_0"))
        writer.commit()
    assert (tmp_path / "b.gguf").read_bytes() == whole


def test_a_file_without_tensors_is_written_too(tmp_path: Path) -> None:
    assert GGUFFile(written(tmp_path / "m.gguf", {})).tensors == {}


def test_without_a_commit_nothing_stays_behind(tmp_path: Path) -> None:
    with GGUFWriter(tmp_path / "m.gguf", METADATA, [("w", "F32", (1, 1))]) as writer:
        writer.begin()
        writer.append("w", weights(1, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no folder"):
        GGUFWriter(tmp_path / "no" / "m.gguf", {}, [])


def test_half_a_surrogate_pair_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no Unicode"):
        GGUFWriter(tmp_path / "m.gguf", {"tokens": ["\ud800"]}, [])


@pytest.mark.parametrize(("format", "type"), [("q8", "Q8_0"), ("q4", "Q4_0")])
@given(n=st.integers(1, 40), groups=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_a_packed_matrix_becomes_blocks_and_the_same_matrix_again(
    format: str, type: str, n: int, groups: int, seed: int
) -> None:
    w = weights(n, 32 * groups, seed)
    matrix = pack(w, format)
    rows = blocks_of(matrix)
    assert np.array_equal(dequantize(rows, type), unpack(matrix))
    assert np.array_equal(reference(rows, gguf.GGMLQuantizationType[type]), unpack(matrix))
    again = repack(rows, type, matrix.k)
    assert np.array_equal(unpack(again), unpack(matrix))


@pytest.mark.parametrize("type", ["Q8_0", "Q4_0"])
def test_quantized_weights_are_as_near_as_those_of_gguf_py(type: str) -> None:
    w = weights(64, 256)
    kind = gguf.GGMLQuantizationType[type]
    theirs = np.square(reference(quantized_by_gguf_py(w, kind), kind) - w).mean()
    # Q8_0 differs in whether the scale is rounded to float16 before or after the integers are chosen
    assert np.square(dequantize(as_type(w, type), type) - w).mean() < theirs * 1.001


def test_bfloat16_is_rounded_as_gguf_py_rounds_it_ties_to_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x00000001, 0x80000000], np.uint32)
    w = np.concatenate((bits.view(np.float32), weights(1, 58)[0]))[None]
    found = as_type(w, "BF16")
    assert found[0, :6].tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x0000, 0x8000]
    assert found.tobytes() == quantized_by_gguf_py(w, gguf.GGMLQuantizationType.BF16).tobytes()


@pytest.mark.parametrize("type", WRITTEN)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(type: str, value: float) -> None:
    w = weights()
    w[4, 63] = value
    with pytest.raises(CheckpointError, match="a NaN, an infinity"):
        as_type(w, type)


@pytest.mark.parametrize(("type", "value"), [("F16", 65520), ("BF16", 3.4e38), ("Q8_0", 1e7), ("Q4_0", 1e7)])
def test_weights_too_large_for_the_type_are_refused(type: str, value: float) -> None:
    w = weights()
    w[0, 0] = value
    with pytest.raises(CheckpointError, match=r"damaged|cannot hold"):
        as_type(w, type)
