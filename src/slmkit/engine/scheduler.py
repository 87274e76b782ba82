"""Which sequences advance in this step, and by how many tokens. It returns a plan and touches no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence

# Tokens of one step. A prompt is read in pieces of at most this many, so that others' answers go on between them.
STEP_TOKENS = 256


@dataclass(frozen=True)
class Work:
    """Read the next `count` ids of a sequence, and then its draft; its blocks already have room for them.

    draft: ids that are read as if they followed, to see whether they do; only where every id will have been read.
    """

    sequence: Sequence
    count: int
    draft: tuple[int, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every id will have been read, so that the next token can be chosen."""
        return self.sequence.n_cached + self.count == len(self.sequence.ids)


def schedule(
    sequences: Iterable[Sequence], cache: Cache, step_tokens: int = STEP_TOKENS, followers: Container[Sequence] = ()
) -> list[Work]:
    """The plan of one step.   sequences: first come, first.   followers: prompts that wait for another one's blocks.

    Sequences in the middle of an answer advance by one token each; what is left of step_tokens, and at least a block,
    goes to prompts, to each its share. When blocks run out the latest comers give theirs back and read their tokens
    again later: with results that do not depend on the batch, that changes no answer. The first sequence can take every
    block that others hold, and a context fits the cache, so there is always progress.
    A draft takes a block only where none is short, and so takes none from anybody.
    Sequences with the same adapter come one after the other.
    """
    order = list(sequences)
    for sequence in order:
        cache.forget(sequence.blocks, sequence.n_cached)
    room = max(step_tokens - sum(_pending(s) == 1 for s in order), BLOCK)
    shares = _shares([s for s in _admitted(order, cache) if _pending(s) > 1 and s not in followers], room)
    plan: list[Work] = []
    for i, sequence in enumerate(order):
        count = 1 if _pending(sequence) == 1 else shares.get(sequence, 0)
        if count and _make_room(sequence, count, order[i + 1 :], cache):
            plan.append(Work(sequence, count, _draft_with_room(sequence, count, len(order), cache)))
    return sorted(plan, key=lambda work: work.sequence.adapter)


def _admitted(order: list[Sequence], cache: Cache) -> list[Sequence]:
    """All but those of which nothing was read and which would not fit beside what is being read before them.

    A prompt that is read in part and then loses its blocks to another one was read for nothing.
    """
    if all(s.n_cached for s in order):
        return order
    admitted: list[Sequence] = []
    free = cache.n_free
    later = sum(cache.n_held(s.blocks) for s in order)  # blocks that the latest comers can be made to give
    for sequence in order:
        later -= cache.n_held(sequence.blocks)
        need = -(-len(sequence.ids) // BLOCK) * cache.n_strands - len(sequence.blocks)
        if not sequence.n_cached and admitted and need > free + later:
            continue
        free -= max(need, 0)
        admitted.append(sequence)
    return admitted


def _shares(prompts: list[Sequence], room: int) -> dict[Sequence, int]:
    """How many tokens of each prompt are read: as many of all, but no more than there are and no less than a block.

    Where that is too much, the first prompt goes on and of the others those that have waited longest. A prompt that is
    not read to its end stops at the end of a block, so that others can be lent it.
    """
    turn = max((s.served for s in prompts), default=0) + 1
    chosen = prompts[:1] + sorted(prompts[1:], key=lambda s: s.served)[: max(room // BLOCK - 1, 0)]
    shares: dict[Sequence, int] = {}
    for n_done, sequence in enumerate(sorted(chosen, key=_pending)):
        share = room // (len(chosen) - n_done)
        end = sequence.n_cached + min(share, _pending(sequence))
        if share < _pending(sequence) and end // BLOCK * BLOCK > sequence.n_cached:
            end = end // BLOCK * BLOCK
        shares[sequence] = end - sequence.n_cached
        room -= shares[sequence]
        sequence.served = turn
    return shares


def _pending(sequence: Sequence) -> int:
    return len(sequence.ids) - sequence.n_cached


def _draft_with_room(sequence: Sequence, count: int, n_sequences: int, cache: Cache) -> tuple[int, ...]:
    """As much of the draft as the sequence's blocks hold, or one more where every sequence could take one."""
    if not sequence.draft or sequence.n_cached + count != len(sequence.ids):
        return ()
    end = sequence.n_cached + count + len(sequence.draft)
    if end > _room_of(sequence, cache) and cache.n_free > n_sequences * cache.n_strands:
        sequence.blocks += cache.take(cache.n_strands)
    return tuple(sequence.draft[: _room_of(sequence, cache) - sequence.n_cached - count])


def _room_of(sequence: Sequence, cache: Cache) -> int:
    """Tokens that the sequence's blocks have places for."""
    return len(sequence.blocks) // cache.n_strands * BLOCK


def _make_room(sequence: Sequence, count: int, later: list[Sequence], cache: Cache) -> bool:
    """Give the sequence blocks for `count` more tokens.   Returns False if there are none to be had.

    later: may lose theirs, the last first; also those that wait with everything read, as beams do for each other.
    """
    needed = -(-(sequence.n_cached + count) // BLOCK) * cache.n_strands - len(sequence.blocks)
    if cache.n_free < needed and cache.n_free + sum(cache.n_held(s.blocks) for s in later) < needed:
        return False
    for victim in reversed(later):
        if cache.n_free >= needed:
            break
        victim.drop_cache(cache)
    if cache.n_free < needed:  # some of what they held is shared with sequences that keep it
        return False
    sequence.blocks += cache.take(max(needed, 0))
    return True
