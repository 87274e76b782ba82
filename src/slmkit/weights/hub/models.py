"""Models of the hub: found in the cache that all of Hugging Face's programs share, or brought there, checked.

A model counts as here when every file that it needs is in one snapshot and holds what its checksum says. Which commit a
reference means changes only with a pull, never while a model is just used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import DownloadError, ModelNotFound, StorageError, UnsupportedModel
from slmkit.untrusted import read_json
from slmkit.weights.checkpoint import INDEX, MOST_CONFIG_BYTES, MOST_INDEX_BYTES
from slmkit.weights.hub.api import GO_ON, Listing, list_repository, offline_by_environment
from slmkit.weights.hub.cache import check_files, examine
from slmkit.weights.hub.fetch import Fetcher
from slmkit.weights.hub.files import CONFIG, Choice, choose, size_text, weights_by_index
from slmkit.weights.hub.layout import ELSEWHERE, Repository, hub_folder
from slmkit.weights.hub.receipts import find_receipt, write_receipt
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef
from slmkit.weights.telling import Notice, Progress, Refuse, silent, unheard

FETCHING = "fetching"
WAITING = "waiting for another process that fetches this model"
_CANNOT_RUN = re.compile(r"I(?:Q\d|Q)|TQ\d|MXFP|NVFP")
_SPARE_BYTES = 64 << 20  # left free on the disk: for links, locks and other programs


@dataclass(frozen=True)
class Plan:
    """What a pull would do.   n_missing: bytes that are not on this disk yet."""

    ref: HubRef
    commit: str
    choice: Choice
    listing: Listing
    n_missing: int

    @property
    def folder(self) -> Path:
        """Where the snapshot is, or will be."""
        return Repository.of(self.ref.repo).snapshot(self.commit)

    @property
    def path(self) -> Path:
        """What loads: the snapshot's folder, or its GGUF file."""
        return self.choice.path_in(self.folder)


@dataclass(frozen=True)
class Pulled:
    """A model that is here now.   n_fetched: bytes that came in this run; 0 if all was there."""

    ref: HubRef
    commit: str
    path: Path
    n_bytes: int
    n_fetched: int


def find_cached(
    ref: HubRef, progress: Progress | None = None, damaged: Notice | None = None, *, weights: bool = True
) -> Path | None:
    """The folder or GGUF file of a reference, if the whole model is in the cache and sound. No network is used.

    progress: files that other programs brought are read once, to check them.   damaged: called with a sentence for each
    file that was removed because it did not hold what its checksum says.   weights: False if configuration, tokenizer
    and template are enough.
    """
    found = find_receipt(ref) or (None if weights else find_receipt(ref, weights=False))
    return found or examine(ref, progress or silent, damaged, weights=weights)


def plan(ref: HubRef) -> Plan:
    """What a pull would fetch, by asking the hub.

    Raises ModelNotFound, UnsupportedModel, AccessDenied, DownloadError.
    """
    listing = look_up(ref)
    choice = choose(listing.files, ref.selection, ref.repo)
    return _with_choice(Plan(ref, listing.commit, choice, listing, 0), choice)


def look_up(ref: HubRef) -> Listing:
    """What the hub says of a reference's repository.   Raises ModelNotFound, AccessDenied, DownloadError."""
    if offline_by_environment():
        raise ModelNotFound(f"{ref} cannot be looked up while HF_HUB_OFFLINE is set; unset it")
    return list_repository(ref)


def pull(
    ref: HubRef,
    progress: Progress | None = None,
    notice: Notice | None = None,
    refuse: Refuse | None = None,
    *,
    weights: bool = True,
) -> Pulled:
    """Have the newest model of a reference in the cache, every file checked.

    progress: called with (what, bytes here, bytes in all).   notice: called with what is fetched, how much and where.
    refuse: called with config.json, of which a GGUF repository gives model_type alone, before the weights are fetched.
    weights: False for configuration, tokenizer and template alone; a GGUF file comes whole.
    Raises ModelNotFound, UnsupportedModel, AccessDenied, StorageError, DownloadError.
    """
    say = notice or unheard
    found = plan(ref)
    if not weights:
        found = _with_choice(found, found.choice.texts_alone())
    if refuse:
        _refuse_gguf(found, refuse)
    meter = _Meter(progress or silent, f"{FETCHING} {ref}")
    fetcher = Fetcher(ref, found.commit, meter.add, _once(lambda: say(WAITING)), say)
    if found.choice.weights and not found.choice.gguf:
        found = _settled(found, fetcher, refuse)
    identities = _bring(found, fetcher, meter, say, weights)
    if not found.choice.gguf:
        fetcher.repository.note_absent(found.commit, {file.name for file in found.choice.texts})
    write_receipt(ref, found.folder, found.choice, identities, found.commit)
    return Pulled(ref, found.commit, found.path, found.choice.n_bytes, found.n_missing)


