"""Which sequences advance in this step, and by how many tokens. It returns a plan and touches no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def schedule(sequences: Iterable[Sequence], cache: Cache, step_tokens: int = STEP_TOKENS) -> list[Work]:
    """The plan of one step, first come, first served.

    Sequences in the middle of an answer advance by one token each; what is left of step_tokens, and at least a block,
    goes to prompts. When blocks run out the latest comers give theirs back and read their tokens again later: with
    results that do not depend on the batch, that changes no answer. The first sequence can take every block that
    others hold, and a context fits the cache, so there is always progress.
    A draft takes a block only where none is short, and so takes none from anybody.
    Sequences with the same adapter come one after the other.
    """
    order = list(sequences)
    for sequence in order:
        cache.forget(sequence.blocks, sequence.n_cached)
        sequence.n_reused = min(sequence.n_reused, sequence.n_cached)  # what was given back is read again
    room = max(step_tokens - sum(_pending(s) == 1 for s in order), BLOCK)
    plan: list[Work] = []
    for i, sequence in enumerate(order):
        pending = _pending(sequence)
        count = pending if pending <= 1 else min(pending, room)
        if count and _make_room(sequence, count, order[i + 1 :], cache):
            room -= count if pending > 1 else 0
            plan.append(Work(sequence, count, _draft_with_room(sequence, count, len(order), cache)))
    return sorted(plan, key=lambda work: work.sequence.adapter)


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
    if cache.n_free < needed:
        cache.release(cache.kept)
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
