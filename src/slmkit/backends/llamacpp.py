"""llama.cpp in this process, through the package xllamacpp: GGUF files.

slmkit writes the prompt (template, tokenizer) and sends ids; llama.cpp reads them, and draws by its own samplers, in
the order that slmkit has. What its samplers do otherwise is refused by name.
Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Turns
from slmkit.backends.base import Capabilities
from slmkit.errors import (
    ContextExceeded,
    DeadlineExceeded,
    ModelError,
    OptionError,
    RequestError,
    RuntimeFailure,
    SlmError,
    UnsupportedModel,
)
from slmkit.events import Chunk, Finished, Logprob, Started, Timing, TokenInfo, Usage
from slmkit.untrusted import brief

if TYPE_CHECKING:
    from slmkit.backends.answering import Cancel, Tell
    from slmkit.options import LoadOptions, Options
    from slmkit.request import Message, Request
    from slmkit.sources.gguf import GGUFSource
    from slmkit.text.prompt import Prompt
    from slmkit.weights.telling import Notice, Progress

_ACCEPTED = ("cache", "ctx", "offline", "threads")
CAPABILITIES = Capabilities(
    presence_penalty=False,  # both of llama.cpp's count the prompt's tokens too
    frequency_penalty=False,
    token_ids=True, logprobs=True, logit_bias=True, top_k=True, min_p=True, repetition_penalty=True,
    repetition_window=True, parse_special=True, many=True, deadline=True,
)  # fmt: skip
_SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]  # the order of engine/sampling.py
_RANDOM_SEED = 2**32 - 1  # which llama.cpp takes for "another one each time"
_UNTOLD = TokenInfo(-1, "")  # of a token that ends within a character llama.cpp says nothing
_CACHE_TYPES = {"f32": "GGML_TYPE_F32", "f16": "GGML_TYPE_F16", "q8": "GGML_TYPE_Q8_0"}


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> LlamaCppBackend:
    """A GGUF file, one of the hub, `ollama-store:NAME`, or a name that `slm create` gave to one of them.

    Raises OptionError, ModelNotFound, ModelError.
    """
    from slmkit.backends.registry import take_only
    from slmkit.sources.find import source_of
    from slmkit.weights.locate import locate

    take_only(options, _ACCEPTED, "llamacpp")
    refuse = partial(_refuse_folder, model)
    found = locate(model, offline=bool(options.offline), progress=progress, notice=notice, refuse=refuse)
    if found.path.is_dir():
        raise _no_gguf(model)
    source: Any = source_of(found)
    if source.adapters:
        raise UnsupportedModel(f"llamacpp: runs no adapters, and {model} has one; leave the prefix out")
    return LlamaCppBackend(f"llamacpp:{model}", source, found.path, options, notice)


class LlamaCppBackend:
    """One GGUF model; answers take turns, so that each is what it is alone."""

    capabilities = CAPABILITIES

    def __init__(
        self, name: str, source: GGUFSource, path: Path, options: LoadOptions, notice: Notice | None = None
    ) -> None:
        from slmkit.weights.gguf.file import open_gguf

        self.name, self._source = name, source
        files = open_gguf(path)  # which checks what llama.cpp would not
        self._metadata = files[0].metadata
        self.context, self._most = _context(self._metadata, options.ctx, source.ctx, notice)
        self._tokenizer, self._defaults, self._stop_ids = source.tokenizer, source.defaults, source.stop_ids
        self._server = _serve(path, self.context, options)
        self._facts = {
            "name": name,
            "path": str(path),
            "runtime": _version(),
            "architecture": self._metadata.get("general.architecture"),
            "weight_bytes": sum(file.identity.size for file in files),
            "context": self.context,
            "model_context": self._most,
        }
        self._turns = Turns()

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        from slmkit.backends.room import answer_limit

        self._turns.require_open()
        self.capabilities.check(request, self.name)
        ids = self._ids(request)
        options = request.options.over(self._defaults)
        limit = answer_limit(len(ids), request.options.max_tokens, options.max_tokens, self.context, self._most)
        job = _job(ids, options, limit, self.context)
        deadline = time.perf_counter() + request.deadline_s if request.deadline_s is not None else math.inf
        strips = self._tokenizer.strips_first_space and request.messages is not None
        return self._turns.answer(
            lambda cancel, tell: self._run(job, options, strips=strips, deadline=deadline, cancel=cancel, tell=tell)
        )

    def describe(self) -> dict[str, Any]:
        """Facts about the loaded model, for people and programs."""
        return dict(self._facts)

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation: text and ids."""
        return self._source.prompt(messages, parse_special=parse_special)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the file puts before one."""
        from slmkit.text.prompt import text_prompt

        return text_prompt(text, self._tokenizer).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids that begin one; control tokens have none.   Raises RequestError for ids that are none."""
        from slmkit.backends.native import check_ids

        check_ids(ids, self._tokenizer.vocab_size)
        return self._tokenizer.decode(ids)

    def close(self) -> None:
        """End what is running and give the memory back; later requests are refused."""
        self._turns.close()
        self._server = None

    def _ids(self, request: Request) -> tuple[int, ...]:
        from slmkit.backends.native import check_ids
        from slmkit.text.prompt import text_prompt

        if request.messages is not None:
            ids = self.render(request.messages, request.parse_special).ids
        elif request.prompt is not None:
            ids = text_prompt(request.prompt, self._tokenizer, parse_special=request.parse_special).ids
        else:
            ids = tuple(request.ids or ())
            check_ids(ids, self._tokenizer.vocab_size)
        if not ids:
            raise RequestError("the prompt is empty; give at least one token to continue")
        return ids

    def _run(
        self, job: Mapping[str, Any], options: Options, *, strips: bool, deadline: float, cancel: Cancel, tell: Tell
    ) -> None:
        """Answer one request, in its turn and its thread: its choices one after the other."""
        tell(Started(len(job["prompt"])))
        for index in range(options.n or 1):
            choice = _ChoiceOfAnswer(self, index, len(job["prompt"]), options, strips, deadline, cancel, tell)
            seed = job["seed"] if not index else (job["seed"] + index) % _RANDOM_SEED
            self._server.handle_completions({**job, "seed": seed}, choice.take)
            cancel.check()
            choice.finish()

    def token(self, entry: Mapping[str, Any], n_best: int | None) -> TokenInfo:
        """What llama.cpp says of a token, as ours.   n_best: alternatives; None: no log probabilities."""
        id, data, piece = int(entry["id"]), self._tokenizer.bytes_of, self._tokenizer.id_to_piece
        if n_best is None:
            return TokenInfo(id, piece(id) or "", data=data(id))
        others = [(int(other["id"]), float(other["logprob"])) for other in entry["top_logprobs"][:n_best]]
        top = tuple(Logprob(other, piece(other) or "", logprob, data(other)) for other, logprob in others)
        return TokenInfo(id, piece(id) or "", float(entry["logprob"]), top, data(id))

    def ends(self, token: TokenInfo) -> bool:
        """Whether the token ends answers of this model."""
        return token.id in self._stop_ids


