"""Apple's MLX, through mlx-lm: its model; prompts are slmkit's, and tokens are chosen as everywhere (choosing.py).

Source: https://github.com/ml-explore/mlx-lm
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Turns
from slmkit.backends.base import Capabilities
from slmkit.errors import ModelError, UnsupportedModel
from slmkit.untrusted import brief, shown

if TYPE_CHECKING:
    from slmkit.backends.answering import Cancel, Tell
    from slmkit.engine.job import Task
    from slmkit.options import LoadOptions
    from slmkit.request import Message, Request
    from slmkit.sources.folder import FolderSource
    from slmkit.text.prompt import Prompt
    from slmkit.weights.telling import Notice, Progress

_ACCEPTED = ("ctx", "offline")
CAPABILITIES = Capabilities(
    token_ids=True, logprobs=True, logit_bias=True, processors=True, scorer=True, top_k=True, min_p=True,
    repetition_penalty=True, repetition_window=True, parse_special=True, ignore_eos=True, stop_ids=True, many=True,
    constraint=True, deadline=True, prompt_logprobs=True,
)  # fmt: skip
_PIECE = 256  # tokens of a prompt at a time; a cancelled one ends between two


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> MLXBackend:
    """A folder, a short name, or owner/name on the hub.   Raises OptionError, ModelNotFound, ModelError."""
    from slmkit.backends.folders import no_folder, refuse_packed
    from slmkit.backends.registry import take_only
    from slmkit.sources.folder import FolderSource
    from slmkit.weights.locate import locate

    take_only(options, _ACCEPTED, "mlx")
    refuse = partial(_refuse, model)
    found = locate(model, offline=bool(options.offline), progress=progress, notice=notice, refuse=refuse)
    if found.named is not None or not found.path.is_dir():
        raise no_folder("mlx", model)
    source = FolderSource(model, found.path)
    _refuse(model, source.raw_config)
    refuse_packed(source.tensors, "mlx-lm")
    return MLXBackend(f"mlx:{model}", source, options, notice)


class MLXBackend:
    """One model on MLX's own device; answers take turns. n answers of one request run as one batch."""

    capabilities = CAPABILITIES

    def __init__(self, name: str, source: FolderSource, options: LoadOptions, notice: Notice | None = None) -> None:
        from slmkit.backends.choosing import Asking
        from slmkit.backends.folders import ending_ids

        self.name, self._source = name, source
        config = source.raw_config
        context, most, changes = _context(config, options.ctx, notice)
        self.context = context
        self._model = _load(source, changes)
        vocab_size = int(config["vocab_size"])
        source.tokenizer.require_fit(vocab_size)
        self._asking = Asking(
            source.tokenizer, vocab_size, source.defaults, ending_ids(source.tensors, vocab_size), context, most
        )
        self._facts = {
            "name": name,
            "path": str(source.path),
            "runtime": _version(),
            "architecture": source.architecture,
            "weight_bytes": source.tensors.total_bytes,
            "context": context,
            "model_context": most,
            "vocabulary": vocab_size,
        }
        self._turns = Turns()

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        self._turns.require_open()
        self.capabilities.check(request, self.name)
        came = time.perf_counter()
        task = self._asking.task(request, self._ids(request), came)
        return self._turns.answer(lambda cancel, tell: self._run(task, cancel, tell))

    def describe(self) -> dict[str, Any]:
        """Facts about the loaded model, for people and programs."""
        return dict(self._facts)

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation: text and ids."""
        return self._source.prompt(messages, parse_special=parse_special)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the checkpoint puts before one."""
        return self._text_ids(text, parse_special=False)

    def close(self) -> None:
        """End what is running and give the memory back; later requests are refused."""
        self._turns.close()
        self._model = None

    def _ids(self, request: Request) -> tuple[int, ...]:
        if request.messages is not None:
            return self.render(request.messages, request.parse_special).ids
        if request.prompt is not None:
            return self._text_ids(request.prompt, parse_special=request.parse_special)
        return tuple(request.ids or ())

    def _text_ids(self, text: str, *, parse_special: bool) -> tuple[int, ...]:
        from slmkit.text.prompt import text_prompt

        return text_prompt(text, self._source.tokenizer, parse_special=parse_special).ids

    def _run(self, task: Task, cancel: Cancel, tell: Tell) -> None:
        """Answer one task, in its turn and its thread."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        from slmkit.backends.choosing import Choosing

        with mx.stream(mx.new_stream(mx.default_device())):  # a thread has none of its own
            choosing = Choosing(task, tell)
            cache = make_prompt_cache(self._model)
            rows: list[Any] = []
            for begin in range(0, len(task.ids), _PIECE):
                cancel.check()
                ids = mx.array([task.ids[begin : begin + _PIECE]] * choosing.n)
                logits = self._model(ids, cache=cache)
                mx.eval(logits)
                rows += _rows(logits[0]) if task.prompt_logprobs is not None else ()
            if task.prompt_logprobs is not None:
                choosing.read(rows)
            while True:
                cancel.check()
                chosen = choosing.take(_array(logits[:, -1]))
                if choosing.is_done:
                    return
                logits = self._model(mx.array(chosen)[:, None], cache=cache)


def _array(logits: Any) -> Any:
    """(n, vocab) as NumPy's float32."""
    import mlx.core as mx
    import numpy as np

    return np.array(logits.astype(mx.float32))


