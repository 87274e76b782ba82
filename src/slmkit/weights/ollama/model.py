"""Models of Ollama's store: the GGUF file in place, and what the store says beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmkit.errors import CheckpointError, ModelNotFound, UnsupportedModel
from slmkit.request import ROLES, Message
from slmkit.untrusted import parse_json, shown
from slmkit.weights.ollama.names import PREFIX, Name
from slmkit.weights.ollama.options import translate
from slmkit.weights.ollama.store import SERVICE, Layer, Manifest, Store, stores

_TEXTS = {"template", "prompt", "system", "params", "messages", "license"}
# embed: given up by Ollama itself.   draft: a second model that guesses ahead, which changes no answer.
# json: settings of weights that are no GGUF file; beside one nothing reads them.
_NEUTRAL = {"embed", "draft", "json"}
_REFUSED = {
    "projector": "an image encoder, without which it would not see its pictures",
    "adapter": "an adapter, whose changes to the weights would be lost",
    "tensor": "its weights as single tensors, and slmkit reads GGUF files from Ollama's store",
}


@dataclass(frozen=True)
class OllamaModel:
    """A model of the store, all its texts read and checked; its GGUF file is there whole, and was not opened yet.

    name: the shortest that means it.   path: the GGUF file.   size: bytes of all its files.   modified: Unix time.
    template: Go template text (text/go_template.py).   options: by our own names.   ctx: the context it asks for.
    messages: a conversation that goes before the user's own.   licence: all its licences, one after the other.
    family, parameters, quantization: as Ollama noted them, such as "phi3", "3.8B", "Q4_K_M"; "" where it did not.
    """

    name: str
    path: Path
    size: int
    modified: float
    template: str | None = None
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ctx: int | None = None
    messages: tuple[Message, ...] = ()
    licence: str = ""
    family: str = ""
    parameters: str = ""
    quantization: str = ""


def find(name: str, root: str | Path | None = None) -> OllamaModel:
    """The model called `name` (`ollama-store:` before it or not), from the first store that has it.

    Raises RequestError for a malformed name, ModelNotFound if no store has it, UnsupportedModel for what slmkit cannot
    run as it is meant, CheckpointError for damage.
    """
    wanted = Name.parse(name.removeprefix(PREFIX))
    there = stores(root)
    for store in there:
        path = store.path(wanted)
        if path is not None:
            return read(store, path, wanted)
    if not there:
        raise ModelNotFound(
            f"there is no store of Ollama that can be read, to take {shown(name)} from; if it is elsewhere, set "
            f"OLLAMA_MODELS to the folder that holds manifests and blobs (a Linux service has it in {SERVICE}, and you "
            "may have to join its group)"
        )
    raise ModelNotFound(
        f"Ollama's store in {there[0].root} has no model {shown(str(wanted))}; {_offered(there)}; "
        f"`ollama pull {wanted}` fetches one"
    )


def read(store: Store, path: Path, name: Name) -> OllamaModel:
    """The model of a manifest. Raises UnsupportedModel, CheckpointError."""
    what = f"Ollama's model {name}"
    manifest = store.manifest(path)
    about = _about(store, manifest, what)
    model = _model_layer(manifest, what)
    texts = _texts(store, manifest, what)
    options, ctx = translate(parse_json(texts.get("params", "{}").encode(), f"the params layer of {what}"), what)
    return OllamaModel(
        name=str(name),
        path=store.file(model, f"the model file of {what}"),
        size=sum(layer.size for layer in manifest.layers),
        modified=manifest.modified,
        template=texts.get("template"),
        system=texts.get("system") or None,
        options=options,
        ctx=ctx,
        messages=_messages(texts.get("messages", "[]"), what),
        licence=texts.get("license", ""),
        family=about.get("model_family", ""),
        parameters=about.get("model_type", ""),
        quantization=about.get("file_type", ""),
    )


def _about(store: Store, manifest: Manifest, what: str) -> dict[str, str]:
    """What Ollama noted about a model. Raises UnsupportedModel where its GGUF file alone does not make the answer."""
    if manifest.config is None:
        return {}
    name = f"the configuration of {what}"
    raw = parse_json(store.text(manifest.config, name).encode(), name)
    if raw.get("remote_host") or raw.get("remote_model"):
        raise UnsupportedModel(
            f"{what} runs on {shown(raw.get('remote_host') or 'a server')}, not on this machine; pull one that is here"
        )
    if raw.get("model_format") not in (None, "", "gguf"):
        raise UnsupportedModel(f"{what} has the format {shown(raw['model_format'])}; slmkit reads gguf from that store")
    for key in ("renderer", "parser"):
        if raw.get(key):
            raise UnsupportedModel(
                f"{what} has its conversations written or read by a {key} inside Ollama, {shown(raw[key])}, "
                "which slmkit does not have; run it with Ollama"
            )
    return {key: value for key, value in raw.items() if isinstance(value, str) and len(value) <= 100}


def _model_layer(manifest: Manifest, what: str) -> Layer:
    for layer in manifest.layers:
        if layer.kind in _REFUSED:
            raise UnsupportedModel(f"{what} has {_REFUSED[layer.kind]}; run it with Ollama")
        if layer.kind not in _NEUTRAL | _TEXTS | {"model"}:
            raise UnsupportedModel(
                f"{what} has a layer of the kind {shown(layer.kind)}, unknown to slmkit; run it with Ollama"
            )
    models = [layer for layer in manifest.layers if layer.kind == "model"]
    if len(models) != 1:
        count = f"{len(models)} model files" if models else "no model file"
        raise UnsupportedModel(f"{what} has {count} in its manifest; exactly one, a GGUF file, can be run")
    return models[0]


def _texts(store: Store, manifest: Manifest, what: str) -> dict[str, str]:
    """The text of each kind of layer."""
    texts: dict[str, str] = {}
    for layer in manifest.layers:
        if layer.kind not in _TEXTS:
            continue
        kind = "template" if layer.kind == "prompt" else layer.kind  # its name in the first versions
        text = store.text(layer, f"the {kind} layer of {what}")
        if kind in texts and kind != "license":
            raise CheckpointError(f"{what} has two {kind} layers, and nothing says which one counts; pull it again")
        texts[kind] = f"{texts[kind]}\n\n{text}" if kind in texts else text
    return texts


def _messages(text: str, what: str) -> tuple[Message, ...]:
    name = f"the messages layer of {what}"
    raw = parse_json(f'{{"messages": {text or "[]"}}}'.encode(), name)  # parse_json reads objects alone
    entries = raw["messages"] if set(raw) == {"messages"} else None
    if not isinstance(entries, list) or not all(_is_message(entry) for entry in entries):
        raise UnsupportedModel(f"{name} is no list of messages with a role and a text alone; run it with Ollama")
    return tuple(Message(entry["role"], entry.get("content", "")) for entry in entries)


def _is_message(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    plain = {key for key, value in entry.items() if value not in (None, "", [], {})} <= {"role", "content"}
    return plain and entry.get("role") in ROLES and isinstance(entry.get("content", ""), str)


def _offered(there: list[Store]) -> str:
    names = [str(name) for store in there for name in store.names()]
    rest = f" and {len(names) - 8} more (`slm list` shows them)" if len(names) > 8 else ""
    return f"it has {', '.join(names[:8])}{rest}" if names else "it is empty"
