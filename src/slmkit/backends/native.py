"""The engine of this project as a backend: a checkpoint, its tokenizer, the kernels and the engine put together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.backends.adapters import adapted, adapter_facts, chosen, open_adapters
from slmkit.backends.base import Capabilities, Stats
from slmkit.backends.images import ImagePlan, ImageRoom, plan_images
from slmkit.backends.prompts import check_prompts, n_shared, open_prompts
from slmkit.engine.cache import Cache, default_kind
from slmkit.engine.constrain import Guide, Vocabulary
from slmkit.engine.job import Task
from slmkit.engine.memory import CachePlan, ExpertBytes, layout_of, plan_experts, usable_bytes
from slmkit.engine.prompts import Prompts
from slmkit.engine.residency import bound_experts
from slmkit.engine.scheduler import STEP_TOKENS
from slmkit.engine.step import Engine
from slmkit.engine.worker import MOST_JOBS, Events, Worker
from slmkit.errors import ContextExceeded, NotEnoughMemory, OptionError, RequestError
from slmkit.ops.choose import choose
from slmkit.ops.matrix import Matrix
from slmkit.ops.segments import BLOCK
from slmkit.options import LoadOptions, Options
from slmkit.request import Request
from slmkit.sources.base import Source
from slmkit.sources.find import open_source
from slmkit.text.prompt import Prompt, text_prompt
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import shown
from slmkit.vision.fetch import Fetching
from slmkit.weights.load import Weights, experts_among, plan_weights, take_weights
from slmkit.weights.telling import Notice, Progress

if TYPE_CHECKING:
    from slmkit.request import Message


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, before any thread is started for it.   model, cache: None once it was closed.

    image_room: of a model that sees, within a bound of memory.
    """

    source: Source
    config: Any
    model: Any
    cache: Cache | None
    plan: CachePlan
    tokenizer: Tokenizer
    defaults: Options
    stop_ids: frozenset[int]
    facts: dict[str, Any]
    prompts: Prompts | None = None
    image_room: ImageRoom | None = None


