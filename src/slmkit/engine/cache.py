"""The key-value cache: blocks of 32 tokens with reference counts, in one array."""

from __future__ import annotations

import numpy as np

from slmkit.ops.segments import BLOCK

DTYPES = {"f32": "float32", "f16": "float16", "q8": "int8"}  # cache type -> numbers in the array


def block_bytes(layers: int, kv_heads: int, head_dim: int, kind: str) -> int:
    """Bytes of one block of 32 tokens: keys and values of every layer.   kind: one of DTYPES."""
    return layers * 2 * kv_heads * head_cells(head_dim, kind) * np.dtype(DTYPES[kind]).itemsize


def default_kind(quantization: str) -> str:
    """What a cache holds where nobody chose: numbers that lose far less than the weights (docs/correctness.md)."""
    return {"none": "f32", "q8": "f16"}.get(quantization, "q8")


def head_cells(head_dim: int, kind: str) -> int:
    """Cells of one head's keys or values in a block; of q8 with the bytes of its 32 float32 scales."""
    return BLOCK * head_dim + (BLOCK * 4 if kind == "q8" else 0)


class Cache:
    """Blocks that sequences hold; a block may be held by several, and is free when nobody holds it.

    data: (blocks, layers, 2, kv_heads, head_cells), see ops/reference.py: write_cache. The array is not touched here,
    so the system commits memory only for blocks that were used; the block freed last is the first to be used again.
    """

    def __init__(self, n_blocks: int, layers: int, kv_heads: int, head_dim: int, kind: str) -> None:
        self.data = np.empty((n_blocks, layers, 2, kv_heads, head_cells(head_dim, kind)), DTYPES[kind])
        self._holders = [0] * n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_blocks(self) -> int:
        """All blocks, free or not."""
        return len(self._holders)

    @property
    def n_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """`count` free blocks, held once. The caller has looked at n_free."""
        assert count <= self.n_free
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def release(self, blocks: list[int]) -> None:
        """Let go of each block once, and empty the list."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free.append(block)
        blocks.clear()

    def fork(self, blocks: list[int], n_tokens: int) -> list[int]:
        """A second sequence's blocks with the same first n_tokens: whole ones are shared, a part-filled one is copied.

        Takes one free block when n_tokens is not a multiple of 32.
        """
        n_whole = n_tokens // BLOCK
        shared = blocks[:n_whole]
        for block in shared:
            self._holders[block] += 1
        if n_tokens % BLOCK == 0:
            return shared
        (copy,) = self.take(1)
        self.data[copy] = self.data[blocks[n_whole]]
        return [*shared, copy]
