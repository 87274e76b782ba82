"""The folder of system prompts that were kept by themselves: its size, what goes first, and how to be rid of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import StorageError
from slmkit.weights.atomic import make_folder, remove_leftovers
from slmkit.weights.cache import cache_folder

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
SHARE_OF_DISK = 10  # the folder takes at most a tenth of what would be free without it


@dataclass(frozen=True)
class StoredPrompt:
    """One file.   used: when it last served, as a time stamp."""

    path: Path
    n_bytes: int
    used: float


def prompt_folder() -> Path:
    """Where they lie."""
    return cache_folder() / "prompts"


def stored_prompts() -> list[StoredPrompt]:
    """All of them, the one used longest ago first."""
    found = []
    for path in prompt_folder().glob("*.safetensors"):
        with suppress(OSError):  # another process has removed it
            if _NAME.fullmatch(path.name):
                told = path.lstat()
                found.append(StoredPrompt(path, told.st_size, told.st_mtime))
    return sorted(found, key=lambda prompt: (prompt.used, prompt.path.name))


def make_room(n_bytes: int, most_bytes: int) -> bool:
    """Remove what was used longest ago until a file of n_bytes fits; whether it does.   Raises StorageError."""
    folder = prompt_folder()
    make_folder(cache_folder())
    with suppress(FileExistsError, OSError):
        folder.mkdir(mode=0o700)
    remove_leftovers(folder)
    kept = stored_prompts()
    held = sum(prompt.n_bytes for prompt in kept)
    try:
        most_bytes = min(most_bytes, (shutil.disk_usage(folder).free + held) // SHARE_OF_DISK)
    except OSError as error:
        raise StorageError(f"{folder} cannot be used ({error.strerror}); check its rights") from None
    if n_bytes > most_bytes:
        return False
    while held + n_bytes > most_bytes:
        held -= remove_prompts([kept.pop(0)])
    return True


def remove_prompts(prompts: Sequence[StoredPrompt]) -> int:
    """Remove them; the bytes that were freed.   Raises StorageError."""
    for prompt in prompts:
        try:
            prompt.path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{prompt.path} cannot be removed ({error.strerror}); check its rights") from None
    remove_leftovers(prompt_folder())
    return sum(prompt.n_bytes for prompt in prompts)


def touch(path: Path) -> None:
    """Note that the file was used now."""
    with suppress(OSError):
        os.utime(path)
