"""Sources that are GGUF files: on their own, or in Ollama's store with what it says about their use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from slmkit.models.gguf_config import SOURCE, read_config
from slmkit.models.gguf_names import tensor_names
from slmkit.options import Options
from slmkit.sources.base import Source
from slmkit.text.gguf.chat import read_stop_ids, read_template
from slmkit.text.gguf.sampling import read_sampling
from slmkit.text.gguf.tokenizer import read_tokenizer
from slmkit.text.go_template import known_template
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.weights.gguf.checkpoint import GGUFCheckpoint
from slmkit.weights.gguf.file import GGUFFile, open_gguf
from slmkit.weights.gguf.header import GGUFTensor
from slmkit.weights.ollama.model import OllamaModel


class GGUFSource(Source):
    """A GGUF file, or the first one of a split."""

    origin = "gguf"

    @cached_property
    def files(self) -> tuple[GGUFFile, ...]:
        """All shards, their headers read."""
        return open_gguf(self.path)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Of the first file, which speaks for all."""
        return self.files[0].metadata

    @cached_property
    def _held(self) -> Mapping[str, GGUFTensor]:
        return {name: tensor for file in self.files for name, tensor in file.tensors.items()}

    @cached_property
    def raw_config(self) -> Mapping[str, Any]:
        return read_config(self.metadata, self._held, self._values)

    @cached_property
    def config(self) -> Any:
        return self.family.Config.from_dict(self.raw_config, SOURCE)

    @cached_property
    def tensors(self) -> GGUFCheckpoint:
        return GGUFCheckpoint(self.files, tensor_names(self.raw_config, self._held))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return read_tokenizer(self.metadata)

    @cached_property
    def template(self) -> ChatTemplate:
        return read_template(self.metadata)

    @cached_property
    def defaults(self) -> Options:
        return read_sampling(self.metadata)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        return read_stop_ids(self.metadata, self.config.vocab_size)

    @property
    def licence(self) -> str | None:
        found = self.metadata.get("general.license")
        return found if isinstance(found, str) else None

    def _values(self, name: str) -> Any:
        file = next(file for file in self.files if name in file.tensors)
        return file.blocks(name)


class OllamaSource(GGUFSource):
    """A name in Ollama's store: a GGUF file with what the store says about how it is used."""

    origin = "ollama"

    def __init__(self, name: str, overlay: OllamaModel) -> None:
        super().__init__(name, overlay.path)
        self.overlay = overlay
        self.system, self.ctx = overlay.system, overlay.ctx
        self.examples = tuple(overlay.messages)
        self.go_template = overlay.template

    @cached_property
    def template(self) -> ChatTemplate:
        layer = self.overlay.template
        return super().template if layer is None else ChatTemplate(known_template(layer, self.name))

    @cached_property
    def defaults(self) -> Options:
        return Options(**self.overlay.options).over(super().defaults)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """With the control tokens among the texts to stop at: Ollama sees them as text, here they are none."""
        texts = self.overlay.options.get("stop", ())
        ids = {id for text in texts if (id := self.tokenizer.piece_to_id(text)) in self.tokenizer.control_ids}
        return super().stop_ids | frozenset(id for id in ids if id is not None)

    @property
    def licence(self) -> str | None:
        return self.overlay.licence or super().licence