def _rows(logits: Any) -> Iterator[Any]:
    yield from _array(logits)


def _refuse(model: str, config: Mapping[str, Any]) -> None:
    """Refuse, by its config.json, what mlx-lm has no model for. Of a GGUF file the hub tells model_type alone."""
    from importlib.util import find_spec

    from slmkit.backends.folders import no_folder

    if set(config) == {"model_type"}:
        raise no_folder("mlx", model)
    kind = config.get("model_type")
    if config.get("model_file") is not None:
        raise UnsupportedModel(
            f"{model} asks for program code of its own, which mlx-lm would have to run and slmkit never lets it; leave "
            "the prefix out, if slmkit knows the model"
        )
    if not isinstance(kind, str) or not kind.isidentifier() or find_spec(f"mlx_lm.models.{kind}") is None:
        raise UnsupportedModel(
            f"{model} has model_type {shown(kind)}, which this mlx-lm does not have; run: pip install -U mlx-lm, or "
            "leave the prefix out"
        )


def _context(config: Mapping[str, Any], asked: int | None, notice: Notice | None) -> tuple[int, int, dict[str, Any]]:
    """The context to run with, the model's own, and what mlx-lm is told otherwise than config.json says.

    mlx-lm has LongRoPE's long factors alone. Up to the original context the short ones are right, so that one is the
    default, and the short factors are given in the place of the long ones.
    """
    from slmkit.backends.room import context_of

    most = int(config["max_position_embeddings"])
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if "short_factor" not in scaling:
        return context_of(asked, most), most, {}
    original = config.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings")
    original = min(int(original or most), most)
    context = original if asked is None else context_of(asked, most)
    if context > original:
        if notice:
            notice(
                f"in a context of {context} mlx-lm turns every prompt by LongRoPE's factors for long ones; load it "
                f"with ctx {original} for prompts and answers up to that length"
            )
        return context, most, {}
    if notice and context < most and asked is None:
        notice(f"context: {context} of {most} tokens, in which mlx-lm turns prompts as they need it; ctx changes it")
    short = {**scaling, "long_factor": scaling["short_factor"]}
    if "short_mscale" in scaling:
        short["long_mscale"] = scaling["short_mscale"]
    return context, most, {"rope_scaling": short}


def _load(source: FolderSource, changes: Mapping[str, Any]) -> Any:
    """mlx-lm's model, with every weight it has.   Raises ModelError."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    try:
        model, _ = load_model(source.path, model_config=dict(changes), trust_remote_code=False)
        # Angles are no weights, and would be computed later, by a thread that cannot: a stream is a thread's own.
        mx.eval([value for module in model.modules() for value in module.values() if isinstance(value, mx.array)])
    except Exception as error:
        raise ModelError(
            f"mlx-lm cannot load {source.path} ({type(error).__name__}: {brief(error)}); fetch it again, or leave "
            "the prefix out"
        ) from error
    return model


def _version() -> str:
    from slmkit.backends.registry import version_of

    return f"mlx-lm {version_of('mlx-lm')}, mlx {version_of('mlx')}"
