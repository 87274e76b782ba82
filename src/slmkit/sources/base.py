"""A model as its files describe it: everything that is known of it before any memory is taken for its weights.

Each part is read when it is first asked for, so that showing a prompt needs no weights and no sound configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.models.registry import architecture
from slmkit.options import Options
from slmkit.request import Message
from slmkit.text.prompt import Prompt, chat_prompt
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from slmkit.weights.tensors import Shape, TensorSource


class Source:
    """What every kind of source has. The properties raise ModelError where the files are at fault.

    name: as it was asked for.   path: its folder, or its GGUF file.   origin: "folder", "gguf" or "ollama".
    parent: what a named model was made from, "" for others.   adapters: its own, name -> folder.
    go_template: the template in Go's language, where Ollama's store or a Modelfile has one.
    system: a system message for conversations that have none.   examples: messages before every conversation.
    """

    origin = "folder"
    parent = ""
    go_template: str | None = None
    adapters: Mapping[str, str] = {}
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

    @property
    def num_crops(self) -> int | None:
        """The most crops of an image, where the files of a model that sees say so."""
        return None

    @property
    def sees(self) -> bool:
        """Whether the model takes images."""
        return hasattr(self.family, "feature_bytes")

    def prompt(
        self, messages: Sequence[Message], *, parse_special: bool = False, image_tokens: Sequence[int] = ()
    ) -> Prompt:
        """The exact prompt of a conversation, with the model's own system message and examples where it has them.

        image_tokens: of each image of the messages, which have their tags.
        """
        own = [Message("system", self.system)] if self.system else []
        asked = [message for message in messages[:1] if message.role == "system"]
        conversation = [*(asked or own), *self.examples, *messages[len(asked) :]]
        return chat_prompt(
            conversation, self.template, self.tokenizer, parse_special=parse_special, image_tokens=image_tokens
        )
