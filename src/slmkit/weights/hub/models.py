"""Models of the hub: found in the cache that all of Hugging Face's programs share, or brought there, checked.

A model counts as here when every file that it needs is in one snapshot and holds what its checksum says. Which commit a
reference means changes only with a pull, never while a model is just used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmkit.errors import DownloadError, ModelNotFound, StorageError, UnsupportedModel
from slmkit.untrusted import read_json
from slmkit.weights.checkpoint import INDEX, MOST_CONFIG_BYTES, MOST_INDEX_BYTES
from slmkit.weights.hub import cache as hub_cache
from slmkit.weights.hub.api import GO_ON, Listing, list_repository, offline_by_environment
from slmkit.weights.hub.cache import ELSEWHERE, Repository, hub_folder
from slmkit.weights.hub.fetch import Fetcher
from slmkit.weights.hub.files import CONFIG, Choice, choose, size_text, weights_by_index
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.names import HubRef
from slmkit.weights.packing import Progress, silent

Refuse = Callable[[Mapping[str, Any]], object]  # raises UnsupportedModel for a config.json that nothing here can run
Notice = Callable[[str], None]

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
        return self.folder / self.choice.gguf.files[0].name if self.choice.gguf else self.folder


@dataclass(frozen=True)
class Pulled:
    """A model that is here now.   n_fetched: bytes that came in this run; 0 if all was there."""

    ref: HubRef
    commit: str
    path: Path
    n_bytes: int
    n_fetched: int


def find_cached(ref: HubRef, progress: Progress | None = None, damaged: Notice | None = None) -> Path | None:
    """The folder or GGUF file of a reference, if the whole model is in the cache and sound. No network is used.

    progress: files that other programs brought are read once, to check them.   damaged: called with a sentence for each
    file that was removed because it did not hold what its checksum says.
    """
    return hub_cache.find_receipt(ref) or hub_cache.examine(ref, progress or silent, damaged)


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
    ref: HubRef, progress: Progress | None = None, notice: Notice | None = None, refuse: Refuse | None = None
) -> Pulled:
    """Have the newest model of a reference in the cache, every file checked.

    progress: called with (what, bytes here, bytes in all).   notice: called with what is fetched, how much and where.
    refuse: called with config.json, of which a GGUF repository gives model_type alone, before the weights are fetched.
    Raises ModelNotFound, UnsupportedModel, AccessDenied, StorageError, DownloadError.
    """
    say = notice or _unheard
    found = plan(ref)
    if refuse:
        _refuse_gguf(found, refuse)
    meter = _Meter(progress or silent, f"{FETCHING} {ref}")
    fetcher = Fetcher(ref, found.commit, meter.add, _once(lambda: say(WAITING)), say)
    if not found.choice.gguf:
        found = _settled(found, fetcher, refuse)
    if found.n_missing:
        state = "not here yet" if found.n_missing == found.choice.n_bytes else "here in part"
        say(f"{ref} is {state}: fetching {size_text(found.n_missing)} into {hub_folder()}; Ctrl-C stops, and {GO_ON}")
    _require_room(found)
    meter.start(found.choice.n_bytes)
    for file in found.choice.files:
        fetcher.fetch(file)
    identities = _identities(found)
    fetcher.repository.remember(ref.revision, found.commit)
    if not found.choice.gguf:
        fetcher.repository.note_absent(found.commit, {file.name for file in found.choice.texts})
    hub_cache.write_receipt(ref, found.folder, found.choice, identities, found.commit)
    return Pulled(ref, found.commit, found.path, found.choice.n_bytes, found.n_missing)


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
    fetcher = Fetcher(found.ref, found.commit, lambda n: None, lambda: None, _unheard)
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
    identities = hub_cache.check_files(found.folder, found.choice)
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


def _unheard(line: str) -> None:
    """The notice that nobody reads."""