class NativeBackend:
    """One model on our own engine."""

    capabilities = Capabilities(**dict.fromkeys(Capabilities.__dataclass_fields__, True))

    def __init__(
        self,
        name: str,
        options: LoadOptions | None = None,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> None:
        self.name = name
        options = options or LoadOptions()
        self.loaded = load(name, options, progress, notice)
        self.capabilities = replace(self.capabilities, images=self.loaded.source.sees)
        self._fetching = Fetching(private=bool(options.private_urls), offline=bool(options.offline))
        self.context = self.loaded.plan.context
        assert self.loaded.cache is not None
        engine = Engine(self.loaded.model, self.loaded.cache, prompts=self.loaded.prompts)
        if room := self.loaded.image_room:
            engine.encoder.most_bytes = room.kept
        self._counts = engine.counts
        self._worker = Worker(engine, options.queue or MOST_JOBS)

    def describe(self) -> dict[str, Any]:
        """Facts about the loaded model, for people and programs."""
        return dict(self.loaded.facts)

    def generate(self, request: Request) -> Events:
        """Events of one request, which starts now. Closing the iterator cancels it."""
        self._worker.require_room()  # before seconds are spent on the prompt
        return self._worker.submit(self.task(request))

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation: text and ids.   Raises ContextExceeded for one that cannot fit."""
        self._refuse_hopeless(Request(messages=tuple(messages)))
        return self._prompt(messages, parse_special)[0]

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the checkpoint puts before one."""
        return text_prompt(text, self.loaded.tokenizer).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids that begin one; control tokens have none.   Raises RequestError for ids that are none."""
        check_ids(ids, self.loaded.config.vocab_size)
        return self.loaded.tokenizer.decode(ids)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), hidden): the mean of the last hidden states, after the final norm, over each text's tokens.

        Raises RequestError for a text without tokens, ContextExceeded for one that is too long.
        """
        vectors = self._worker.embed([self._embed_task(text) for text in texts])
        return np.array(vectors, np.float32).reshape(len(texts), self.loaded.config.hidden_size)

    def _embed_task(self, text: str) -> Task:
        if not isinstance(text, str):
            raise RequestError(f"a text to embed is text, not {type(text).__name__}")
        request = Request(prompt=text)
        ids, _, _ = self._ids(request)
        if len(ids) > self.context:
            raise ContextExceeded(
                f"the text has {len(ids)} tokens, over the context of {self.context}; shorten it or cut it in parts"
                + self._larger_context()
            )
        adapter = chosen(None, self.loaded.facts["adapters"])
        return Task(ids, self.loaded.defaults, 1, frozenset(), self.loaded.tokenizer, adapter=adapter, embeds=True)

    def stats(self) -> Stats:
        """What the engine does now, and has done."""
        counts, cache, n_jobs = self._counts, self.loaded.cache, self._worker.n_jobs
        running = min(counts.running, n_jobs)
        return Stats(
            running=running,
            waiting=n_jobs - running,
            blocks_used=cache.n_blocks - cache.n_free if cache else 0,
            blocks=cache.n_blocks if cache else 0,
            prompt_tokens=counts.prompt_tokens,
            reused_tokens=counts.reused_tokens,
            generated_tokens=counts.generated_tokens,
            preemptions=counts.preemptions,
            steps=counts.steps,
        )

    def close(self) -> None:
        """End what is running and give the memory back, also while somebody holds this; later requests are refused."""
        self._worker.close()
        self.loaded = replace(self.loaded, model=None, cache=None, prompts=None)

    def task(self, request: Request) -> Task:
        """The request after template, tokenizer and defaults.   Raises RequestError where it cannot be run."""
        came = time.perf_counter()
        ids, plan, prompt = self._ids(request)
        options = self._options(request)
        n_images = sum(length for _, length, _ in prompt.images)
        return Task(
            ids=ids,
            options=options,
            limit=self._limit(len(ids), request.options.max_tokens, options, n_images),
            stop_ids=self._stop_ids(options),
            tokenizer=self.loaded.tokenizer,
            continues=request.messages is None,
            processors=request.processors,
            scorer=request.scorer,
            adapter=chosen(options.adapter, self.loaded.facts["adapters"]),
            images=plan.places(prompt, self.loaded.image_room) if plan else (),
            n_shared=n_shared(request, ids, self.render) if self.loaded.prompts else 0,
            guide=self._guide(request, options),
            prompt_logprobs=request.prompt_logprobs,
            deadline=came + request.deadline_s if request.deadline_s is not None else None,
        )

    def _guide(self, request: Request, options: Options) -> Guide | None:
        if request.constraint is None:
            return None
        if (options.beams or 1) > 1:
            raise OptionError(f"{options.beams} beams and a constraint do not go together; leave out one of the two")
        return self._vocabulary.guide(request.constraint, continues=request.messages is None)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.loaded.tokenizer, self.loaded.config.vocab_size)

    def _ids(self, request: Request) -> tuple[tuple[int, ...], ImagePlan | None, Prompt]:
        self._refuse_hopeless(request)
        plan = None
        if request.messages is not None:
            prompt, plan = self._prompt(request.messages, request.parse_special, request.options.num_crops)
        elif request.prompt is not None:
            prompt = text_prompt(request.prompt, self.loaded.tokenizer, parse_special=request.parse_special)
        else:
            prompt = Prompt(tuple(request.ids or ()), "", ())
        ids = prompt.ids
        if not ids:
            raise RequestError("the prompt is empty; give at least one token to continue")
        if request.ids is not None:  # ids of images come from _prompt alone
            check_ids(ids, self.loaded.config.vocab_size)
        return ids, plan, prompt

    def _prompt(
        self, messages: Sequence[Message], parse_special: bool, num_crops: int | None = None
    ) -> tuple[Prompt, ImagePlan | None]:
        source = self.loaded.source
        if not source.sees:
            return source.prompt(messages, parse_special=parse_special), None
        plan = plan_images(messages, source, num_crops, self._fetching)
        prompt = source.prompt(plan.messages, parse_special=parse_special, image_tokens=plan.tokens)
        return prompt, plan if plan.pictures else None

    def _refuse_hopeless(self, request: Request) -> None:
        """Refuse a text that cannot fit whatever its tokens, before seconds are spent on finding them."""
        texts = [request.prompt or "", *(message.content for message in request.messages or ())]
        least = sum(self.loaded.tokenizer.least_tokens(text) for text in texts)
        if least > self.context:
            raise ContextExceeded(
                f"the prompt has at least {least} tokens, over the context of {self.context}; shorten the prompt"
                + self._larger_context()
            )

    def _options(self, request: Request) -> Options:
        asked = request.options
        options = asked.over(self.loaded.defaults)
        if (options.beams or 1) > 1:
            if asked.temperature:
                raise OptionError(f"{options.beams} beams take the likeliest lines; leave out temperature or make it 0")
            if (options.n or 1) > (options.beams or 1):
                raise OptionError(f"n is {options.n}, more than the {options.beams} beams; ask for as many beams")
            options = replace(options, temperature=0.0)
        last = self.loaded.config.vocab_size - 1
        for name, ids in (("logit_bias", options.logit_bias or {}), ("stop_ids", options.stop_ids or ())):
            for id in ids:
                if id > last:
                    raise OptionError(f"{name} names token {id}; this model's ids end at {last}")
        return options

    def _limit(self, n_prompt: int, asked: int | None, options: Options, n_images: int = 0) -> int:
        """Most tokens to generate.   Raises ContextExceeded, with both numbers, for more than fit.

        n_images: tokens of the prompt that stand for images.
        asked: the caller's own max_tokens. A checkpoint's default is no promise: it gives way to the context.
        """
        room = self.context - n_prompt
        images = f", {n_images} of them of images" if n_images else ""
        shorten = "give fewer images or lower num_crops" if n_images else "shorten the prompt"
        if room < 1:
            raise ContextExceeded(
                f"the prompt has {n_prompt} tokens{images}, which leaves no room for an answer in a context of "
                f"{self.context}; {shorten}" + self._larger_context()
            )
        if (asked or 1) > room:
            raise ContextExceeded(
                f"the prompt has {n_prompt} tokens{images} and max_tokens is {asked}, together over the context of "
                f"{self.context}; {shorten} or lower max_tokens" + self._larger_context()
            )
        limit = asked or min(room, options.max_tokens or room)
        layout = layout_of(self.loaded.config)
        blocks = layout.blocks_of(n_prompt + limit, STEP_TOKENS) * (options.beams or 1)
        if (options.beams or 1) > 1 and blocks > self.loaded.plan.n_blocks:
            raise NotEnoughMemory(
                f"{options.beams} beams of {n_prompt + limit} tokens need {blocks * BLOCK // len(layout.strands)} "
                f"tokens of cache, and {self.loaded.plan.n_blocks * BLOCK // len(layout.strands)} fit in memory; lower "
                "beams or max_tokens"
            )
        return limit

    def _larger_context(self) -> str:
        most = self.loaded.config.max_position_embeddings
        return f", or load the model with a larger ctx (up to {most})" if self.context < most else ""

    def _stop_ids(self, options: Options) -> frozenset[int]:
        own = frozenset() if options.ignore_eos else self.loaded.stop_ids
        return own | frozenset(options.stop_ids or ())


