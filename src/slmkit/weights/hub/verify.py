"""Whether a file holds what its checksum on the hub says: SHA-256 of large files, git's blob SHA-1 of small ones."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmkit.errors import DownloadError
from slmkit.untrusted import open_regular
from slmkit.weights.mapped import FileIdentity

_ETAG = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_AT_ONCE = 1 << 22


def is_checksum(etag: object) -> bool:
    """Whether a text is one of the two kinds of checksum."""
    return isinstance(etag, str) and bool(_ETAG.fullmatch(etag))


def new_hash(etag: str, size: int) -> Any:
    """The hash that a file of `size` bytes has to be fed to for comparing with `etag`.

    Source: git's object format (`git help gitformat-loose`): a blob's id is the SHA-1 of "blob SIZE", a zero byte and
    the content.
    """
    if len(etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def identity_if_sound(path: Path, size: int, etag: str, progress: Callable[[int], None]) -> FileIdentity | None:
    """The identity of the file that was read, or None if it does not hold what the checksum says.

    progress: called with the bytes of each piece read.   Raises DownloadError if it cannot be read.
    """
    try:
        with os.fdopen(open_regular(path, DownloadError), "rb", buffering=0) as file:
            identity = FileIdentity.of(file.fileno())
            if identity.size != size:
                return None
            digest = new_hash(etag, size)
            piece = bytearray(min(_AT_ONCE, max(size, 1)))
            while n := file.readinto(piece):
                digest.update(memoryview(piece)[:n])
                progress(n)
            if FileIdentity.of(file.fileno()) != identity:
                raise DownloadError(f"{path} changed while it was being read; try again")
    except OSError as error:
        raise DownloadError(f"{path} cannot be read ({error.strerror}); check the disk it lies on") from None
    return identity if digest.hexdigest() == etag else None
