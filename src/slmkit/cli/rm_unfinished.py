"""What interrupted pulls left behind: files that go on growing with the next pull, and that no list shows."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

from slmkit.errors import RequestError, StorageError
from slmkit.weights.hub.cache import Repository
from slmkit.weights.names import HubRef

_ENDING = ".incomplete"


def unfinished(ref: HubRef) -> dict[Path, int]:
    """The unfinished files of a repository, and the bytes of each. Only regular files, never what a link leads to."""
    sizes = {}
    for path in sorted(Repository.of(ref.repo).blobs.glob(f"*{_ENDING}")):
        about = path.lstat()
        if S_ISREG(about.st_mode):
            sizes[path] = about.st_size
    return sizes


def remove_unfinished(ref: HubRef, files: dict[Path, int]) -> int:
    """Remove these and say how many bytes that freed.

    Raises RequestError for one that another process is fetching just now, StorageError for one that cannot be removed.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    locks = Repository.of(ref.repo).locks
    freed = 0
    for path, size in files.items():
        try:
            os.makedirs(locks, exist_ok=True)
            with WeakFileLock(locks / f"{path.name.removesuffix(_ENDING)}.lock", timeout=0.1):
                path.unlink(missing_ok=True)
        except TimeoutError:
            raise RequestError(f"{ref} is being fetched by another process; stop that one, then remove it") from None
        except OSError as error:
            raise StorageError(f"{path} cannot be removed ({error.strerror}); check its rights") from None
        freed += size
    return freed
