"""What a model's name means: `tiny`, a short name, a model of Ollama's store, a path, or a model of the hub."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from slmkit.errors import DownloadError, ModelNotFound, RequestError, UnsupportedModel
from slmkit.untrusted import shown
from slmkit.weights.named.store import Named, data_folder, find_named
from slmkit.weights.names import BUNDLED, HubRef, hub_reference, known_reference, refuse_reserved, unknown
from slmkit.weights.telling import Notice, Progress, Refuse

if TYPE_CHECKING:
    from slmkit.weights.ollama.model import OllamaModel

OLLAMA_STORE = "ollama-store:"
_ACCEPTED = (
    f"{BUNDLED} (the bundled model), short names such as phi3.5, owner/name on the hub, {OLLAMA_STORE}NAME, "
    "folders with config.json and model.safetensors, and .gguf files"
)
_LATER_SHARD = re.compile(r"(.+)-(?!0*1-)\d{5}-of-(\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A model that lies on this machine.

    path: a folder in Hugging Face layout, or a GGUF file, the first one of a split.
    overlay: what the Ollama store says beside the GGUF file; None from anywhere else.
    named: what a person's Modelfile says beside all that; None of a model that nobody named.
    """

    name: str
    path: Path
    overlay: OllamaModel | None = None
    named: Named | None = None


def locate(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    notice: Notice | None = None,
    refuse: Refuse | None = None,
    weights: bool = True,
) -> Found:
    """Where the model called `name` lies; one of the hub that is not in the cache yet is fetched first.

    Known names mean themselves, also those that people gave (`slm create`); then comes a path that exists; then the
    hub. `./x` is always a path.
    offline: nothing is fetched.   progress: of fetching and checking.   notice: told what is fetched and how much.
    refuse: raises UnsupportedModel for the config.json of a model that cannot be run; asked before weights are fetched.
    weights: False if configuration, tokenizer and template are enough; more is not fetched then, except of GGUF files.
    Raises RequestError for a malformed name, ModelNotFound if nothing answers to it, UnsupportedModel for other files;
    and what hub.pull raises.
    """
    _check_spelling(name)
    if name == BUNDLED:
        return Found(name, _bundled())
    if ref := known_reference(name):
        return Found(name, _from_hub(name, ref, offline, progress, notice, refuse, weights))
    if named := find_named(name):
        return _named(named, name, offline, progress, notice, refuse, weights)
    if name.startswith(OLLAMA_STORE):
        from slmkit.weights.ollama import model as ollama

        model = ollama.find(name)
        return Found(name, model.path, model)
    refuse_reserved(name)
    if path := _existing(name):
        return Found(name, path)
    if ref := hub_reference(name):
        return Found(name, _from_hub(name, ref, offline, progress, notice, refuse, weights))
    raise unknown(name, _ACCEPTED)


def _named(
    named: Named,
    name: str,
    offline: bool,
    progress: Progress | None,
    notice: Notice | None,
    refuse: Refuse | None,
    weights: bool,
) -> Found:
    """The base of a named model, under its name."""
    path = Path(named.base)
    if data_folder() in path.parents:  # a file that was sent has its hash for a name
        if not path.exists():
            raise ModelNotFound(f"{path}, of which {name} is made, is gone; make {name} again")
        return Found(name, path, None, named)
    if find_named(named.base) is not None:
        raise ModelNotFound(f"{name} is made of {named.base}, which has another meaning now; make {name} again")
    found = locate(named.base, offline=offline, progress=progress, notice=notice, refuse=refuse, weights=weights)
    return replace(found, name=name, named=named)


def _existing(name: str) -> Path | None:
    """The folder or GGUF file of that path, or the one GGUF file in that folder, if there is anything."""
    path = Path(os.path.expanduser(name))  # a ~name of nobody stays as it is, and is not found
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        raise ModelNotFound(f"{path} cannot be looked at (Permission denied); check the path and its rights") from None
    except (OSError, ValueError):  # nothing there, a name too long
        return None
    if stat.S_ISDIR(mode):
        return _gguf_in(path) or _folder(path)
    _check_file(path)
    return path


