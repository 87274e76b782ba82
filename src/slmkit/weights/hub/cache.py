"""Hugging Face's cache on this disk, which other programs share; read here without the hub and without its client.

    HUB/models--OWNER--NAME/blobs/ETAG           a file, by its checksum; ETAG.incomplete while it arrives
                            snapshots/COMMIT/FILE  a link to its blob; the file itself where links are not to be had
                            refs/REVISION          the commit that a branch or a tag was when it was last asked for
                            .no_exist/COMMIT/FILE  a file that a program asked for and that is not in the repository

A snapshot is used when every file that the model needs is there and holds what its checksum says. What was found sound
is noted down in slmkit's own cache, in a receipt with each file's identity, so that nothing is read again until a file
changes. Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmkit.errors import CheckpointError, SlmError, StorageError
from slmkit.untrusted import read_json
from slmkit.weights.atomic import make_folder, write_atomically
from slmkit.weights.cache import cache_folder
from slmkit.weights.checkpoint import INDEX, MOST_INDEX_BYTES
from slmkit.weights.fingerprint import known_sha256, note_sha256
from slmkit.weights.hub.files import Choice, HubFile, choose, is_text, weights_by_index
from slmkit.weights.hub.verify import identity_if_sound, is_checksum
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef
from slmkit.weights.packing import Progress, silent

CHECKING = "checking the files"
ELSEWHERE = "set HF_HOME to a folder that you may write to and that has room"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LAYOUT = 1
# What a folder from another program must have before it is used without asking the hub what belongs to it: without
# these the model would answer otherwise. A file that is noted as not existing need not be there.
_NEEDED = ("generation_config.json", "tokenizer_config.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "cl100k_base.tiktoken")


def hub_folder() -> Path:
    """The cache that huggingface_hub uses: $HF_HUB_CACHE, or `hub` in $HF_HOME, or ~/.cache/huggingface/hub."""
    base = os.environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.environ.get("HF_HOME", os.path.join(base, "huggingface")))
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.environ.get("HF_HUB_CACHE", older)))


@dataclass(frozen=True)
class Repository:
    """A repository's folder in the cache."""

    folder: Path

    @classmethod
    def of(cls, repo: str) -> Repository:
        return cls(hub_folder() / f"models--{repo.replace('/', '--')}")

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def locks(self) -> Path:
        """Where huggingface_hub has one lock for each blob."""
        return self.folder.parent / ".locks" / self.folder.name

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit that a revision was when somebody last asked the hub."""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            text = (self.folder / "refs" / revision).read_bytes()[:100].decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _COMMIT.fullmatch(text) else None

    def remember(self, revision: str, commit: str) -> None:
        """Note the commit of a revision, as huggingface_hub does. Raises StorageError."""
        if revision == commit:
            return
        path = self.folder / "refs" / revision
        make_folder(path.parent, ELSEWHERE)
        partial = self.folder / f".ref-{os.getpid()}"  # not in refs, where others would read it
        try:
            partial.write_bytes(commit.encode())
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"{path} could not be written ({error.strerror}); {ELSEWHERE}") from None

    def note_absent(self, commit: str, names: set[str]) -> None:
        """Note, as huggingface_hub does, which of the files that decide over answers are not in the repository."""
        for name in set(_NEEDED) - names:
            mark = self.folder / ".no_exist" / commit / name
            with suppress(OSError):
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()


def find_receipt(ref: HubRef) -> Path | None:
    """The model that was last found sound under this reference, if no file of it was touched since."""
    receipt = _read_receipt(ref)
    if receipt is None:
        return None
    folder, main, files = Path(receipt["folder"]), receipt["main"], receipt["files"]
    if not main and _texts_in(folder) != {name for name in files if is_text(name)}:
        return None
    for name, (_, _, identity) in files.items():
        if _identity(folder / name) != tuple(identity):
            return None
    return folder / main if main else folder


def write_receipt(
    ref: HubRef, folder: Path, choice: Choice, identities: Mapping[str, FileIdentity], commit: str
) -> None:
    """Note that all files of a model are there and sound. A cache that cannot be written just has no notes."""
    receipt = {
        "layout": _LAYOUT,
        "reference": str(ref),
        "folder": str(folder),
        "commit": commit,
        "main": choice.gguf.files[0].name if choice.gguf else "",
        "files": {file.name: (file.size, file.etag, identities[file.name]) for file in choice.files},
    }
    with suppress(StorageError):
        make_folder(_receipt_path(ref).parent)
        write_atomically(_receipt_path(ref), json.dumps(receipt).encode())


def forget(ref: HubRef) -> None:
    """Drop the receipt of a reference."""
    with suppress(OSError):
        _receipt_path(ref).unlink(missing_ok=True)


def examine(ref: HubRef, progress: Progress = silent, damaged: Callable[[str], None] | None = None) -> Path | None:
    """The model as other programs, or a pull whose receipt is lost, left it; None if it is not all there and sound.

    Every file is read and checked. damaged: called with a sentence for each file that was not what its checksum says,
    after it was removed.
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
    identities = check_files(folder, choice, progress, damaged)
    if identities is None:
        return None
    write_receipt(ref, folder, choice, identities, commit)
    return folder / choice.gguf.files[0].name if choice.gguf else folder