def pull_files(
    ref: HubRef, choose: Callable[[Listing], Choice], progress: Progress | None = None, notice: Notice | None = None
) -> Path:
    """The folder with some files of a repository, every one checked; for what is no model by itself.

    Raises ModelNotFound, AccessDenied, StorageError, DownloadError.
    """
    say = notice or unheard
    listing = look_up(ref)
    choice = choose(listing)
    found = _with_choice(Plan(ref, listing.commit, choice, listing, 0), choice)
    meter = _Meter(progress or silent, f"{FETCHING} {ref}")
    _bring(found, Fetcher(ref, found.commit, meter.add, _once(lambda: say(WAITING)), say), meter, say)
    return found.folder


def _bring(found: Plan, fetcher: Fetcher, meter: _Meter, say: Notice, weights: bool = True) -> dict[str, FileIdentity]:
    """Have all files of a plan in the cache."""
    if found.n_missing:
        say(
            f"{_state(found, weights)}: fetching {size_text(found.n_missing)} into {hub_folder()}; "
            f"Ctrl-C stops, and {GO_ON}"
        )
    _require_room(found)
    meter.start(found.choice.n_bytes)
    for file in found.choice.files:
        fetcher.fetch(file)
    identities = _identities(found)
    fetcher.repository.remember(found.ref.revision, found.commit)
    return identities


def _state(found: Plan, weights: bool) -> str:
    """The beginning of the sentence on what is fetched."""
    if not found.choice.weights:
        return f"configuration and tokenizer of {found.ref} are not here yet, and are enough for this"
    state = "not here yet" if found.n_missing == found.choice.n_bytes else "here in part"
    whole = "" if weights else ", and a GGUF file comes whole"
    return f"{found.ref} is {state}{whole}"


class _Meter:
    """Adds up bytes and tells them on."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._what = progress, what
        self._done = self._total = 0

    def start(self, total: int) -> None:
        self._done, self._total = 0, total

    def add(self, n: int) -> None:
        self._done = max(0, self._done + n)
        if self._total:
            self._progress(self._what, min(self._done, self._total), self._total)


def _with_choice(found: Plan, choice: Choice) -> Plan:
    fetcher = Fetcher(found.ref, found.commit, lambda n: None, lambda: None, unheard)
    return Plan(found.ref, found.commit, choice, found.listing, fetcher.missing(choice.files))


def _refuse_gguf(found: Plan, refuse: Refuse) -> None:
    gguf = found.choice.gguf
    if gguf is None:
        return
    if _CANNOT_RUN.match(gguf.quantization):
        raise UnsupportedModel(
            f"{gguf.name} is quantized as {gguf.quantization}, which slmkit cannot run; choose another of "
            f"{found.ref.repo}: `slm pull {found.ref.repo} --list` shows them"
        )
    if found.listing.architecture:
        refuse({"model_type": found.listing.architecture})


def _settled(found: Plan, fetcher: Fetcher, refuse: Refuse | None) -> Plan:
    """The plan after config.json was fetched and accepted, with exactly the weight files that the index names."""
    texts = {file.name: file for file in found.choice.texts}
    fetcher.fetch(texts[CONFIG])
    if refuse:
        refuse(read_json(found.folder / CONFIG, MOST_CONFIG_BYTES, DownloadError))
    if INDEX not in texts or found.choice.weights[0].name == "model.safetensors":
        return found
    fetcher.fetch(texts[INDEX])
    weight_map = read_json(found.folder / INDEX, MOST_INDEX_BYTES, DownloadError).get("weight_map")
    return _with_choice(found, weights_by_index(found.choice, weight_map, found.listing.files, found.ref.repo))


def _require_room(found: Plan) -> None:
    folder = hub_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if found.n_missing and found.n_missing + _SPARE_BYTES > free:
        raise StorageError(
            f"{found.ref} needs {size_text(found.n_missing)} more, and the disk of {hub_folder()} has "
            f"{size_text(free)} left; free some space and {GO_ON}, or {ELSEWHERE}"
        )


def _identities(found: Plan) -> dict[str, FileIdentity]:
    """Of the files as they lie in the snapshot; large ones are known by now and are not read again."""
    identities = check_files(found.folder, found.choice)
    if identities is None:
        raise DownloadError(f"{found.folder} changed while it was being fetched; {GO_ON}")
    return identities


def _once(call: Callable[[], None]) -> Callable[[], None]:
    called: list[bool] = []

    def first() -> None:
        if not called:
            called.append(True)
            call()

    return first
