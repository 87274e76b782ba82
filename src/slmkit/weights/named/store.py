"""Models that people named: a base, and how it is used; each a small file in the user's data directory.

FOLDER/models/NAME.json        what the name stands for
FOLDER/blobs/sha256-HEX        files that were sent to a server, kept while a name needs them
FOLDER/folders/HEX/            links to those of a model that has several
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from slmkit.errors import CheckpointError, RequestError
from slmkit.request import ROLES, Message
from slmkit.untrusted import is_there, read_json, shown
from slmkit.weights.atomic import make_folder, write_atomically
from slmkit.weights.names import BUNDLED, PUBLISHED, known_reference, refuse_reserved
from slmkit.weights.ollama.names import PREFIX

_MOST_BYTES = 8 << 20
# No part begins with a dot, so no name leads anywhere but downwards; on the disk `/` and `:` are written otherwise.
_NAME = re.compile(r"(?:\w[\w-]{0,79}/)?\w[\w.-]{0,79}(?::\w[\w.-]{0,79})?", re.ASCII)
_LATEST = ":latest"
_WAY_OUT = "set SLMKIT_DATA_DIR to a folder that you may write to"


@dataclass(frozen=True)
class Named:
    """A named model.

    base: as `locate` takes it, or the path of a blob or a folder here.   parent: as FROM had it.
    parameters: by Ollama's names.   template: Go template text.   adapter: the folder of a LoRA adapter.
    """

    name: str
    base: str
    parent: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    adapter: str | None = None
    messages: tuple[Message, ...] = ()
    licences: tuple[str, ...] = ()
    created: float = field(default_factory=time.time)


def data_folder() -> Path:
    """Where slmkit keeps what it cannot make again: $SLMKIT_DATA_DIR, or the system's place for data."""
    if chosen := os.environ.get("SLMKIT_DATA_DIR"):
        return Path(chosen)
    from platformdirs import user_data_path

    return user_data_path("slmkit", appauthor=False)


def checked_name(name: str) -> str:
    """The name for a new model, without `:latest`.   Raises RequestError for one that it must not have."""
    plain = name.removesuffix(_LATEST)
    if not _NAME.fullmatch(plain):
        raise RequestError(
            f"{shown(name)} is no name for a model; it takes letters, digits, _, - and . as in my-model, a:tag "
            "behind it and owner/ before it"
        )
    lower = plain.lower()  # names are found in any case
    if lower == BUNDLED or known_reference(lower) or lower in map(str.lower, PUBLISHED):
        raise RequestError(f"{shown(name)} is a model that slmkit knows already; take another name")
    if lower.startswith(PREFIX):
        raise RequestError(f"{shown(name)} means a model of Ollama's own store; take a name without {PREFIX}")
    refuse_reserved(lower)
    if plain.lower().endswith(".gguf"):
        raise RequestError(f"{shown(name)} ends like a file; take another name")
    return plain


def find_named(name: str) -> Named | None:
    """The named model of that name, in any case; None if there is none.   Raises CheckpointError for a damaged file."""
    plain = name.removesuffix(_LATEST)
    if not _NAME.fullmatch(plain):
        return None
    path = _path(plain)
    return _read(path) if is_there(path) else None


def all_named() -> list[Named]:
    """All of them, by name; those whose files are damaged are passed over."""
    found = []
    for path in sorted((data_folder() / "models").glob("*.json")):
        try:
            found.append(_read(path))
        except CheckpointError:
            continue
    return found


def keep(model: Named) -> None:
    """Write it down, in place of an older one of that name.   Raises RequestError, StorageError."""
    checked_name(model.name)
    path = _path(model.name)
    make_folder(path.parent, _WAY_OUT)
    facts = asdict(model) | {"messages": [{"role": m.role, "content": m.content} for m in model.messages]}
    data = (json.dumps(facts, ensure_ascii=False, indent=2) + "\n").encode()
    if len(data) > _MOST_BYTES:  # nobody could read it, and so nobody could remove the model by its name
        raise RequestError(
            f"the texts of {shown(model.name)} take {len(data)} bytes, and {_MOST_BYTES} are kept of a model; shorten "
            "its system message, messages or licences"
        )
    write_atomically(path, data)


def forget(name: str) -> Named | None:
    """Remove a named model, and the files that no other one needs; what it was, or None if there was none."""
    from slmkit.weights.named.blobs import remove_unused

    found = find_named(name)
    if found is not None:
        _path(found.name).unlink(missing_ok=True)
        remove_unused(found, all_named())
    return found


def _path(name: str) -> Path:
    return data_folder() / "models" / f"{quote(name.lower(), safe='')}.json"


def _read(path: Path) -> Named:
    raw = read_json(path, _MOST_BYTES)
    texts: dict[str, Any] = {key: raw.get(key) for key in ("name", "base", "parent")}
    optional: dict[str, Any] = {key: raw.get(key) for key in ("template", "system", "adapter")}
    messages, licences, parameters = raw.get("messages"), raw.get("licences"), raw.get("parameters")
    if (
        not all(isinstance(text, str) for text in texts.values())
        or not all(text is None or isinstance(text, str) for text in optional.values())
        or not isinstance(messages, list)
        or not all(
            isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in messages
        )
        or not isinstance(licences, list)
        or not isinstance(parameters, dict)
        or not isinstance(raw.get("created"), (int, float))
    ):
        raise CheckpointError(f"{path} is damaged; remove it, and make the model again with `slm create`")
    turns = tuple(Message(m["role"], m["content"]) for m in messages)
    return Named(**texts, **optional, parameters=parameters, messages=turns, licences=tuple(map(str, licences)),
                 created=float(raw["created"]))  # fmt: skip
