"""Which models a server answers for: those it was started with, and those that are on this machine.

A request names a model; it can name no path, and nothing is fetched because of it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from slmkit.catalog.installed import Installed, installed
from slmkit.errors import ModelNotFound, SlmError
from slmkit.untrusted import shown
from slmkit.weights.hub import models as hub
from slmkit.weights.named.store import find_named
from slmkit.weights.names import hub_reference

LATEST = ":latest"  # what clients of Ollama add to a name
_HOSTS = ("hf.co/", "huggingface.co/")  # as Ollama writes names of the hub


@dataclass(frozen=True)
class Listed:
    """A model that can be asked for.

    id: as requests name it.   name: as `slmkit.load` takes it.   facts: what is known without loading it.
    """

    id: str
    name: str
    facts: dict[str, Any]


class Roster:
    """Names of requests -> names of models."""

    def __init__(self, served: tuple[str, ...]) -> None:
        """served: what the server was started with, paths too."""
        self.served = {served_id(name): name for name in served}

    def list(self) -> list[Listed]:
        """Every model, those served first."""
        here = {model.name: model for model in installed(lambda _: None)}
        served = [Listed(id, name, _facts(here.get(name))) for id, name in self.served.items()]
        others = [m for m in here.values() if not m.problem and m.name not in self.served.values()]
        return served + [Listed(m.name, m.name, _facts(m)) for m in others]

    def find(self, id: str, loaded: Collection[str] = ()) -> Listed:
        """The model of a request.   loaded: names of models in memory.   Raises ModelNotFound, with what there is."""
        plain = id.removesuffix(LATEST)
        if plain in self.served:  # without a look at every folder
            return Listed(plain, self.served[plain], {})
        if named := find_named(plain):
            return Listed(named.name, named.name, {})
        path = _path_of_hub(plain)
        for name in loaded:
            if plain == name or (path and path == _path_of_hub(name) and not find_named(name)):
                return Listed(self._id_of(name), name, {})
        there = self.list()
        for listed in there:
            is_it = path is not None and listed.facts.get("origin") == "hub" and path == listed.facts["path"]
            if is_it or plain in (listed.id, listed.id.removesuffix(LATEST)):
                return listed
        names = ", ".join(listed.id for listed in there[:8])
        raise ModelNotFound(f"there is no model {shown(id)} here; there are {names}: `slm pull` fetches others")

    def _id_of(self, name: str) -> str:
        return next((id for id, served in self.served.items() if served == name), name)


def without_host(name: str) -> str:
    """A name of the hub as it is without the host that clients of Ollama write before it."""
    return next((name.removeprefix(host) for host in _HOSTS if name.startswith(host)), name)


def _path_of_hub(name: str) -> str | None:
    """Where the model of the hub lies that has this name, in full or one of its short ones; None if it is not here."""
    try:
        ref = hub_reference(without_host(name))
        path = hub.find_cached(ref) if ref else None
    except SlmError:
        return None
    return str(path) if path else None


def served_id(name: str) -> str:
    """What requests call a model that the server was started with: a path by its last part."""
    if os.sep in name and os.path.exists(name):
        return os.path.basename(os.path.normpath(name)).removesuffix(".gguf")
    return name.removesuffix(LATEST)


def _facts(model: Installed | None) -> dict[str, Any]:
    return model.as_dict() if model else {}
