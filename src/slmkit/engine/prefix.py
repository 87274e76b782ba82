"""Beginnings that prompts have in common: whole cache blocks, found again by the ids in them."""

from __future__ import annotations

import heapq
from array import array
from typing import TYPE_CHECKING

from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence


class Node:
    """32 ids that follow those of the parent, and the blocks, one of each strand, that hold their keys and values.

    depth: how many times 32 ids lead here.   used: when it was last looked up or made; a count, not a time.
    is_gone: the blocks may hold something else by now.
    """

    __slots__ = ("blocks", "children", "depth", "is_gone", "key", "parent", "used")

    def __init__(self, parent: Node | None, key: bytes, blocks: list[int]) -> None:
        self.parent, self.key, self.blocks = parent, key, blocks
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[bytes, Node] = {}
        self.used, self.is_gone = 0, False


class Prefixes:
    """A tree of blocks for each rotary table and each adapter, as both change keys and values.

    A node's place in the tree is the whole line of ids before it, compared as they are and not by a hash. An image has
    ids of its own (images.py). The cache keeps a node's blocks when no sequence holds them any more, until it is short
    of others; then leaves that were used longest ago go first.
    A sequence holds the very blocks of its place in the tree, so whatever is held is never without what leads to it.
    """

    def __init__(self) -> None:
        self._roots: dict[tuple[str, int], Node] = {}
        self._leaves: list[tuple[int, int, Node]] = []  # a heap by use: all leaves, and nodes that were ones
        self._clock = 0
        self._n_made = 0

    def lend(self, sequence: Sequence, cache: Cache) -> None:
        """Give a sequence that is being read the blocks that follow, as far as they are here.

        Its last id is always read again, for the logits that follow it.
        """
        node = self._place(sequence)
        if node.is_gone or node.depth * BLOCK != sequence.n_cached or sequence.n_cached >= len(sequence.ids) - 1:
            return  # in the middle of a block, or of a line that is not here
        assert len(sequence.blocks) == node.depth * cache.n_strands
        self._clock += 1
        most = (len(sequence.ids) - 1) // BLOCK
        while node.depth < most and (child := node.children.get(_key(sequence, node.depth))):
            node, child.used = child, self._clock
            sequence.blocks += cache.hold(list(node.blocks))
        sequence.place, sequence.n_cached = node, node.depth * BLOCK

    def note(self, sequence: Sequence, cache: Cache) -> None:
        """Take in the blocks that a sequence has filled. Where they are here already, it holds those instead."""
        node, n_whole = self._place(sequence), sequence.n_cached // BLOCK
        if node.is_gone or node.depth >= n_whole:
            return
        self._clock += 1
        while node.depth < n_whole:
            key, places = _key(sequence, node.depth), _places(node.depth, cache)
            own = sequence.blocks[places]
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = Node(node, key, own)
                cache.keep(own)
                self._push(child)
            elif child.blocks != own:
                sequence.blocks[places] = cache.hold(list(child.blocks))
                cache.release(own)
            node, child.used = child, self._clock
        sequence.place = node

    def followers(self, sequences: Iterable[Sequence]) -> set[Sequence]:
        """Those whose next block one before them is about to read too: they had better wait and be lent it."""
        seen: set[tuple[Node, bytes]] = set()
        found: set[Sequence] = set()
        for sequence in sequences:
            if len(sequence.ids) - sequence.n_cached <= BLOCK or sequence.reader:
                continue
            node = self._place(sequence)
            if node.is_gone or node.depth * BLOCK != sequence.n_cached:
                continue
            following = node, _key(sequence, node.depth)
            if following in seen:
                found.add(sequence)
            seen.add(following)
        return found

    def line(self, sequence: Sequence, most: int) -> tuple[list[int], list[int]]:
        """The ids of a sequence, at most so many blocks of each strand, as far as they are here; and the blocks."""
        node, blocks = self._root(sequence), list[int]()
        while node.depth < min(most, len(sequence.ids) // BLOCK):
            child = node.children.get(_key(sequence, node.depth))
            if child is None:
                break
            node, blocks = child, blocks + child.blocks
        return sequence.ids[: node.depth * BLOCK], blocks

    def let_go(self, count: int, cache: Cache) -> None:
        """Free at least so many blocks that nobody holds. The caller knows that there are as many."""
        wanted, held = cache.n_unkept + count, list[Node]()
        while cache.n_unkept < wanted and self._leaves:
            used, _, node = heapq.heappop(self._leaves)
            if node.is_gone or node.children:
                continue  # it comes back when its last child goes
            if used != node.used:
                self._push(node)
            elif any(cache.is_held(block) for block in node.blocks):
                held.append(node)
            else:
                self._remove(node, cache)
        for node in held:
            self._push(node)
        if cache.n_unkept < wanted:  # of sparse layers, blocks that lie before held ones are free too
            self._clear(cache)

    def _remove(self, node: Node, cache: Cache) -> None:
        node.is_gone = True
        cache.unkeep(node.blocks)
        parent = node.parent
        assert parent is not None
        del parent.children[node.key]
        if parent.depth and not parent.children:
            self._push(parent)

    def _clear(self, cache: Cache) -> None:
        nodes = list(self._roots.values())
        while nodes:
            node = nodes.pop()
            node.is_gone = True
            cache.unkeep(node.blocks)
            nodes += node.children.values()
        self._roots, self._leaves = {}, []

    def _place(self, sequence: Sequence) -> Node:
        """Where the sequence's whole blocks end, as far as they were noted."""
        return sequence.place if sequence.place is not None else self._root(sequence)

    def _root(self, sequence: Sequence) -> Node:
        key = sequence.adapter, sequence.table
        if key not in self._roots:
            self._roots[key] = Node(None, b"", [])
        return self._roots[key]

    def _push(self, node: Node) -> None:
        self._n_made += 1
        heapq.heappush(self._leaves, (node.used, self._n_made, node))


def _key(sequence: Sequence, n: int) -> bytes:
    """The n-th 32 ids of a sequence."""
    return array("i", sequence.ids[n * BLOCK : (n + 1) * BLOCK]).tobytes()


def _places(n: int, cache: Cache) -> slice:
    """Where in a sequence's table the blocks of its n-th 32 ids are."""
    return slice(n * cache.n_strands, (n + 1) * cache.n_strands)
