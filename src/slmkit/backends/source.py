"""A model as its files describe it: everything that is known of it before any memory is taken for its weights.

Each part is read when it is first asked for, so that showing a prompt needs no weights and no sound configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.engine.defaults import generation_defaults, stop_ids
from slmkit.models.registry import architecture
from slmkit.options import Options
from slmkit.request import Message
from slmkit.text.prompt import Prompt, chat_prompt
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import is_there, read_json, read_text
from slmkit.weights.checkpoint import MOST_CONFIG_BYTES, Checkpoint
from slmkit.weights.locate import Found, Notice, Progress, locate

if TYPE_CHECKING:
    from slmkit.weights.tensors import Shape, TensorSource

_MOST_LICENCE_BYTES = 1 << 20


class Source:
    """What every kind of source has. The properties raise ModelError where the files are at fault.

    name: as it was asked for.   path: its folder, or its GGUF file.   origin: "folder", "gguf" or "ollama".
    system: a system message for conversations that have none.   examples: messages before every conversation.
    """

    origin = "folder"
    system: str | None = None
    examples: tuple[Message, ...] = ()
    ctx: int | None = None

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    @property
    def raw_config(self) -> Mapping[str, Any]:
        """The configuration in the words of config.json."""
        raise NotImplementedError

    @property
    def tensors(self) -> TensorSource:
        """The weight files, their headers read."""
        raise NotImplementedError

    @property
    def tokenizer(self) -> Tokenizer:
        raise NotImplementedError

    @property
    def template(self) -> ChatTemplate:
        raise NotImplementedError

    @property
    def defaults(self) -> Options:
        """How the model is meant to be sampled."""
        raise NotImplementedError

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every id that ends an answer."""
        raise NotImplementedError

    @property
    def licence(self) -> str | None:
        """Its name or its text, where the files have one."""
        raise NotImplementedError

    @property
    def architecture(self) -> str:
        """model_type, such as "phi3"."""
        return str(self.raw_config.get("model_type"))

    @cached_property
    def family(self) -> Any:
        """The module of models/ that runs it."""
        return architecture(self.raw_config)

    @cached_property
    def config(self) -> Any:
        """The family's own Config, checked."""
        return self.family.Config.from_dict(self.raw_config)

    @cached_property
    def expected(self) -> Mapping[str, Shape]:
        """Every tensor that the model is built of, and its shape."""
        shapes: Mapping[str, Shape] = self.family.expected_tensors(self.config)
        return shapes

    def prompt(self, messages: Sequence[Message], *, parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation, with the model's own system message and examples where it has them."""
        own = [Message("system", self.system)] if self.system else []
        asked = [message for message in messages[:1] if message.role == "system"]
        conversation = [*(asked or own), *self.examples, *messages[len(asked) :]]
        return chat_prompt(conversation, self.template, self.tokenizer, parse_special=parse_special)


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

    @property
    def licence(self) -> str | None:
        for name in ("LICENSE", "LICENSE.md", "LICENSE.txt"):
            if is_there(self.path / name):
                return read_text(self.path / name, _MOST_LICENCE_BYTES)
        return None


def open_source(
    name: str, *, offline: bool = False, progress: Progress | None = None, notice: Notice | None = None
) -> Source:
    """The source of the model called `name`.   Raises what `locate` raises."""
    return source_of(locate(name, offline=offline, progress=progress, notice=notice, refuse=architecture))


def source_of(found: Found) -> Source:
    """The source that lies there."""
    if found.path.is_dir():
        return FolderSource(found.name, found.path)
    from slmkit.backends.gguf_source import GGUFSource, OllamaSource

    return GGUFSource(found.name, found.path) if found.overlay is None else OllamaSource(found.name, found.overlay)
