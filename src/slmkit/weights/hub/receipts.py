"""Notes in slmkit's own cache on models of the hub's: what was found sound, with the identity of each file.

So nothing is read again until a file changes. A model has one note for all of it, and may have another one for its
texts alone: configuration, tokenizer and template, which are enough to show a prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slmkit.errors import CheckpointError, StorageError
from slmkit.untrusted import read_json
from slmkit.weights.atomic import make_folder, write_atomically
from slmkit.weights.cache import cache_folder
from slmkit.weights.hub.files import Choice, is_text
from slmkit.weights.hub.layout import hub_folder
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef

_LAYOUT = 1


def find_receipt(ref: HubRef, *, weights: bool = True) -> Path | None:
    """The model that was last found sound under this reference, if no file of it was touched since.

    weights: False for the note of its texts alone.
    """
    receipt = _read_receipt(_receipt_path(ref, weights))
    if receipt is None:
        return None
    folder, main, files = Path(receipt["folder"]), receipt["main"], receipt["files"]
    if not main and texts_in(folder) != {name for name in files if is_text(name)}:
        return None
    for name, (_, _, identity) in files.items():
        if identity_of(folder / name) != tuple(identity):
            return None
    return folder / main if main else folder


def write_receipt(
    ref: HubRef, folder: Path, choice: Choice, identities: Mapping[str, FileIdentity], commit: str
) -> None:
    """Note that all files of a model, or all its texts, are there and sound.

    A cache that cannot be written just has no notes.
    """
    path = _receipt_path(ref, weights=bool(choice.weights))
    receipt = {
        "layout": _LAYOUT,
        "reference": str(ref),
        "folder": str(folder),
        "commit": commit,
        "main": choice.gguf.files[0].name if choice.gguf else "",
        "files": {file.name: (file.size, file.etag, identities[file.name]) for file in choice.files},
    }
    with suppress(StorageError):
        make_folder(path.parent)
        write_atomically(path, json.dumps(receipt).encode())


def forget(ref: HubRef) -> None:
    """Drop the receipts of a reference."""
    for weights in (True, False):
        with suppress(OSError):
            _receipt_path(ref, weights).unlink(missing_ok=True)


def texts_in(folder: Path) -> set[str]:
    """The names of the files of a snapshot that a loader may open beside the weights."""
    try:
        return {name for name in os.listdir(folder) if is_text(name)}
    except OSError:
        return set()


def identity_of(path: Path) -> FileIdentity | None:
    """None if there is no such file."""
    try:
        s = os.stat(path)
    except OSError:
        return None
    return FileIdentity(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _receipt_path(ref: HubRef, weights: bool) -> Path:
    """One receipt for each reference in each hub cache, and one for its texts alone."""
    part = [] if weights else ["texts"]
    key = json.dumps([str(hub_folder()), ref.repo, ref.selection, ref.revision, *part])
    return cache_folder() / "hub" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read_receipt(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path, 1 << 20)
    except CheckpointError:
        return None
    files = found.get("files")
    is_ours = found.get("layout") == _LAYOUT and isinstance(files, dict) and len(files) > 0
    if not is_ours or not all(isinstance(found.get(key), str) for key in ("folder", "main", "commit")):
        return None
    entries = files.values() if isinstance(files, dict) else ()
    return found if all(isinstance(e, list) and len(e) == 3 and isinstance(e[2], list) for e in entries) else None