def load(name: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None) -> Loaded:
    """Find, check and open a model; every fault that shows in headers is found before any of its memory is taken."""
    if options.device not in (None, "cpu"):
        raise OptionError(
            f"device is {shown(options.device)}, and slmkit's own engine runs on the processor; leave it out, or name "
            "a runtime that has it before the model (`slm backends` lists them)"
        )
    check_prompts(options)
    source = open_source(name, offline=bool(options.offline), progress=progress, notice=notice)
    config, tokenizer = source.config, source.tokenizer
    tokenizer.require_fit(config.vocab_size)
    defaults, stops = source.defaults, source.stop_ids
    if source.adapters:
        options = replace(options, adapters={**source.adapters, **(options.adapters or {})})
    planned = plan_weights(source.tensors, source.expected, options.quantize)
    adapters = open_adapters(options, source, progress, notice)
    n_bytes = planned.n_bytes + sum(adapter.n_bytes for adapter in adapters.values())
    kind = default_kind(planned.quantization) if options.cache in (None, "auto") else options.cache
    layout = layout_of(config)
    most = config.max_position_embeddings
    told = min(source.ctx, most) if source.ctx else None  # Ollama, too, cuts what its store asks for
    sizes = ExpertBytes(n_bytes, planned.expert_bytes, planned.expert_bytes // config.num_hidden_layers)
    free, encoding = usable_bytes(options.memory), ImageRoom.least(source) if options.memory else 0
    plan, expert_budget = plan_experts(most, options.ctx or told, layout, kind, sizes, free, encoding)
    ops = choose(options.kernels or "auto", options.threads)
    weights = take_weights(planned, ops=ops, progress=progress)
    model = source.family.MODEL(config, weights, adapted(ops, adapters, weights, config))
    experts_told = bound_experts(model, expert_budget) if expert_budget < planned.expert_bytes else ""
    facts = {
        "name": name,
        "path": str(source.path),
        "architecture": source.architecture,
        "parameters": weights.parameters,
        "quantization": weights.quantization,
        "weight_bytes": weights.nbytes,
        **_cost_of_a_token(weights, config),
        "kernels": ops.description,
        "kernel_set": ops.NAME,
        **({"resident_expert_bytes": expert_budget} if planned.expert_bytes else {}),
        "context": plan.context,
        "model_context": most,
        "cache_bytes_per_token": plan.bytes_per_token,
        "vocabulary": config.vocab_size,
        "adapters": adapter_facts(adapters),
    }
    for line in (plan.note if plan.context < most else "", experts_told, getattr(ops, "hint", "")):
        if line and notice:
            notice(line)
    cache = Cache(plan.n_blocks, layout.layers, layout.kv_heads, layout.head_dim, kind, layout.strands)
    facts["cache_bytes"] = cache.data.nbytes
    left = free - n_bytes - cache.data.nbytes
    return Loaded(
        source=source,
        config=config,
        model=model,
        cache=cache,
        plan=plan,
        tokenizer=tokenizer,
        defaults=defaults,
        stop_ids=stops,
        facts=facts,
        prompts=open_prompts(options, source, weights, ops.NAME, kind, cache),
        image_room=ImageRoom.of(options.memory, left) if options.memory and encoding else None,
    )


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise RequestError for an id that is none of the model's."""
    for id in ids:
        if not 0 <= id < vocab_size:
            raise RequestError(f"token id {shown(id)} is none of this model's: 0 to {vocab_size - 1}")


def _cost_of_a_token(weights: Weights, config: Any) -> dict[str, int]:
    """Weight bytes that a decoded token reads; its multiply-adds in the layers, the head, and for each key it sees."""
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    matrices = {name: m for name, m in weights.items() if isinstance(m, Matrix)}
    sparse = set(experts_among(matrices))
    layers = [m for name, m in matrices.items() if name.startswith("model.layers.") and name not in sparse]
    experts = [matrices[name] for name in sparse]
    share = config.num_experts_per_tok / config.num_local_experts if experts else 0
    return {
        "token_bytes": sum(m.nbytes for m in layers)
        + matrices[head].nbytes
        + int(share * sum(m.nbytes for m in experts)),
        "layer_macs": sum(m.n * m.k for m in layers) + int(share * sum(m.n * m.k for m in experts)),
        "head_macs": matrices[head].n * matrices[head].k,
        "attention_macs": 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim,
    }
