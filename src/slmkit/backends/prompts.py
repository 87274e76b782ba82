"""Where a model keeps what it read of prompts, by the options of loading, and what of a prompt will come again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slmkit.engine.cache import Cache
from slmkit.engine.prompt_file import NUMERICS
from slmkit.engine.prompts import FilePrompts, Prompts, check_place, check_prompt_file, prompt_path
from slmkit.engine.stored_prompts import LEAST_TOKENS, StoredPrompts
from slmkit.errors import OptionError, SlmError
from slmkit.ops import reference
from slmkit.ops.matrix import Matrix
from slmkit.options import LoadOptions
from slmkit.request import Message, Request
from slmkit.sources.base import Source
from slmkit.weights.load import Weights
from slmkit.weights.model_key import ModelKey

if TYPE_CHECKING:
    from slmkit.text.prompt import Prompt

STORE_MB = 4000  # unless the caller says otherwise


def check_prompts(options: LoadOptions) -> None:
    """Raise OptionError or StorageError for a file that could not be used, before a model is loaded for it."""
    if options.prompt_cache is not None:
        if options.adapters:
            raise OptionError("prompt_cache keeps what a model reads without adapters; leave out one of the two")
        check_place(prompt_path(options.prompt_cache))


def open_prompts(
    options: LoadOptions, source: Source, weights: Weights, kernels: str, kind: str, cache: Cache
) -> Prompts | None:
    """The file that was asked for, checked against this model; else the store, unless it is to have no bytes.

    kernels: the set's name.   kind: of the cache's numbers.   Raises OptionError.
    """
    key = model_key(source, weights, kernels, kind, cache)
    model = f"{source.name}, {weights.quantization}, cache {kind}"
    if kernels == reference.NAME:
        model += ", reference kernels"
    if options.prompt_cache is not None:
        path = prompt_path(options.prompt_cache)
        check_prompt_file(path, key, model)
        return FilePrompts(path, key, model, cache)
    most = STORE_MB if options.prompt_store_mb is None else options.prompt_store_mb
    return StoredPrompts(key, model, cache, most * 1_000_000) if most else None


def model_key(source: Source, weights: Weights, kernels: str, kind: str, cache: Cache) -> ModelKey:
    """All that the numbers in this cache follow from: native kernel sets give the same bits, NumPy others."""
    formats = [[name, w.format, w.n, w.k] if isinstance(w, Matrix) else [name] for name, w in weights.items()]
    facts: list[Any] = [
        NUMERICS, kernels == reference.NAME, kind, cache.data.shape[1:], cache.n_strands, source.raw_config, formats
    ]  # fmt: skip
    return ModelKey(weights.files, facts)


def n_shared(request: Request, ids: Sequence[int], render: Callable[[Sequence[Message], bool], Prompt]) -> int:
    """How many leading ids every conversation with this system message begins with; 0 where it is short anyway."""
    if request.messages is None or len(ids) < LEAST_TOKENS:
        return 0
    system = request.messages[:1] if request.messages[0].role == "system" else ()
    try:
        lines = [render((*system, Message("user", text)), request.parse_special).ids for text in ("a", "Z")]
    except SlmError:  # a template that wants more than one question
        return 0
    same = (len(set(column)) == 1 for column in zip(ids, *lines, strict=False))
    return next((i for i, is_same in enumerate(same) if not is_same), 0)
