"""A source that people named: another one, with what its Modelfile says of its use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slmkit.options import Options
from slmkit.sources.base import Source
from slmkit.text.go_template import known_template
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.weights.named.store import Named
from slmkit.weights.ollama.parameters import parameters

if TYPE_CHECKING:
    from slmkit.weights.tensors import Shape, TensorSource


class NamedSource(Source):
    """base: whose files it has; what the name says goes before what they say."""

    def __init__(self, base: Source, named: Named) -> None:
        super().__init__(named.name, base.path)
        self.base, self.named = base, named
        self._options, ctx = parameters(named.parameters)
        self.origin, self.parent = base.origin, named.parent
        self.system = base.system if named.system is None else named.system or None
        self.examples = named.messages or base.examples
        self.ctx = ctx or base.ctx
        self.go_template = named.template or base.go_template
        self.adapters = {"default": named.adapter} if named.adapter else {}

    @property
    def raw_config(self) -> Mapping[str, Any]:
        return self.base.raw_config

    @property
    def tensors(self) -> TensorSource:
        return self.base.tensors

    @property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    @cached_property
    def template(self) -> ChatTemplate:
        if self.named.template is None:
            return self.base.template
        return ChatTemplate(known_template(self.named.template, self.name))

    @cached_property
    def defaults(self) -> Options:
        return self._options.over(self.base.defaults)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """With the control tokens among the texts to stop at: Ollama sees them as text, here they are none."""
        return self.base.stop_ids | control_stops(self._options.stop or (), self.tokenizer)

    @property
    def licence(self) -> str | None:
        return "\n\n".join(self.named.licences) or self.base.licence

    @property
    def architecture(self) -> str:
        return self.base.architecture

    @property
    def family(self) -> Any:
        return self.base.family

    @property
    def config(self) -> Any:
        return self.base.config

    @property
    def expected(self) -> Mapping[str, Shape]:
        return self.base.expected

    @property
    def num_crops(self) -> int | None:
        return self.base.num_crops

    @property
    def sees(self) -> bool:
        return self.base.sees


def control_stops(texts: tuple[str, ...], tokenizer: Tokenizer) -> frozenset[int]:
    """The ids of the control tokens among the texts."""
    ids = {tokenizer.piece_to_id(text) for text in texts}
    return frozenset(id for id in ids if id is not None and id in tokenizer.control_ids)
