"""Which sequences advance in this step, and by how many tokens. It returns a plan and touches no arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slmkit.engine.cache import Cache
from slmkit.engine.sequence import Sequence
from slmkit.ops.segments import BLOCK

# Tokens of one step. A prompt is read in pieces of at most this many, so that others' answers go on between them.
STEP_TOKENS = 256


@dataclass(frozen=True)
class Work:
    """Read the next `count` ids of a sequence; its blocks already have room for them."""

    sequence: Sequence
    count: int

    @property
    def is_complete(self) -> bool:
        """Whether every id will have been read, so that the next token can be chosen."""
        return self.sequence.n_cached + self.count == len(self.sequence.ids)


def schedule(sequences: Iterable[Sequence], cache: Cache, step_tokens: int = STEP_TOKENS) -> list[Work]:
    """The plan of one step, first come, first served.

    Sequences in the middle of an answer advance by one token each; what is left of step_tokens goes to prompts. When
    blocks run out the latest comers give theirs back and read their tokens again later: with results that do not
    depend on the batch, that changes no answer.
    """
    order = [s for s in sequences if s.n_cached < len(s.ids)]
    room = max(step_tokens - sum(_pending(s) == 1 for s in order), BLOCK)
    plan: list[Work] = []
    while order:
        sequence = order.pop(0)
        count = min(_pending(sequence), room) if _pending(sequence) > 1 else 1
        if count == 0 or not _make_room(sequence, count, order, cache):
            continue
        if _pending(sequence) > 1:
            room -= count
        plan.append(Work(sequence, count))
    return plan


def _pending(sequence: Sequence) -> int:
    return len(sequence.ids) - sequence.n_cached


def _make_room(sequence: Sequence, count: int, later: list[Sequence], cache: Cache) -> bool:
    needed = -(-(sequence.n_cached + count) // BLOCK) - len(sequence.blocks)
    for victim in reversed(later):
        if cache.n_free >= needed:
            break
        victim.drop_cache(cache)
    if cache.n_free < needed:
        return False
    sequence.blocks += cache.take(max(needed, 0))
    return True
