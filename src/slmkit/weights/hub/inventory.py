"""The models in the cache of the hub: which there are, whoever brought them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import SlmError
from slmkit.weights.hub.files import Choice, GGUFChoice, HubFile, choose, gguf_choices, is_text
from slmkit.weights.hub.layout import Repository, hub_folder
from slmkit.weights.hub.receipts import find_receipt
from slmkit.weights.names import HubRef


@dataclass(frozen=True)
class Cached:
    """A model in the cache.

    is_checked: every file was found sound and none was touched since.   has_weights: False if only its texts are here,
    which slmkit fetched to show a prompt.
    """

    ref: HubRef
    commit: str
    path: Path
    n_bytes: int
    is_checked: bool
    has_weights: bool = True


def cached() -> list[Cached]:
    """The models in the cache, whoever brought them, by name. Those without any weights that slmkit reads are not."""
    models: dict[tuple[str, str], Cached] = {}
    for folder in sorted(hub_folder().glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        for revision, commit in _revisions(Repository(folder)):
            for found in _models_of(HubRef(repo, None, revision), commit):
                models.setdefault((str(found.path), found.commit), found)
    return sorted(models.values(), key=lambda model: str(model.ref))


def selection_of(model: GGUFChoice, files: Sequence[HubFile]) -> str:
    """The shortest selection that names one GGUF model among a repository's files."""
    same = [other for other in gguf_choices(files) if other.quantization == model.quantization]
    return model.quantization if model.quantization and len(same) == 1 else model.name


def choice_there(ref: HubRef, commit: str) -> Choice | None:
    """The files of a snapshot that make up a model, checked or not; None if they make up none."""
    folder = Repository.of(ref.repo).snapshot(commit)
    files = _files_there(folder)
    try:
        return choose(files, ref.selection, ref.repo)
    except SlmError:
        return _texts_there(ref, folder, files)


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
    folder = repository.snapshot(commit)
    if not choices and (texts := _texts_there(ref, folder, files)):
        choices = [texts]
    found = []
    for choice in choices:
        selection = selection_of(choice.gguf, files) if choice.gguf else None
        own = HubRef(ref.repo, selection, ref.revision)
        path, weights = choice.path_in(folder), bool(choice.weights)
        is_checked = any(find_receipt(one, weights=weights) == path for one in (own, ref))
        found.append(Cached(own, commit, path, choice.n_bytes, is_checked, weights))
    return found


def _texts_there(ref: HubRef, folder: Path, files: Sequence[HubFile]) -> Choice | None:
    """What slmkit fetched of a model whose weights are not here; what other programs did is theirs, and no model."""
    if ref.selection is not None or find_receipt(ref, weights=False) != folder:
        return None
    return Choice(tuple(file for file in files if is_text(file.name)), ())


def _files_there(snapshot: Path) -> list[HubFile]:
    """The files of a snapshot, checked or not."""
    files = []
    for path in sorted([*snapshot.glob("*"), *snapshot.glob("*/*.gguf")]):
        with suppress(OSError):
            if path.is_file():
                files.append(HubFile(path.relative_to(snapshot).as_posix(), path.stat().st_size, ""))
    return files
