"""Tensors that a GGUF file keeps in parts, as one matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from slmkit.errors import CheckpointError
from slmkit.ops.pack import unpack
from slmkit.weights.gguf.checkpoint import GGUFCheckpoint
from slmkit.weights.gguf.file import open_gguf
from slmkit.weights.gguf.writer import GGUFWriter, as_type

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("q", "k", "v")


def checkpoint(folder: Path, shapes: list[tuple[int, ...]], type: str) -> GGUFCheckpoint:
    """Three parts of a matrix `qkv`, of increasing numbers."""
    path = folder / "parts.gguf"
    with GGUFWriter(path, {}, [(n, type, s) for n, s in zip(PARTS, shapes, strict=True)]) as writer:
        writer.begin()
        for number, (name, shape) in enumerate(zip(PARTS, shapes, strict=True)):
            values = np.full(shape, number + 1, np.float32)
            writer.append(name, as_type(values, type))
        writer.commit()
    return GGUFCheckpoint(open_gguf(path), {"qkv": PARTS})


@pytest.mark.parametrize("type", ["F32", "Q8_0"])
def test_parts_are_one_matrix_rows_after_rows(tmp_path: Path, type: str) -> None:
    files = checkpoint(tmp_path, [(4, 64), (2, 64), (1, 64)], type)
    assert files.shape("qkv") == (7, 64)
    assert files.tensor("qkv")[:, 0] == pytest.approx([1, 1, 1, 1, 2, 2, 3], rel=2**-11)  # of a float16 scale


@pytest.mark.parametrize("type", ["F32", "Q8_0"])
def test_pieces_of_the_rows_come_from_the_parts_they_lie_in(tmp_path: Path, type: str) -> None:
    """Models are packed a piece at a time, and a piece may begin in one part and end in another."""
    files = checkpoint(tmp_path, [(20, 64), (5, 64), (30, 64)], type)
    expected = np.repeat([1, 2, 3], [20, 5, 30])
    for begin, end in ((0, 16), (16, 32), (20, 25), (24, 26), (32, 55), (0, 55)):
        matrix = files.pack_rows("qkv", slice(begin, end), "q8", None)
        assert matrix.n == end - begin
        assert unpack(matrix)[:, 0] == pytest.approx(expected[begin:end], rel=2**-11)  # of a float16 scale


@pytest.mark.parametrize("type", ["F32", "Q8_0"])
@pytest.mark.parametrize("shapes", [[(4, 64), (2, 96), (2, 64)], [(4, 64), (2, 64), (4, 32)]])
def test_parts_with_rows_of_other_lengths_are_refused(tmp_path: Path, shapes: list[tuple[int, ...]], type: str) -> None:
    """Packed a few rows at a time, such rows would be taken for rows of the first part's length."""
    with pytest.raises(CheckpointError, match=r"parts\.gguf has 'q' \[4, 64\], .* have no rows of one length"):
        checkpoint(tmp_path, shapes, type)


@pytest.mark.parametrize("shapes", [[(4, 32), (32,), (4, 32)], [(2, 4, 32), (2, 2, 32), (2, 2, 32)]])
def test_parts_that_are_no_matrices_are_refused(tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(CheckpointError, match="together are one matrix"):
        checkpoint(tmp_path, shapes, "F32")
