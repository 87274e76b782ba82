"""Models in Hugging Face's cache: examined and checked without the hub.

A snapshot is used when every file that the model needs is there and holds what its checksum says. What was found sound
is noted down (receipts.py), so that nothing is read again until a file changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from slmkit.errors import SlmError, StorageError
from slmkit.untrusted import read_json
from slmkit.weights.cache import cache_folder
from slmkit.weights.checkpoint import INDEX, MOST_INDEX_BYTES
from slmkit.weights.fingerprint import known_sha256, note_sha256
from slmkit.weights.hub.files import Choice, HubFile, choose, weights_by_index
from slmkit.weights.hub.layout import NEEDED, Repository
from slmkit.weights.hub.receipts import identity_of, texts_in, write_receipt
from slmkit.weights.hub.verify import identity_if_sound, is_checksum
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef
from slmkit.weights.telling import Notice, Progress, silent

CHECKING = "checking the files"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "cl100k_base.tiktoken")


def examine(
    ref: HubRef, progress: Progress = silent, damaged: Notice | None = None, *, weights: bool = True
) -> Path | None:
    """The model as other programs, or a pull whose receipt is lost, left it; None if it is not all there and sound.

    Every file is read and checked. damaged: called with a sentence for each file that was not what its checksum says,
    after it was removed.   weights: False if its texts alone have to be sound; there it must be all the same.
    """
    repository = Repository.of(ref.repo)
    commit = repository.commit(ref.revision)
    if commit is None:
        return None
    folder = repository.snapshot(commit)
    try:
        choice = _there(ref, repository, commit)
    except SlmError:  # a listing without usable weights, an index that names what is not there
        return None
    if choice is None:
        return None
    if not weights:
        choice = choice.texts_alone()
    identities = check_files(folder, choice, progress, damaged)
    if identities is None:
        return None
    write_receipt(ref, folder, choice, identities, commit)
    return choice.path_in(folder)


def check_files(
    folder: Path, choice: Choice, progress: Progress = silent, damaged: Notice | None = None
) -> dict[str, FileIdentity] | None:
    """The identity of each file if all hold what their checksums say. Those that do not are removed."""
    done, identities, sound = 0, {}, True

    def read(n: int) -> None:
        nonlocal done
        done += n
        progress(CHECKING, done, choice.n_bytes)

    for file in choice.files:
        identity = sound_identity(folder / file.name, file, read)
        if identity is None:
            remove_damaged(folder / file.name)
            if damaged:
                damaged(f"{file.name} in {folder} did not hold what its checksum says, and was removed")
            sound = False
        else:
            identities[file.name] = identity
    return identities if sound else None


def sound_identity(path: Path, file: HubFile, read: Callable[[int], None]) -> FileIdentity | None:
    """The identity of `path` if it holds what the file's checksum says; large ones are read once and then remembered.

    read: called with bytes that were checked.   Raises DownloadError if it cannot be read.
    """
    memo = cache_folder() / "hashes"
    if file.is_large:
        identity = identity_of(path)
        if identity is not None and known_sha256(path, identity, memo) == file.etag and identity.size == file.size:
            read(file.size)
            return identity
    identity = identity_if_sound(path, file.size, file.etag, read)
    if identity is not None and file.is_large:
        note_sha256(path, identity, file.etag, memo)
    return identity


def note_sound(path: Path, file: HubFile) -> None:
    """Note that a file holds what its checksum says: it was hashed while it came, and has its last name now."""
    identity = identity_of(path)
    if identity is not None and file.is_large:
        note_sha256(path, identity, file.etag, cache_folder() / "hashes")


def remove_damaged(path: Path) -> None:
    """Remove a file of a snapshot and the blob that it stands for. Raises StorageError."""
    try:
        blob = path.parent / os.readlink(path) if path.is_symlink() else None
        path.unlink(missing_ok=True)
        if blob is not None and is_checksum(blob.name):
            blob.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} is damaged and cannot be removed ({error.strerror}); remove it") from None


def _there(ref: HubRef, repository: Repository, commit: str) -> Choice | None:
    """What a snapshot has, if that is a whole model."""
    folder = repository.snapshot(commit)
    files = list(linked_files(folder))
    choice = choose(files, ref.selection, ref.repo)
    if choice.gguf:
        return choice
    names = {file.name for file in choice.texts}
    if not names & set(_TOKENIZERS) or texts_in(folder) != names:
        return None
    for name in NEEDED:
        if name not in names and not (repository.folder / ".no_exist" / commit / name).is_file():
            return None
    if INDEX in names and choice.weights[0].name.startswith("model-"):
        weight_map = read_json(folder / INDEX, MOST_INDEX_BYTES).get("weight_map")
        choice = weights_by_index(choice, weight_map, files, ref.repo)
    return choice


def linked_files(folder: Path) -> Iterator[HubFile]:
    """The files of a snapshot that are links to blobs which are there: only those carry their checksum."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*.gguf")]):
        if path.is_symlink():
            with suppress(OSError):
                blob = os.path.basename(os.readlink(path))
                if is_checksum(blob):
                    yield HubFile(path.relative_to(folder).as_posix(), path.stat().st_size, blob)
