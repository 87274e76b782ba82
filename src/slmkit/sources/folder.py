"""A source that is a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from slmkit.engine.defaults import generation_defaults, stop_ids
from slmkit.options import Options
from slmkit.sources.base import Source
from slmkit.sources.preprocessor import read_num_crops
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import is_there, read_json, read_text
from slmkit.weights.checkpoint import MOST_CONFIG_BYTES, Checkpoint

_MOST_LICENCE_BYTES = 1 << 20


class FolderSource(Source):
    """A folder as Hugging Face lays it out, or as `slm quantize` writes it."""

    @cached_property
    def tensors(self) -> Checkpoint:
        return Checkpoint.open(self.path)

    @property
    def raw_config(self) -> Mapping[str, Any]:
        return self.tensors.config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_folder(self.path)

    @cached_property
    def template(self) -> ChatTemplate:
        config = read_json(self.path / "config.json", MOST_CONFIG_BYTES)
        return ChatTemplate.from_folder(self.path, str(config.get("model_type", "")))

    @cached_property
    def defaults(self) -> Options:
        return generation_defaults(self.tensors.generation_config)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        return stop_ids(self.tensors.generation_config, self.raw_config, self.config.vocab_size)

    @cached_property
    def num_crops(self) -> int | None:
        path = self.path / "preprocessor_config.json"
        return read_num_crops(read_json(path, MOST_CONFIG_BYTES), path) if self.sees and is_there(path) else None

    @property
    def licence(self) -> str | None:
        for name in ("LICENSE", "LICENSE.md", "LICENSE.txt"):
            if is_there(self.path / name):
                return read_text(self.path / name, _MOST_LICENCE_BYTES)
        return None
