"""The native twin of the GGUF repacking: equal to the definition to the byte."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import CheckpointError, ShapeError
from slmkit.ops.matrix import GGUF_FORMATS
from slmkit.weights.gguf import repack as gguf_repack
from slmkit.weights.gguf.blocks import BLOCKS

native = pytest.importorskip("slmkit.ops._native") and pytest.importorskip("slmkit.ops.native")

SCALES_AT = {"Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # else [0]


def blocks(type: str, n: int, k: int) -> np.ndarray:
    """Random bytes, but for scales that are numbers; rows of blocks."""
    rng = np.random.default_rng(3)
    weights, size = BLOCKS[type]
    rows = rng.integers(0, 256, (n, k // weights, size), np.uint8)
    for at in SCALES_AT.get(type, [0]):
        rows[..., at : at + 2] = rng.standard_normal((n, k // weights, 1)).astype(np.float16).view(np.uint8)
    return rows.reshape(n, -1)


@pytest.mark.parametrize("type", GGUF_FORMATS)
@pytest.mark.parametrize(("n", "k"), [(1, 256), (16, 512), (35, 768), (33, 32)])
def test_native_repacking_gives_the_same_bytes(type, n, k, threads):
    if k % BLOCKS[type][0]:
        pytest.skip("no whole block")
    rows = blocks(type, n, k)
    expected = gguf_repack.repack(rows, type, k)
    for count in (1, 3):
        threads(count)
        ours = native.repack(rows, type, k)
        assert (ours.format, ours.n, ours.k) == (expected.format, n, k)
        assert ours.data.tobytes() == expected.data.tobytes()
        assert (ours.scale is None) == (expected.scale is None)
        if ours.scale is not None:
            assert ours.scale.tobytes() == expected.scale.tobytes()


def test_a_model_s_loader_takes_the_native_one():
    assert gguf_repack.repacker(native.Native("scalar")) is native.repack
    assert gguf_repack.repacker(None) is gguf_repack.repack


@pytest.mark.parametrize("type", GGUF_FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_no_number_is_refused(type, bad):
    for at in SCALES_AT.get(type, [0]):
        rows = blocks(type, 20, 512)
        rows[17, at : at + 2] = np.array([bad], np.float16).view(np.uint8)
        with pytest.raises(CheckpointError, match="a block's scale is a NaN or an infinity"):
            native.repack(rows, type, 512)


def test_wrong_rows_are_refused_in_one_sentence():
    rows = blocks("Q4_K", 16, 256)
    with pytest.raises(ShapeError, match=r"rows has shape \(16, 143\), not \(16, 144\)"):
        native.repack(np.ascontiguousarray(rows[:, :-1]), "Q4_K", 256)
    with pytest.raises(ShapeError, match="contiguous"):
        native.repack(rows[:, :-1], "Q4_K", 256)
    with pytest.raises(ShapeError, match="Q6_K has blocks of 256 weights, of which 32 is no multiple"):
        native._native.repack(rows, "Q6_K", 32, rows, None)
    with pytest.raises(TypeError, match="rows must be an array of uint8"):
        native.repack(rows.view(np.int8), "Q4_K", 256)
    with pytest.raises(ShapeError, match="empty"):
        native._native.repack(rows[:0], "Q4_K", 256, rows, None)
    with pytest.raises(ValueError, match="no packed format holds the numbers of GGUF type Q2_K"):
        native._native.repack(rows, "Q2_K", 256, rows, None)
    with pytest.raises(ShapeError, match="data has shape"):
        native._native.repack(rows, "Q4_K", 256, rows, None)
