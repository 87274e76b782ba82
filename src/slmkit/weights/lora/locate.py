"""Where an adapter lies: a folder, or a repository of the hub, of which two files are fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.errors import DownloadError, ModelNotFound, RequestError, UnsupportedModel
from slmkit.untrusted import shown
from slmkit.weights.lora.adapter import CONFIG, WEIGHTS
from slmkit.weights.names import HubRef, hub_reference

if TYPE_CHECKING:
    from slmkit.weights.hub.api import Listing
    from slmkit.weights.hub.files import Choice, HubFile
    from slmkit.weights.telling import Notice, Progress


def locate_adapter(
    place: str, *, offline: bool = False, progress: Progress | None = None, notice: Notice | None = None
) -> Path:
    """The folder of an adapter: a path that exists, else owner/name[@revision] on the hub, fetched if need be.

    Raises ModelNotFound, RequestError for a malformed name, UnsupportedModel for a repository without an adapter, and
    what a download raises.
    """
    path = Path(os.path.expanduser(place))
    if os.path.lexists(path):
        return path
    ref = hub_reference(place)
    if ref is None:
        raise ModelNotFound(
            f"there is no folder {shown(place)}; give the folder of an adapter that PEFT saved, or its owner/name"
        )
    if ref.selection:
        raise RequestError(f"{shown(place)} names a file; an adapter on the hub is owner/name[@revision]")
    return _from_hub(ref, offline, progress, notice)


def _from_hub(ref: HubRef, offline: bool, progress: Progress | None, notice: Notice | None) -> Path:
    from slmkit.weights.hub import models as hub
    from slmkit.weights.hub.api import offline_by_environment
    from slmkit.weights.hub.cache import check_files, linked_files
    from slmkit.weights.hub.layout import Repository
    from slmkit.weights.telling import silent

    repository, damaged = Repository.of(ref.repo), list[str]()
    commit = repository.commit(ref.revision)
    if commit is not None:
        folder = repository.snapshot(commit)
        found = {file.name: file for file in linked_files(folder)}
        if {CONFIG, WEIGHTS} <= found.keys() and check_files(
            folder, _choice([found[CONFIG], found[WEIGHTS]]), progress or silent, damaged.append
        ):
            return folder
    if not (offline or offline_by_environment()):
        return hub.pull_files(ref, lambda listing: _chosen(listing, ref), progress, notice)
    if damaged:
        raise DownloadError(f"{damaged[0]}; leave out --offline to fetch it again")
    raise ModelNotFound(f"the adapter {ref} is not in the cache, and nothing is fetched offline; give a folder")


def _chosen(listing: Listing, ref: HubRef) -> Choice:
    files = {file.name: file for file in listing.files}
    if CONFIG in files and WEIGHTS in files:
        return _choice([files[CONFIG], files[WEIGHTS]])
    if CONFIG in files and "adapter_model.bin" in files:
        raise UnsupportedModel(
            f"{ref.repo} has its adapter as a pickle only, and slmkit never reads pickles, which can run any program; "
            f"look for one with {WEIGHTS}"
        )
    raise UnsupportedModel(f"{ref.repo} has no {CONFIG} with {WEIGHTS}; is it an adapter that PEFT saved?")


def _choice(files: list[HubFile]) -> Choice:
    from slmkit.weights.hub.files import Choice

    return Choice((files[0],), (files[1],))
