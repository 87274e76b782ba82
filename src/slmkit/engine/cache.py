"""The key-value cache: blocks of 32 tokens with reference counts, in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slmkit.engine.prefix import Prefixes
from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from slmkit.ops.sparse import BlockSparse

GONE = -1  # in a sequence's table: a block that was given back since no later token sees it
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

    A free block may be kept all the same (prefix.py), so that what is in it can be found again; where no others are
    left, those are let go.

    data: (blocks, layers, 2, kv_heads, head_cells), see ops/reference.py: write_cache. The array is not touched here,
    so the system commits memory only for blocks that were used; the block freed last is the first to be used again.
    strands: as in layers/cache_layout.py. A sequence's table has a block of each for its first 32 tokens, then for the
    next 32, and so on.
    """

    def __init__(
        self,
        n_blocks: int,
        layers: int,
        kv_heads: int,
        head_dim: int,
        kind: str,
        strands: tuple[BlockSparse | None, ...] = (None,),
    ) -> None:
        self.strands = strands
        self.data = np.empty((n_blocks, layers, 2, kv_heads, head_cells(head_dim, kind)), DTYPES[kind])
        self.prefixes = Prefixes()
        self._holders = [0] * n_blocks
        self._is_kept = [False] * n_blocks
        self._n_spare = 0  # kept, and held by nobody
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_blocks(self) -> int:
        """All blocks, free or not."""
        return len(self._holders)

    @property
    def n_strands(self) -> int:
        """Blocks of 32 tokens."""
        return len(self.strands)

    @property
    def n_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free) + self._n_spare

    @property
    def n_unkept(self) -> int:
        """Blocks that nobody holds, with nothing in them that could be found again."""
        return len(self._free)

    def is_held(self, block: int) -> bool:
        """Whether some sequence holds it."""
        return self._holders[block] > 0

    def n_held(self, blocks: list[int]) -> int:
        """How many of a table's blocks are still held."""
        return len(blocks) - blocks.count(GONE)

    def take(self, count: int) -> list[int]:
        """`count` free blocks, held once. The caller has looked at n_free."""
        assert count <= self.n_free
        if count > len(self._free):
            self.prefixes.let_go(count - len(self._free), self)
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def release(self, blocks: list[int]) -> None:
        """Let go of each block once, and empty the list."""
        for block in reversed(blocks):
            self._let_go(block)
        blocks.clear()

    def forget(self, blocks: list[int], n_tokens: int) -> None:
        """Let go of what no token from n_tokens on sees; its places in the table stay."""
        for strand, pattern in enumerate(self.strands):
            if pattern is None:
                continue
            for i in reversed(range(pattern.n_far(n_tokens))):
                if not pattern.keeps(i):
                    place = i * self.n_strands + strand
                    if blocks[place] == GONE:
                        break  # and so are those before it
                    self._let_go(blocks[place])
                    blocks[place] = GONE

    def _let_go(self, block: int) -> None:
        if block == GONE:
            return
        self._holders[block] -= 1
        if self._holders[block] == 0:
            if self._is_kept[block]:
                self._n_spare += 1
            else:
                self._free.append(block)

    def hold(self, blocks: list[int]) -> list[int]:
        """Hold each of them once more; blocks that nobody held are kept ones."""
        for block in blocks:
            if block != GONE:
                self._n_spare -= self._holders[block] == 0
                self._holders[block] += 1
        return blocks

    def keep(self, blocks: list[int]) -> None:
        """From now on these, which are held, stay as they are when nobody holds them any more."""
        for block in blocks:
            assert self.is_held(block)
            assert not self._is_kept[block]
            self._is_kept[block] = True

    def unkeep(self, blocks: list[int]) -> None:
        """Undo `keep`."""
        for block in blocks:
            self._is_kept[block] = False
            if self._holders[block] == 0:
                self._n_spare -= 1
                self._free.append(block)

    def fork(self, blocks: list[int], n_tokens: int) -> list[int]:
        """A second sequence's blocks with the same first n_tokens: whole ones are shared, a part-filled one is copied.

        Takes a free block of each strand when n_tokens is not a multiple of 32.
        """
        n_whole = n_tokens // BLOCK * self.n_strands
        shared = self.hold(blocks[:n_whole])
        if n_tokens % BLOCK == 0:
            return shared
        copies = self.take(self.n_strands)
        for copy, block in zip(copies, blocks[n_whole:], strict=False):
            self.data[copy] = self.data[block]
        return shared + copies
