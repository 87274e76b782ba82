"""What Ollama's API says of a model in a few words: its format, family, size and quantization."""

from __future__ import annotations

import hashlib
import json
import math
import os
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from slmkit.catalog.tensor_types import matrix_types, tensor_rows
from slmkit.errors import SlmError
from slmkit.server.roster import Listed
from slmkit.sources.base import Source
from slmkit.sources.find import open_source

_UNITS = (("B", 10**9), ("M", 10**6), ("K", 10**3))


def details_of(listed: Listed) -> dict[str, Any]:
    """The `details` of a model; its headers are read once for each state of its files."""
    return dict(_details(listed.name, modified_of(listed)))


def details(source: Source) -> dict[str, Any]:
    """The `details` of a source.   Raises ModelError."""
    n = sum(math.prod(shape) for shape in source.expected.values())
    return {
        "parent_model": source.parent,
        "format": "gguf" if source.origin in ("gguf", "ollama") else "safetensors",
        "family": source.architecture,
        "families": [source.architecture],
        "parameter_size": count(n),
        "quantization_level": matrix_types(tensor_rows(source)).partition(",")[0],
    }


def count(n: int) -> str:
    """A number of parameters as Ollama writes it: 3.8B."""
    for unit, size in _UNITS:
        if n >= size:
            return f"{n / size:.1f}{unit}"
    return str(n)


def modified_of(listed: Listed) -> float:
    """Unix time of the last change of its files; 0 where that is not known."""
    told = listed.facts.get("modified")
    if told is not None:
        return float(told)
    try:
        return os.stat(listed.facts.get("path") or listed.name).st_mtime
    except OSError:
        return 0.0


def time_text(seconds: float) -> str:
    """A Unix time as Ollama writes times."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def digest_of(listed: Listed) -> str:
    """64 hexadecimal digits that change when the model does. Not a hash of its weights, which would take a while."""
    known = [listed.name, listed.facts.get("n_bytes"), modified_of(listed)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@lru_cache(maxsize=256)
def _details(name: str, modified: float) -> dict[str, Any]:
    try:
        return details(open_source(name, offline=True))
    except SlmError:  # what is broken is listed all the same
        return {"parent_model": "", "format": "", "family": "", "families": None, "parameter_size": "",
                "quantization_level": ""}  # fmt: skip