def _folder(path: Path) -> Path:
    """The folder itself.   Raises UnsupportedModel for one that is called like a file and holds no model."""
    if path.suffix.lower() == ".gguf" and not os.path.lexists(path / "config.json"):
        raise UnsupportedModel(
            f"{path} is a folder, not a GGUF file, and holds no model; give a .gguf file, or a folder with config.json "
            "and model.safetensors"
        )
    return path


def _gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder that has no safetensors but one GGUF model."""
    from slmkit.weights.checkpoint import INDEX, WEIGHTS
    from slmkit.weights.hub.files import HubFile, gguf_choices

    try:
        names = os.listdir(folder)
    except OSError:
        return None
    models = gguf_choices(HubFile(name, 0, "") for name in names if name.lower().endswith(".gguf"))
    if not models or WEIGHTS in names or INDEX in names:
        return None
    if len(models) > 1:
        raise UnsupportedModel(f"{folder} has several GGUF models; give one of {', '.join(m.name for m in models)}")
    return folder / models[0].name


def not_here(ref: HubRef) -> str:
    """The beginning of a sentence about a model of the hub that is not in the cache, or not all of it."""
    from slmkit.weights.hub.layout import Repository, hub_folder
    from slmkit.weights.hub.receipts import find_receipt

    if find_receipt(ref, weights=False):
        return f"of {ref} only configuration and tokenizer are in the cache {hub_folder()}"
    partly = os.path.isdir(Repository.of(ref.repo).folder)
    return f"{ref} is not {'all ' if partly else ''}in the cache {hub_folder()}"


def _from_hub(
    name: str,
    ref: HubRef,
    offline: bool,
    progress: Progress | None,
    notice: Notice | None,
    refuse: Refuse | None,
    weights: bool,
) -> Path:
    from slmkit.weights.hub import models as hub
    from slmkit.weights.hub.api import offline_by_environment

    offline = offline or offline_by_environment()
    damaged: list[str] = []
    found = hub.find_cached(ref, progress, damaged.append, weights=weights)
    if found is not None:
        return found
    if not offline:
        for line in damaged if notice else []:
            notice(f"{line}; it is fetched again")  # type: ignore[misc]
        return hub.pull(ref, progress, notice, refuse, weights=weights).path
    if damaged:
        raise DownloadError(f"{damaged[0]}; run `slm pull {name}` without --offline to fetch it again")
    raise ModelNotFound(
        f"{not_here(ref)}, and nothing is fetched offline; run `slm pull {name}` where there is a network, "
        "or give the path of a folder or a .gguf file"
    )


def _check_spelling(name: str) -> None:
    if not isinstance(name, str):
        raise RequestError(f"a model's name is text, not {type(name).__name__}; accepted are {_ACCEPTED}")
    if not name.strip():
        raise RequestError(f"the model's name is empty; accepted are {_ACCEPTED}")
    if not all(c.isprintable() or unicodedata.category(c) == "Zs" for c in name):  # Zs: Japanese spaces and the like
        raise RequestError(f"the model's name {shown(name)} has control characters; accepted are {_ACCEPTED}")
    parts = re.split(r"[/\\]", name)
    if ".." in parts[1:] and parts[0] not in ("", ".", "..", "~"):
        raise RequestError(
            f"the model's name {shown(name)} leads upwards through '..', which only a path may: "
            f"write ./{name} if a folder is meant"
        )


def _bundled() -> Path:
    folder = Path(str(files("slmkit") / "data" / BUNDLED))
    if not folder.is_dir():
        raise ModelNotFound(f"this installation lacks the bundled model {BUNDLED}; install slmkit again")
    return folder


def _check_file(path: Path) -> None:
    if path.suffix.lower() != ".gguf":
        raise UnsupportedModel(
            f"{path} is a file; give a .gguf file, or the folder that holds config.json and model.safetensors"
        )
    if later := _LATER_SHARD.fullmatch(path.name):
        first = f"{later[1]}-00001-of-{later[2]}.gguf"
        raise UnsupportedModel(f"{path} is a later piece of a split model; give its first one, {first}")
