"""How the keys and values of a model lie in cache blocks: in strands that are needed equally long.

A block holds 32 tokens of some layers and some key/value heads. Where every layer sees all of the past that is all of
them, and a sequence has one strand of blocks. Heads of sparse layers that lose sight of the same blocks share a strand,
dense layers have others; all blocks have one size and come from one pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from slmkit.ops.segments import BLOCK
from slmkit.ops.sparse import BlockSparse


@dataclass(frozen=True)
class CacheLayout:
    """Shape of a block, and for each strand the pattern of the heads in it; None sees, and keeps, everything."""

    layers: int
    kv_heads: int
    head_dim: int
    strands: tuple[BlockSparse | None, ...] = (None,)

    def blocks_of(self, tokens: int, at_once: int = 0) -> int:
        """Most blocks that a sequence of so many tokens holds, if it is read `at_once` tokens a step at most."""
        return sum(_blocks_of(pattern, tokens, at_once) for pattern in self.strands)

    def tokens_in(self, n_blocks: int, at_once: int = 0) -> int:
        """Most tokens of one sequence, a multiple of 32, that so many blocks hold."""
        low, high = 0, n_blocks * max(pattern.stride if pattern else 1 for pattern in self.strands)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.blocks_of(middle * BLOCK, at_once) <= n_blocks else (low, middle - 1)
        return low * BLOCK


@dataclass(frozen=True)
class Share:
    """The key/value heads of one layer that lie in one strand.   layer: which of the strand's.   pattern: what the
    queries of these heads see, None for everything."""

    strand: int
    layer: int
    kv_heads: tuple[int, ...]
    pattern: BlockSparse | None


def lay_out(
    is_sparse: Sequence[bool], patterns: Sequence[BlockSparse], head_dim: int
) -> tuple[CacheLayout, tuple[tuple[Share, ...], ...]]:
    """The layout of a model of dense and sparse layers, and the shares of each layer.

    is_sparse: of each layer.   patterns: of each key/value head, what its queries see in a sparse layer.
    """
    by_sight: dict[frozenset[int], list[int]] = {}
    for head, pattern in enumerate(patterns):
        by_sight.setdefault(pattern.kept, []).append(head)
    width = gcd(*map(len, by_sight.values()))
    groups = [tuple(heads[i : i + width]) for heads in by_sight.values() for i in range(0, len(heads), width)]
    kinds = [[layer for layer, sparse in enumerate(is_sparse) if sparse is kind] for kind in (False, True)]
    depth = gcd(*map(len, kinds))
    strands: list[BlockSparse | None] = []
    shares: list[list[Share]] = [[] for _ in is_sparse]
    for layers in kinds:
        for first in range(0, len(layers), depth):
            for heads in groups:
                seen = _joined([patterns[head] for head in heads]) if is_sparse[layers[first]] else None
                for i, layer in enumerate(layers[first : first + depth]):
                    shares[layer].append(Share(len(strands), i, heads, seen))
                strands.append(seen if seen and len(seen.kept) < seen.stride else None)
    return CacheLayout(depth, width, head_dim, tuple(strands)), tuple(map(tuple, shares))


def _joined(patterns: Sequence[BlockSparse]) -> BlockSparse:
    """One pattern for the heads of all, which differ in nothing but their shifts."""
    one = patterns[0]
    return BlockSparse(one.size, one.local, one.stride, np.concatenate([pattern.shifts for pattern in patterns]))


def _blocks_of(pattern: BlockSparse | None, tokens: int, at_once: int) -> int:
    n_blocks = -(-tokens // BLOCK)
    if pattern is None:
        return n_blocks
    each, stride, kept = pattern.size // BLOCK, pattern.stride, len(pattern.kept)
    # A step's own, the nearest, one begun; of those before them the share that is kept, and at most a round more.
    far = max(0, n_blocks - (pattern.local + 1) * each - -(-at_once // BLOCK))
    return min(n_blocks, n_blocks - far * (stride - kept) // stride + kept * each)