class _ChoiceOfAnswer:
    """One choice as it comes from llama.cpp, whose calls return True to have no more of it."""

    def __init__(
        self,
        backend: LlamaCppBackend,
        index: int,
        n_prompt: int,
        options: Options,
        strips: bool,
        deadline: float,
        cancel: Cancel,
        tell: Tell,
    ) -> None:
        from slmkit.text.stops import StopMatcher

        self._backend, self._index, self._n_prompt, self._options = backend, index, n_prompt, options
        self._strips, self._deadline, self._cancel, self._tell = strips, deadline, cancel, tell
        self._stops = StopMatcher(options.stop or ())
        self._began, self._first = time.perf_counter(), 0.0
        self._n_tokens = self._n_cached = 0
        self._reason: str | None = None
        self._stop: str | None = None
        self._fault: BaseException | None = None

    def take(self, part: Mapping[str, Any]) -> bool:
        """The next part of the stream; whether it is the last one that is wanted."""
        try:
            self._take(part)
        except BaseException as error:  # it would be lost on its way through C++
            self._fault = error
        return self._fault is not None or self._reason is not None

    def finish(self) -> None:
        """Tell that the choice is complete.   Raises what went wrong."""
        if self._fault is not None:
            raise self._fault
        if self._reason is None:
            raise RuntimeFailure("llama.cpp ended the answer without a word; ask again")
        now = time.perf_counter()
        usage = Usage(self._n_prompt, self._n_tokens, self._n_cached)
        timing = Timing((self._first or now) - self._began, now - self._began)
        self._tell(Finished(self._index, self._reason, usage, timing, self._stop))

    def _take(self, part: Mapping[str, Any]) -> None:
        self._cancel.check()
        if "error" in part:
            raise _fault(part["error"])
        if time.perf_counter() > self._deadline:
            raise DeadlineExceeded(
                f"the deadline passed after {self._n_tokens} tokens of the answer, which is not complete; allow more "
                "time with deadline_s, or lower max_tokens"
            )
        if not part["choices"]:
            return
        self._first = self._first or time.perf_counter()
        choice, timings = part["choices"][0], part["timings"]
        entries = (choice.get("logprobs") or {}).get("content") or ()
        n_untold = int(timings["predicted_n"]) - self._n_tokens - len(entries)
        self._n_tokens, self._n_cached = int(timings["predicted_n"]), int(timings["cache_n"])
        tokens = [self._backend.token(entry, self._options.logprobs) for entry in entries]
        self._deliver(choice, (*[_UNTOLD] * n_untold, *tokens))

    def _deliver(self, choice: Mapping[str, Any], tokens: tuple[TokenInfo, ...]) -> None:
        ending = next((token for token in tokens if self._backend.ends(token)), None)
        text = self._stops.push(self._stripped(choice["text"]))
        if self._stops.matched is not None:
            self._reason, self._stop = "stop", self._stops.matched
        elif ending is not None:
            self._reason, self._stop = "stop", ending.text
        elif choice["finish_reason"] is not None:
            self._reason = choice["finish_reason"]
        if self._reason is not None and self._stops.matched is None:
            text += self._stops.flush()
        if text or tokens:
            self._tell(Chunk(text, self._index, tokens))

    def _stripped(self, text: str) -> str:
        """Without the space that only marks the beginning of an answer's first word."""
        if not text or not self._strips:
            return text
        self._strips = False
        return text.removeprefix(" ")


