"""Quantized types: the values of gguf-py to the bit, and a repack that keeps every one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize as reference
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.pack import pack, unpack
from slmkit.weights.gguf.blocks import BLOCKS, dequantize
from slmkit.weights.gguf.file import GGUFFile
from slmkit.weights.gguf.repack import LOSSLESS, repack, repacker

DATA = Path(__file__).parents[1] / "data" / "gguf"
# Where a block's float16 numbers lie, if not at 0 alone.
FLOATS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)} | dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2))
# The smallest and the largest subnormal, the smallest normal, the largest, both zeros.
EDGES = np.array([6e-8, 6.1e-5, 6.104e-5, 65504, 0.0, -0.0, -6e-8, -65504], np.float16)


def random_rows(type: str, n: int, blocks: int, seed: int, scales: NDArray[np.float16] | None = None) -> NDArray[Any]:
    """Rows of random bytes, with those scales (any finite ones if none are given)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (n, blocks, BLOCKS[type][1]), dtype=np.uint8)
    for at in FLOATS.get(type, (0,)):
        chosen = rng.normal(size=(n, blocks)).astype(np.float16) if scales is None else rng.choice(scales, (n, blocks))
        rows[..., at : at + 2] = chosen[..., None].view(np.uint8)
    return rows.reshape(n, -1)


def theirs(rows: NDArray[Any], type: str) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        return reference(rows, gguf.GGMLQuantizationType[type])


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool((a.dtype == b.dtype == np.float32) and np.array_equal(a.view(np.uint32), b.view(np.uint32)))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.gguf")), ids=lambda path: path.stem)
def test_every_tensor_that_llama_cpp_quantized_is_read_as_gguf_py_reads_it(path: Path) -> None:
    file = GGUFFile(path)
    quantized = {name: tensor for name, tensor in file.tensors.items() if tensor.type in BLOCKS}
    assert quantized or path.stem == "tiny-F32"
    for name, tensor in quantized.items():
        rows = file.blocks(name)
        values = dequantize(rows, tensor.type)
        assert values.shape == tensor.shape
        assert same_bits(values, theirs(rows, tensor.type))
        if tensor.type in LOSSLESS:
            assert np.array_equal(unpack(repack(rows, tensor.type, tensor.shape[1])), values)


def test_the_data_holds_every_type() -> None:
    assert set(GGUFFile(DATA / "rows.gguf").tensors) == set(BLOCKS)


@pytest.mark.parametrize("type", BLOCKS)
def test_random_bytes_mean_what_they_mean_to_gguf_py(type: str) -> None:
    rows = random_rows(type, 40, 6, 1)
    assert same_bits(dequantize(rows, type), theirs(rows, type))


@pytest.mark.parametrize("type", BLOCKS)
def test_subnormal_infinite_and_nan_scales_mean_what_they_mean_to_gguf_py(type: str) -> None:
    scales = np.concatenate((EDGES, np.array([np.inf, -np.inf, np.nan], np.float16)))
    rows = random_rows(type, 40, 6, 2, scales)
    ours, reference = dequantize(rows, type), theirs(rows, type)
    nan = np.isnan(reference)
    assert np.array_equal(np.isnan(ours), nan)
    assert same_bits(np.where(nan, np.float32(0), ours), np.where(nan, np.float32(0), reference))


@pytest.mark.parametrize("type", BLOCKS)
def test_leading_axes_stay_and_a_view_of_a_file_at_an_odd_place_is_read_too(type: str) -> None:
    rows = random_rows(type, 6, 2, 3)
    odd = np.frombuffer(b"\x00" + rows.tobytes(), np.uint8)[1:].reshape(2, 3, -1)
    assert same_bits(dequantize(odd, type), theirs(rows, type).reshape(2, 3, -1))


@pytest.mark.parametrize("type", LOSSLESS)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32), st.booleans())
def test_repacked_weights_are_the_same_numbers(type: str, n: int, blocks: int, seed: int, edges: bool) -> None:
    rows = random_rows(type, n, blocks, seed, EDGES if edges else None)
    values = dequantize(rows, type)
    matrix = repack(rows, type, values.shape[1])
    assert (matrix.format, matrix.n, matrix.k) == (LOSSLESS[type], n, values.shape[1])
    assert np.array_equal(unpack(matrix), values)
    if type != "Q3_K":  # where a zero may change its sign
        assert same_bits(unpack(matrix), values)


@pytest.mark.parametrize("turned", [False, True])
def test_a_q3_k_group_that_reaches_128_is_held_with_its_signs_turned(turned: bool) -> None:
    block = np.zeros(110, np.uint8)  # all scales -32, all q -4: every product is 128
    block[32:96] = 0 if turned else 0x55  # q -3: every product is 96
    block[108:] = np.array([0.5], np.float16).view(np.uint8)
    matrix = repack(np.tile(block, (16, 1)), "Q3_K", 256)
    assert matrix.scale is not None
    assert (matrix.data == (-128 if turned else 96)).all()
    assert (matrix.scale == (-0.5 if turned else 0.5)).all()
    assert (unpack(matrix) == (64 if turned else 48)).all()


def test_rows_can_come_in_pieces_of_16() -> None:
    rows = random_rows("Q4_K", 40, 2, 4)
    whole = repack(rows, "Q4_K", 512).data
    pieces = [repack(rows[i : i + 16], "Q4_K", 512).data for i in range(0, 40, 16)]
    assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("type", LOSSLESS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_no_number_is_refused(type: str, value: float) -> None:
    for at in FLOATS.get(type, (0,)):
        rows = random_rows(type, 20, 2, 5)
        rows[19, -BLOCKS[type][1] + at :][:2] = np.array([value], np.float16).view(np.uint8)
        with pytest.raises(CheckpointError, match="scale is a NaN or an infinity"):
            repack(rows, type, 2 * BLOCKS[type][0])


@pytest.mark.parametrize("type", sorted(BLOCKS.keys() - LOSSLESS.keys()))
def test_what_has_no_format_of_its_own_is_met_within_6_thousandths_in_8_bits(type: str) -> None:
    values = dequantize(GGUFFile(DATA / "rows.gguf").blocks(type), type)
    error = unpack(pack(values, "q8")) - values
    rms = np.sqrt(np.mean(values**2))
    # A step is max|w| / 127 over 32 weights, of normal ones 2.1 rms / 127 on average and 4.5 at most; an error is half
    # a step at most, 1 / sqrt(12) of it on average.
    assert np.abs(error).max() / rms < 0.03
    assert np.sqrt(np.mean(error**2)) / rms < 0.006


def test_the_ops_own_repack_is_used_where_they_have_one() -> None:
    class Fast:
        repack = staticmethod(lambda rows, type, k: "fast")

    assert repacker(Fast)(random_rows("Q8_0", 1, 1, 6), "Q8_0", 32) == "fast"
    assert repacker(object()) is repack