def check_files(
    folder: Path, choice: Choice, progress: Progress = silent, damaged: Callable[[str], None] | None = None
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
    if len(file.etag) == 64:
        identity = _identity(path)
        if identity is not None and known_sha256(path, identity, memo) == file.etag and identity.size == file.size:
            read(file.size)
            return identity
    identity = identity_if_sound(path, file.size, file.etag, read)
    if identity is not None and len(file.etag) == 64:
        note_sha256(path, identity, file.etag, memo)
    return identity


def note_sound(path: Path, file: HubFile) -> None:
    """Note that a file holds what its checksum says: it was hashed while it came, and has its last name now."""
    identity = _identity(path)
    if identity is not None and len(file.etag) == 64:
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
    files = list(_linked_files(folder))
    choice = choose(files, ref.selection, ref.repo)
    if choice.gguf:
        return choice
    names = {file.name for file in choice.texts}
    if not names & set(_TOKENIZERS) or _texts_in(folder) != names:
        return None
    for name in _NEEDED:
        if name not in names and not (repository.folder / ".no_exist" / commit / name).is_file():
            return None
    if INDEX in names and choice.weights[0].name.startswith("model-"):
        weight_map = read_json(folder / INDEX, MOST_INDEX_BYTES).get("weight_map")
        choice = weights_by_index(choice, weight_map, files, ref.repo)
    return choice


def _linked_files(folder: Path) -> Iterator[HubFile]:
    """The files of a snapshot that are links to blobs which are there: only those carry their checksum."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*.gguf")]):
        if path.is_symlink():
            with suppress(OSError):
                blob = os.path.basename(os.readlink(path))
                if is_checksum(blob):
                    yield HubFile(path.relative_to(folder).as_posix(), path.stat().st_size, blob)


def _texts_in(folder: Path) -> set[str]:
    try:
        return {name for name in os.listdir(folder) if is_text(name)}
    except OSError:
        return set()


def _identity(path: Path) -> FileIdentity | None:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return FileIdentity(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _receipt_path(ref: HubRef) -> Path:
    """One receipt for each reference in each hub cache."""
    key = json.dumps([str(hub_folder()), ref.repo, ref.selection, ref.revision])
    return cache_folder() / "hub" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read_receipt(ref: HubRef) -> dict[str, Any] | None:
    try:
        found = read_json(_receipt_path(ref), 1 << 20)
    except CheckpointError:
        return None
    files = found.get("files")
    is_ours = found.get("layout") == _LAYOUT and isinstance(files, dict) and len(files) > 0
    if not is_ours or not all(isinstance(found.get(key), str) for key in ("folder", "main", "commit")):
        return None
    entries = files.values() if isinstance(files, dict) else ()
    return found if all(isinstance(e, list) and len(e) == 3 and isinstance(e[2], list) for e in entries) else None


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