def _job(ids: Sequence[int], options: Options, limit: int, context: int) -> dict[str, Any]:
    """The request in llama.cpp's words, each of its own defaults said otherwise.   Raises OptionError."""
    seed = secrets.randbelow(_RANDOM_SEED) if options.seed is None else options.seed
    if seed >= _RANDOM_SEED:
        raise OptionError(f"seed is {seed}; llama.cpp takes a whole number from 0 to {_RANDOM_SEED - 1}")
    bias = (options.logit_bias or {}).items()
    return {
        "prompt": [*ids],
        "max_tokens": limit,
        "stream": True,
        "timings_per_token": True,
        "n_probs": max(options.logprobs or 0, 1),  # which also brings the tokens' ids
        "samplers": _SAMPLERS,
        "temperature": options.temperature or 0.0,
        "top_k": options.top_k or 0,
        "top_p": 1.0 if options.top_p is None else options.top_p,
        "min_p": options.min_p or 0.0,
        "repeat_penalty": options.repetition_penalty or 1.0,
        "repeat_last_n": options.repetition_window or context,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logit_bias": [[id, value if value > -math.inf else False] for id, value in bias],
        "seed": seed,
        "stop": [],
        "ignore_eos": False,
        "cache_prompt": True,
    }


def _refuse_folder(model: str, config: Mapping[str, Any]) -> None:
    """Refuse a folder of the hub before its weights are fetched; of a GGUF file the hub tells model_type alone."""
    if set(config) != {"model_type"}:
        raise _no_gguf(model)


def _no_gguf(model: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"llamacpp: runs GGUF files, and {model} is none; make one with `slm export gguf {model} FILE.gguf`, or give a "
        "repository or a name of Ollama's store that has one"
    )


def _context(
    metadata: Mapping[str, Any], asked: int | None, stored: int | None, notice: Notice | None
) -> tuple[int, int]:
    """The context to run with, and the model's own.   stored: what Ollama's store or a Modelfile asks for.

    llama.cpp turns all prompts by LongRoPE's long factors where its context is longer than the original one, so that
    one is the default: short prompts would have wrong answers otherwise (ggml-org/llama.cpp #8995).
    """
    from slmkit.backends.room import context_of

    family = metadata.get("general.architecture")
    most = metadata.get(f"{family}.context_length")
    if not isinstance(most, int) or most < 1:
        raise ModelError(f"the GGUF file has no {family}.context_length, the longest context; convert it again")
    original = min(int(metadata.get(f"{family}.rope.scaling.original_context_length") or most), most)
    context = min(stored or original, most) if asked is None else context_of(asked, most)
    if notice and context > original:
        notice(
            f"in a context of {context} llama.cpp turns every prompt by LongRoPE's factors for long ones; load it with "
            f"ctx {original} for prompts and answers up to that length"
        )
    elif notice and context < most and asked is None and stored is None:
        notice(f"context: {context} of {most} tokens, in which llama.cpp turns prompts as they need it; ctx changes it")
    return context, most


def _serve(path: Path, context: int, options: LoadOptions) -> Any:
    """llama.cpp with the model loaded. It listens on this machine too, which cannot be helped: nobody has the key.

    Raises ModelError.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel = context, 1
    params.verbosity, params.warmup, params.offline = -1, False, True
    params.api_keys, params.cors_origins, params.n_threads_http = [secrets.token_urlsafe(32)], "", 1
    params.ui = params.endpoint_slots = params.endpoint_props = False
    if options.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.cache not in (None, "auto"):
        params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, _CACHE_TYPES[options.cache])
    if (
        options.cache == "f32"
    ):  # whoever wants that wants exact sums: log probabilities of `tiny` were 0.006 off with it
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.endpoint_metrics = True
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"llama.cpp cannot load {path} with a context of {context} ({brief(error)}); it may be too large for this "
            "machine, or of an architecture that it does not know: lower ctx, or run: pip install -U xllamacpp"
        ) from None
    server.handle_metrics()  # answered by its loop, so that runs: one told to end before it begins would never end
    return server


def _version() -> str:
    import xllamacpp

    return f"llama.cpp {xllamacpp.BUILD_INFO['build_number']} (xllamacpp {xllamacpp.__version__})"


def _fault(error: Mapping[str, Any]) -> SlmError:
    """What llama.cpp refused or failed at, as ours."""
    text = brief(RuntimeError(str(error.get("message"))))
    if error.get("type") == "exceed_context_size_error":
        return ContextExceeded(f"llama.cpp says: {text}; shorten the prompt, or load the model with a larger ctx")
    if error.get("code") == 400:
        return RequestError(f"llama.cpp refuses the request ({text}); change it")
    return RuntimeFailure(f"llama.cpp failed ({text}); ask again")
