"""What can be run here without a download: the bundled model, named ones, the hub's cache, and Ollama's store.

Headers alone are read. What is broken or cannot be run has its reason, and hides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from slmkit.catalog.tensor_types import matrix_types, tensor_rows
from slmkit.errors import SlmError
from slmkit.models.registry import ARCHITECTURES
from slmkit.sources.base import Source
from slmkit.sources.find import source_of
from slmkit.weights.hub.inventory import Cached, cached
from slmkit.weights.load import plan_weights
from slmkit.weights.locate import Found, locate
from slmkit.weights.named.store import all_named
from slmkit.weights.names import BUNDLED, MAIN, short_name
from slmkit.weights.ollama import model as ollama
from slmkit.weights.ollama.names import PREFIX, Name
from slmkit.weights.ollama.store import Store, stores

_TEXTS_ALONE = "only its configuration and tokenizer are here; `slm pull {}` fetches the weights"


@dataclass(frozen=True)
class Installed:
    """One model.

    name: as `slm run` takes it.   origin: "bundled", "named", "hub" or "ollama".   n_bytes: of its files.
    format: "safetensors" or "gguf".   quantization: the types of its matrices, most first, or what its store says.
    modified: Unix time, None for the bundled model.   problem: why it cannot be run, "" if it can.
    """

    name: str
    origin: str
    path: str
    n_bytes: int
    format: str
    quantization: str
    modified: float | None
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"runs": not self.problem}


def installed(notice: Callable[[str], None]) -> list[Installed]:
    """Every model: the bundled one, then those that people named, the hub's, and Ollama's, each by name.

    notice: told of a whole place that cannot be read.
    """
    found = [_bundled()]
    for models in (_of_people, _of_hub, _of_ollama):
        try:
            found += models()
        except SlmError as error:
            notice(str(error))
    return found


def _bundled() -> Installed:
    source = source_of(locate(BUNDLED))
    size, quantization, problem = _examined(source)
    return Installed(BUNDLED, "bundled", str(source.path), size, "safetensors", quantization, None, problem)


def _of_people() -> Iterator[Installed]:
    for model in all_named():
        try:
            found = locate(model.name, offline=True)
        except SlmError as error:
            yield Installed(model.name, "named", model.base, 0, "", "", model.created, str(error))
            continue
        size, quantization, problem = _examined(source_of(found))
        format = "safetensors" if found.path.is_dir() else "gguf"
        yield Installed(model.name, "named", str(found.path), size, format, quantization, model.created, problem)


def _of_hub() -> Iterator[Installed]:
    for model in cached():
        name = hub_name(model)
        if model.has_weights:
            size, quantization, problem = _examined(source_of(Found(name, model.path)))
        else:
            size, quantization, problem = model.n_bytes, "", _TEXTS_ALONE.format(name)
        try:
            modified = model.path.stat().st_mtime
        except OSError:
            continue  # removed in this moment
        format = "gguf" if model.path.suffix.lower() == ".gguf" else "safetensors"
        yield Installed(name, "hub", str(model.path), model.n_bytes or size, format, quantization, modified, problem)


def hub_name(model: Cached) -> str:
    """The shortest name of a model in the hub's cache."""
    short = short_name(model.ref.repo)
    return short if short and model.ref.selection is None and model.ref.revision == MAIN else str(model.ref)


def _of_ollama() -> Iterator[Installed]:
    seen: set[str] = set()
    for store in stores():
        for name in store.names():
            if str(name).lower() not in seen:  # the first store that has a name is the one that runs
                seen.add(str(name).lower())
                yield _in_store(store, name)


def _in_store(store: Store, name: Name) -> Installed:
    called = f"{PREFIX}{name}"
    path = store.root
    try:
        path = store.path(name) or path
        modified = path.lstat().st_mtime
    except (SlmError, OSError) as error:
        return Installed(called, "ollama", str(path), 0, "", "", None, str(error))
    try:
        model = ollama.read(store, path, name)
    except SlmError as error:
        return Installed(called, "ollama", str(path), 0, "", "", modified, str(error))
    if model.family and model.family not in ARCHITECTURES:  # no need to open the file
        types, problem = "", f"slmkit cannot run the architecture {model.family}"
    else:
        _, types, problem = _examined(source_of(Found(called, model.path, model)))
    label = model.quantization or types
    return Installed(called, "ollama", str(model.path), model.size, "gguf", label, modified, problem)


def _examined(source: Source) -> tuple[int, str, str]:
    """Bytes of its weight files, the types of its matrices, and what stands in the way of running it."""
    size, types = 0, ""
    try:
        tensors = source.tensors
        size, types = tensors.total_bytes, matrix_types(tensor_rows(source))
        plan_weights(tensors, source.expected)
        source.template  # noqa: B018  it is read when asked for
    except SlmError as error:
        return size, types, str(error)
    return size, types, ""
