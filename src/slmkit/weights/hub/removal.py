"""Taking models, and what interrupted pulls left, out of the cache of the hub.

Nothing goes while another process fetches a file of the repository, and nothing goes that lies elsewhere: a folder that
is a symbolic link was put there by somebody, and what it leads to is not the cache's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from stat import S_ISREG

from slmkit.errors import ModelNotFound, RequestError, StorageError
from slmkit.weights.hub.inventory import choice_there
from slmkit.weights.hub.layout import Repository, hub_folder
from slmkit.weights.hub.receipts import forget
from slmkit.weights.names import HubRef

_ENDING = ".incomplete"


def remove(ref: HubRef) -> int:
    """Remove a model from the cache, and say how many bytes that gave back.

    Blobs that others link to stay, and so does what lies in the store that all repositories share (`hf cache prune`).

    Raises ModelNotFound if it is not there, StorageError if it cannot be removed, RequestError for a folder that is a
    link and while a file of the repository is being fetched.
    """
    repository = Repository.of(ref.repo)
    commit = repository.commit(ref.revision)
    choice = choice_there(ref, commit) if commit else None
    if commit is None or choice is None:
        raise ModelNotFound(f"{ref} is not in the cache {hub_folder()}; `slm list` shows what is")
    snapshot = repository.snapshot(commit)
    _refuse_links(repository, snapshot)
    is_folder = choice.weights and not choice.gguf
    names = None if is_folder else [file.name for file in choice.files]
    with _held(ref, unfinished(ref)):
        forget(ref)
        try:
            return _remove_files(repository, snapshot, names)
        except OSError as error:
            raise StorageError(f"{snapshot} cannot be removed ({error.strerror}); check its rights") from None


def unfinished(ref: HubRef) -> dict[Path, int]:
    """The unfinished files of a repository, and the bytes of each. Only regular files, never what a link leads to.

    They go on growing with the next pull, and no list shows them.
    """
    sizes = {}
    for path in sorted(Repository.of(ref.repo).blobs.glob(f"*{_ENDING}")):
        about = path.lstat()
        if S_ISREG(about.st_mode):
            sizes[path] = about.st_size
    return sizes


def remove_unfinished(ref: HubRef, files: dict[Path, int]) -> int:
    """Remove these and say how many bytes that freed.

    Raises RequestError for a folder that is a link and while one of them is being fetched, StorageError for one that
    cannot be removed.
    """
    _refuse_links(Repository.of(ref.repo))
    with _held(ref, files):
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"{path} cannot be removed ({error.strerror}); check its rights") from None
    return sum(files.values())


def _refuse_links(repository: Repository, *more: Path) -> None:
    folder = repository.folder
    for path in (folder, folder / "snapshots", repository.blobs, folder / "refs", *more):
        if path.is_symlink():
            raise RequestError(
                f"{path} is a symbolic link to {os.readlink(path)}, and slmkit removes only what lies in the cache "
                "itself; delete the link, or what it leads to, yourself"
            )


@contextmanager
def _held(ref: HubRef, files: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of unfinished files, which whoever fetches one of them has."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    locks = Repository.of(ref.repo).locks
    with ExitStack() as stack:
        for path in files:
            try:
                os.makedirs(locks, exist_ok=True)
                stack.enter_context(WeakFileLock(locks / f"{path.name.removesuffix(_ENDING)}.lock", timeout=0.1))
            except TimeoutError:
                raise RequestError(
                    f"{ref.repo} is being fetched by another process; wait for that one or stop it, then remove {ref}"
                ) from None
            except OSError as error:
                raise StorageError(f"{locks} cannot be written ({error.strerror}); check its rights") from None
        yield


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
