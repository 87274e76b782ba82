"""A folder of ONNX Runtime GenAI, as its genai_config.json describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slmkit.errors import CheckpointError, ModelNotFound, UnsupportedModel
from slmkit.untrusted import is_there, read_json, shown

CONFIG = "genai_config.json"
# What a device is called here -> ONNX Runtime GenAI's name of the provider; "" is the processor, which needs none.
DEVICES = {
    "cpu": "",
    "cuda": "cuda",
    "dml": "DML",
    "qnn": "QNN",
    "openvino": "OpenVINO",
    "webgpu": "WebGPU",
    "nvtensorrtrtx": "NvTensorRtRtx",
    "vitisai": "VitisAI",
}
_MOST_CONFIG_BYTES = 4 << 20
_MOST_GRAPH_BYTES = 64 << 20  # a graph that holds a context binary's name alone is far smaller
_FAMILIES = {"phi3v": "phi3_v"}  # its words for a family -> config.json's
_PARTS = ("decoder", "vision", "embedding", "encoder")


@dataclass(frozen=True)
class OnnxFolder:
    """What is known of a model before its runtime opens it.

    family: in the words of config.json.   context: most tokens, by the model.   providers: those its parts ask for.
    search: the folder's own search options.   sees: whether it takes images.
    """

    path: Path
    family: str
    context: int
    vocab_size: int
    stop_ids: frozenset[int]
    providers: tuple[str, ...]
    search: Mapping[str, Any]
    sees: bool
    model: Mapping[str, Any]

    @classmethod
    def open(cls, name: str) -> OnnxFolder:
        """Raises ModelNotFound, CheckpointError."""
        path = Path(name).expanduser()
        if not path.is_dir():
            raise ModelNotFound(
                f"there is no folder {name}; onnx: runs folders with a {CONFIG}: fetch one, or make one with `slm "
                "export onnx MODEL FOLDER`"
            )
        if not is_there(path / CONFIG):
            raise ModelNotFound(_without_config(path))
        raw = read_json(path / CONFIG, _MOST_CONFIG_BYTES)
        model, search = raw.get("model"), raw.get("search", {})
        if not isinstance(model, dict) or not isinstance(search, dict):
            raise CheckpointError(f"{path / CONFIG} has no model and search in it; fetch it again")
        family = str(model.get("type"))
        return cls(
            path=path,
            family=_FAMILIES.get(family, family),
            context=_whole(model, "context_length", path),
            vocab_size=_whole(model, "vocab_size", path),
            stop_ids=_stop_ids(model, path),
            providers=tuple(dict.fromkeys(_providers(model))),
            search=search,
            sees=isinstance(model.get("vision"), dict),
            model=model,
        )

    def fitting_context(self, asked: int | None, device: str | None) -> tuple[int, str]:
        """The context to run with, and what to tell of it.   Raises OptionError.

        The runtime takes the keys and values of a whole answer beforehand. On the processor they have 4 bytes at most a
        number; other devices have memory of their own, of which nothing is known here.
        """
        from slmkit.backends.room import context_of
        from slmkit.engine.memory import RESERVE, free_bytes

        context = context_of(asked, self.context)
        decoder = self.model.get("decoder")
        on_processor = device == "cpu" or (device is None and not self.providers)
        if asked is not None or not on_processor or not isinstance(decoder, dict):
            return context, ""
        sizes: list[Any] = [decoder.get(name) for name in ("num_hidden_layers", "num_key_value_heads", "head_size")]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            return context, ""
        a_token = 2 * prod(sizes) * 4
        weights = sum(file.stat().st_size for file in self.path.iterdir() if ".onnx" in file.name)
        fitting = max(int((free_bytes() - weights) * (1 - RESERVE)) // a_token, 1)
        if fitting >= context:
            return context, ""
        return fitting, (
            f"the context is {fitting} tokens, of the model's {context}: one token takes {a_token / 1e6:.2f} MB; ctx "
            "sets another"
        )

    @property
    def context_binaries(self) -> tuple[str, ...]:
        """Those of its files that were compiled for one kind of processor, and that no other provider can run."""
        names = sorted({*_values(self.model, "filename")})
        files = [self.path / name for name in names if isinstance(name, str) and name.endswith(".onnx")]
        return tuple(file.name for file in files if file.is_file() and _holds(file, b"EPContext"))

    def require_reader(self, device: str | None) -> None:
        """Raise UnsupportedModel for context binaries that the chosen device cannot run."""
        asked = DEVICES.get((device or "").lower(), "")
        own = [provider.lower() for provider in self.providers]
        if (device is None and own) or (asked and asked.lower() in own):
            return
        if binaries := self.context_binaries:
            made_for = ", ".join(self.providers) or "another kind of processor"
            what = f"device {device}" if device else "the processor"
            raise UnsupportedModel(
                f"{shown(binaries[0])} in {self.path} is a context binary, compiled for {made_for}, which {what} "
                "cannot run; leave device out on a machine that has it, or take the model's folder for this device"
            )

    def overlay_of(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Session options for every part of the model, as the runtime lays them over its configuration."""
        parts = [part for part in _PARTS if isinstance(self.model.get(part), dict)]
        return {"model": {part: {"session_options": dict(session)} for part in parts}}


def _without_config(path: Path) -> str:
    """What to say of a folder that is none of the runtime's."""
    below = sorted(str(found.parent) for found in path.glob(f"*/{CONFIG}")) + sorted(
        str(found.parent) for found in path.glob(f"*/*/{CONFIG}")
    )
    if below:
        return f"{path} has no {CONFIG} itself; name one of the folders in it that do: {', '.join(below[:8])}"
    if (path / "config.json").exists():
        return f"{path} is a checkpoint, without a {CONFIG}; make a folder of it: slm export onnx {path} FOLDER"
    return f"{path} has no {CONFIG}; onnx: runs folders that ONNX Runtime GenAI's model builder made"


def _whole(model: Mapping[str, Any], name: str, path: Path) -> int:
    value = model.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path / CONFIG} has {name} = {shown(value)}; a whole number above 0 is needed")
    return value


def _stop_ids(model: Mapping[str, Any], path: Path) -> frozenset[int]:
    value = model.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(id, int) and not isinstance(id, bool) for id in ids):
        raise CheckpointError(f"{path / CONFIG} has eos_token_id = {shown(value)}; a token id or a list is needed")
    return frozenset(ids)


def _providers(model: Mapping[str, Any]) -> Iterator[str]:
    for options in _values(model, "provider_options"):
        for entry in options if isinstance(options, list) else ():
            yield from entry if isinstance(entry, dict) else ()


def _values(tree: Any, key: str) -> Iterator[Any]:
    """What stands under that key, however deep."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value, key)


def _holds(file: Path, name: bytes) -> bool:
    with file.open("rb") as opened:
        return name in opened.read(_MOST_GRAPH_BYTES)
