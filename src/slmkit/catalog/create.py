"""Named models: made of what a Modelfile says, checked before anything is written down."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from slmkit.backends.adapters import check_adapter
from slmkit.errors import RequestError
from slmkit.sources.base import Source
from slmkit.sources.find import open_source, source_of
from slmkit.sources.named import NamedSource
from slmkit.text.go_template import recognise
from slmkit.untrusted import shown
from slmkit.weights.locate import Found
from slmkit.weights.lora.locate import locate_adapter
from slmkit.weights.named.store import Named, checked_name, data_folder, find_named, keep
from slmkit.weights.ollama.modelfile import Modelfile
from slmkit.weights.telling import Notice, Progress

Open = Callable[[str], Source]


def create(
    name: str,
    modelfile: Modelfile,
    folder: Path | None = None,
    *,
    parent: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Named:
    """Make a named model, in place of an older one of that name.

    folder: where the Modelfile lies; paths in it begin there. None: it has no paths but absolute ones.
    parent: what it is said to be made from, where that is not what stands behind FROM.
    Raises RequestError for a name or an instruction that cannot be, and what opening the base raises.
    """
    name = checked_name(name)
    place = _placed(modelfile.base, folder)
    model = _onto(find_named(place) if place == modelfile.base else None, name, place, modelfile)
    if parent is not None:
        model = replace(model, parent=parent)
    if modelfile.template is not None and recognise(modelfile.template) is None:
        raise RequestError(
            f"{modelfile.where('TEMPLATE')} is none that slmkit knows (it begins {shown(modelfile.template[:60])}); "
            "leave it out for the model's own template"
        )
    source = NamedSource(_base(model, offline, progress, notice), model)
    for part in ("config", "tokenizer", "template", "defaults", "stop_ids"):
        getattr(source, part)  # what is at fault is told now
    if modelfile.adapter is not None:
        path = locate_adapter(_placed(modelfile.adapter, folder), offline=offline, progress=progress, notice=notice)
        check_adapter(path, source)
        model = replace(model, adapter=str(path.resolve()))
    keep(model)
    return model


def copied(source: str, name: str) -> Named:
    """The model `source`, named or not, under another name as well.   Raises RequestError."""
    found = find_named(source)
    model = replace(found, name=checked_name(name)) if found else Named(checked_name(name), source, source)
    keep(model)
    return model


def _placed(text: str, folder: Path | None) -> str:
    """A path that is there, made absolute; any other name as it is."""
    path = Path(os.path.expanduser(text))
    if folder is None and not path.is_absolute():
        return text
    path = path if path.is_absolute() else (folder or Path()) / path
    is_path = text.startswith((".", "~", os.sep))
    if is_path and not os.path.lexists(path):
        raise RequestError(f"there is no file or folder {shown(str(path))}; paths begin where the Modelfile lies")
    return str(path.resolve()) if os.path.lexists(path) and (is_path or find_named(text) is None) else text


def _onto(parent: Named | None, name: str, base: str, modelfile: Modelfile) -> Named:
    """The Modelfile's words over those of the named model that it begins with, which may be removed afterwards."""
    own = Named(
        name,
        base,
        modelfile.base,
        dict(modelfile.parameters),
        modelfile.template,
        modelfile.system,
        None,
        modelfile.messages,
        modelfile.licences,
    )
    if parent is None:
        return own
    return replace(
        own,
        base=parent.base,
        parameters={**parent.parameters, **own.parameters},
        template=parent.template if own.template is None else own.template,
        system=parent.system if own.system is None else own.system,
        adapter=parent.adapter,
        messages=own.messages or parent.messages,
        licences=(*parent.licences, *own.licences),
    )


def _base(model: Named, offline: bool, progress: Progress | None, notice: Notice | None) -> Source:
    path = Path(model.base)
    if data_folder() in path.parents:
        return source_of(Found(model.base, path))
    return open_source(model.base, offline=offline, progress=progress, notice=notice)
