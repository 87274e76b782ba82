"""What was read of a prompt is kept in a file for the next run.

stored_prompts.py keeps system prompts by itself; here is the file that the caller names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence as Ids
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.prompt_file import Label, PromptFile, open_prompt, write_prompt
from slmkit.errors import CheckpointError, OptionError
from slmkit.ops.segments import BLOCK
from slmkit.untrusted import shown
from slmkit.weights.atomic import PartialFile

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence
    from slmkit.weights.model_key import ModelKey


class Prompts:
    """What the engine calls. Memory is the cache's own matter (prefix.py); here one file at a time is read or written.

    key: what the numbers in the cache follow from beside the ids.   model: the same in words, for messages.
    """

    def __init__(self, key: ModelKey, model: str, cache: Cache) -> None:
        self.key, self.model, self.cache = key, model, cache
        self.is_damaged = False  # the file that was read last
        self._followed: Sequence | None = None
        self._most = 0

    def begin(self, sequence: Sequence, n_shared: int) -> None:
        """Give a new sequence what a file has of its ids, where that is more than it was lent.

        n_shared: how many of them other prompts will begin with.
        """
        raise NotImplementedError

    def note(self) -> None:
        """A step was made."""

    def rest(self) -> None:
        """Use that no request is under way."""

    def close(self) -> None:
        """Put away what is to be kept.   Raises SlmError where the caller must hear that this failed."""

    def line(self) -> tuple[list[int], list[int]]:
        """The ids that a file is to have, a multiple of 32, as far as they are still here; and their blocks."""
        return self.cache.prefixes.line(self._followed, self._most) if self._followed else ([], [])

    def _resume(self, sequence: Sequence, path: Path | None, n_tokens: int | None) -> bool:
        """Give a new sequence its first ids from the file, and make its line the one to keep; whether the file served.

        n_tokens: how many of its ids, at most, are taken and kept; None for all that there will be. The last id of the
        prompt is always read again, for the logits that follow it.
        """
        n_last = len(sequence.ids) - 1
        most = (n_last if n_tokens is None else min(n_tokens, n_last)) // BLOCK
        here = sequence.n_cached // BLOCK
        file = self._file(path, sequence.table) if path and here < most else None
        in_file = min(blocks_in_common(file.ids, sequence.ids), most) if file else 0
        if file and in_file > here:
            sequence.drop_cache(self.cache)
            self.is_damaged = not read_blocks(file, sequence, in_file, self.cache)
            self.cache.prefixes.note(sequence, self.cache)
        self._followed = sequence
        self._most = self.cache.n_blocks if n_tokens is None else n_tokens // BLOCK
        return in_file > here

    def _file(self, path: Path, table: int) -> PromptFile | None:
        try:
            file = open_prompt(path)
        except CheckpointError:  # not written yet, as a rule
            return None
        return file if (file.label.key, file.label.table) == (self.key.digest(), table) else None

    def _write(self, path: Path) -> None:
        assert self._followed is not None
        label = Label(self.key.digest(), self._followed.table, self.model)
        ids, blocks = self.line()
        write_prompt(path, label, ids, self.cache, blocks)


class FilePrompts(Prompts):
    """One file that the caller named: it gives the beginning of each prompt, and at the end takes the last line.

    That is prompt and answer, as far as they fill whole blocks.
    """

    def __init__(self, path: Path, key: ModelKey, model: str, cache: Cache) -> None:
        super().__init__(key, model, cache)
        self.path = path

    def begin(self, sequence: Sequence, n_shared: int) -> None:
        """Take what the file has of it."""
        n_text = next((i for i, id in enumerate(sequence.ids) if id < 0), None)  # images have ids of this run only
        self._resume(sequence, self.path, n_text)

    def close(self) -> None:
        """Write the line, unless the file has it.   Raises StorageError; OptionError if the file is another's now."""
        ids, _ = self.line()
        if ids and self._followed and (not self._has(ids, self._followed.table) or self.is_damaged):
            self._write(self.path)

    def _has(self, ids: list[int], table: int) -> bool:
        file = check_prompt_file(self.path, self.key, self.model)
        return bool(file and file.label.table == table and blocks_in_common(file.ids, ids) == len(ids) // BLOCK)


def read_blocks(file: PromptFile, sequence: Sequence, n_blocks: int, cache: Cache) -> bool:
    """Give a new sequence the file's first blocks of each strand, as many as are free.

    Returns False where one is damaged; the sequence has those before it then.
    """
    taken = cache.take(min(n_blocks, cache.n_free // cache.n_strands) * cache.n_strands)
    n_filled = file.fill(cache, taken)
    n_good = n_filled // cache.n_strands
    sequence.blocks, rest = taken[: n_good * cache.n_strands], taken[n_good * cache.n_strands :]
    sequence.n_cached = n_good * BLOCK
    is_whole = n_filled == len(taken)
    cache.release(rest)
    return is_whole


def blocks_in_common(a: Ids[int] | NDArray[Any], b: Ids[int] | NDArray[Any]) -> int:
    """How many times 32 ids both begin with."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0] if len(differ) else n) // BLOCK


def prompt_path(name: str) -> Path:
    """Where a file of that name lies, links followed: a link to it stays one.   Raises OptionError."""
    try:
        return Path(os.path.realpath(os.path.expanduser(name)))
    except ValueError:
        raise OptionError("prompt_cache has a zero byte in its name; name an ordinary file") from None


def check_place(path: Path) -> None:
    """Raise StorageError where the file could not be written, OptionError if what is there is something else."""
    _opened(path)
    with PartialFile(path, 0, private=True):
        pass


def check_prompt_file(path: Path, key: ModelKey, model: str) -> PromptFile | None:
    """The file, if there is one.   Raises OptionError if it is no prompt cache, or another model's."""
    file = _opened(path)
    if file and file.label.key != key.digest():
        raise OptionError(
            f"the prompt cache {path} is of another model, other formats or another version of slmkit (it is of "
            f"{shown(file.label.model)}, this is {shown(model)}); name another file, or remove this one"
        )
    return file


def _opened(path: Path) -> PromptFile | None:
    if not os.path.lexists(path):
        return None
    try:
        return open_prompt(path)
    except CheckpointError as error:
        raise OptionError(
            f"the prompt cache cannot be read: {str(error).partition(';')[0]}; name another file, or remove this one"
        ) from None
