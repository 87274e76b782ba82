"""The models in the cache of the hub: which there are, whoever brought them, and how to be rid of one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import ModelNotFound, SlmError, StorageError
from slmkit.weights.hub import cache as hub_cache
from slmkit.weights.hub.cache import Repository, hub_folder
from slmkit.weights.hub.files import Choice, GGUFChoice, HubFile, choose, gguf_choices
from slmkit.weights.names import HubRef


@dataclass(frozen=True)
class Cached:
    """A model in the cache.   is_checked: every file was found sound and none was touched since."""

    ref: HubRef
    commit: str
    path: Path
    n_bytes: int
    is_checked: bool


def cached() -> list[Cached]:
    """The models in the cache, whoever brought them, by name. Those without any weights that slmkit reads are not."""
    models: dict[tuple[str, str], Cached] = {}
    for folder in sorted(hub_folder().glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        for revision, commit in _revisions(Repository(folder)):
            for found in _models_of(HubRef(repo, None, revision), commit):
                models.setdefault((str(found.path), found.commit), found)
    return sorted(models.values(), key=lambda model: str(model.ref))


def remove(ref: HubRef) -> int:
    """Remove a model from the cache, and say how many bytes that gave back.

    Blobs that others link to stay, and so does what lies in the store that all repositories share (`hf cache prune`).

    Raises ModelNotFound if it is not there, StorageError if it cannot be removed.
    """
    repository = Repository.of(ref.repo)
    commit = repository.commit(ref.revision)
    choice = _choice_there(ref, repository, commit) if commit else None
    if commit is None or choice is None:
        raise ModelNotFound(f"{ref} is not in the cache {hub_folder()}; `slm list` shows what is")
    hub_cache.forget(ref)
    snapshot = repository.snapshot(commit)
    names = [file.name for file in choice.files] if choice.gguf else None
    try:
        return _remove_files(repository, snapshot, names)
    except OSError as error:
        raise StorageError(f"{snapshot} cannot be removed ({error.strerror}); check its rights") from None


def selection_of(model: GGUFChoice, files: Sequence[HubFile]) -> str:
    """The shortest selection that names one GGUF model among a repository's files."""
    same = [other for other in gguf_choices(files) if other.quantization == model.quantization]
    return model.quantization if model.quantization and len(same) == 1 else model.name


def _revisions(repository: Repository) -> list[tuple[str, str]]:
    """(revision, commit) of every snapshot: by its branch or tag, or by itself if it has none."""
    refs = repository.folder / "refs"
    named = []
    for path in sorted(refs.rglob("*")):
        revision = path.relative_to(refs).as_posix()
        commit = repository.commit(revision) if path.is_file() else None
        if commit and repository.snapshot(commit).is_dir():
            named.append((revision, commit))
    with suppress(OSError):
        alone = {path.name for path in (repository.folder / "snapshots").iterdir()} - {commit for _, commit in named}
        named += [(commit, commit) for commit in sorted(alone) if re.fullmatch("[0-9a-f]{40}", commit)]
    return named


def _models_of(ref: HubRef, commit: str) -> list[Cached]:
    """The models of one snapshot: each of its GGUF files, or the folder."""
    repository = Repository.of(ref.repo)
    files = _files_there(repository.snapshot(commit))
    choices = [Choice((), model.files, model) for model in gguf_choices(files)]
    if not choices:
        with suppress(SlmError):
            choices = [choose(files, None, ref.repo)]
    found = []
    for choice in choices:
        selection = selection_of(choice.gguf, files) if choice.gguf else None
        own = HubRef(ref.repo, selection, ref.revision)
        folder = repository.snapshot(commit)
        path = folder / choice.gguf.files[0].name if choice.gguf else folder
        is_checked = any(hub_cache.find_receipt(one) == path for one in (own, ref))
        found.append(Cached(own, commit, path, choice.n_bytes, is_checked))
    return found


def _files_there(snapshot: Path) -> list[HubFile]:
    """The files of a snapshot, checked or not."""
    files = []
    for path in sorted([*snapshot.glob("*"), *snapshot.glob("*/*.gguf")]):
        with suppress(OSError):
            if path.is_file():
                files.append(HubFile(path.relative_to(snapshot).as_posix(), path.stat().st_size, ""))
    return files


def _choice_there(ref: HubRef, repository: Repository, commit: str) -> Choice | None:
    try:
        return choose(_files_there(repository.snapshot(commit)), ref.selection, ref.repo)
    except SlmError:
        return None


def _remove_files(repository: Repository, snapshot: Path, names: list[str] | None) -> int:
    """Remove files of a snapshot, or all of it, then the blobs that no snapshot shows any more."""
    blobs = {path for path in snapshot.rglob("*") if names is None or path.relative_to(snapshot).as_posix() in names}
    targets = {path.resolve() for path in blobs if path.is_file()}
    freed = sum(path.stat().st_size for path in blobs if path.is_file() and not path.is_symlink())
    if names is None or not set(_names_in(snapshot)) - set(names):
        shutil.rmtree(snapshot)
        for path in (repository.folder / "refs").rglob("*"):
            if (
                path.is_file()
                and repository.commit(path.relative_to(repository.folder / "refs").as_posix()) == snapshot.name
            ):
                path.unlink()
    else:
        for path in blobs:
            path.unlink(missing_ok=True)
    others = {path.resolve() for path in (repository.folder / "snapshots").rglob("*") if path.is_symlink()}
    for blob in repository.blobs.glob("*"):
        if blob.resolve() in targets - others:
            freed += 0 if blob.is_symlink() else blob.stat().st_size  # a link: the bytes are in the store of all
            blob.unlink()
    if not any((repository.folder / "snapshots").iterdir()):
        shutil.rmtree(repository.folder)
    return freed


def _names_in(snapshot: Path) -> list[str]:
    return [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if not path.is_dir()]
