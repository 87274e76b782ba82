"""ONNX Runtime GenAI: a folder with a genai_config.json, its own loop over tokens, its search and its image processor.

Prompts and answers are text here (folder_text.py): its own stream of text begins every answer with the space that
marks a word, and has no bytes of a token. Images go through its processor, which reads the text between them too.
Source: https://onnxruntime.ai/docs/genai/api/python.html
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Turns
from slmkit.backends.base import Capabilities
from slmkit.backends.onnx_folder import OnnxFolder
from slmkit.backends.onnx_runtime import NO_MEMORY, device_of, genai, opened
from slmkit.backends.text_at_hand import TextAtHand
from slmkit.errors import NotEnoughMemory, OptionError, RequestError, RuntimeFailure, UnsupportedFeature
from slmkit.untrusted import brief, shown

if TYPE_CHECKING:
    from slmkit.backends.answering import Cancel, Tell
    from slmkit.backends.folder_text import FolderText, GrowingAnswer
    from slmkit.engine.constrain import Guide, Vocabulary
    from slmkit.options import LoadOptions, Options
    from slmkit.request import Request
    from slmkit.weights.telling import Notice, Progress

CAPABILITIES = Capabilities(
    token_ids=True, logprobs=True, logit_bias=True, processors=True, top_k=True, repetition_penalty=True,
    repetition_window=True, parse_special=True, stop_ids=True, images=True, constraint=True, deadline=True,
)  # fmt: skip
MOST_SEED = 2**31 - 1  # its random_seed is an int of 32 bits, and -1 is none
_ACCEPTED = ("ctx", "threads", "device", "offline", "private_urls")


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OnnxBackend:
    """A folder.   Raises OptionError, ModelNotFound, ModelError, MissingDependency."""
    from slmkit.backends.registry import take_only

    take_only(options, _ACCEPTED, "onnx")
    return OnnxBackend(f"onnx:{model}", OnnxFolder.open(model), options, genai(), notice)


class OnnxBackend(TextAtHand):
    """One model; its answers take turns."""

    def __init__(self, name: str, folder: OnnxFolder, options: LoadOptions, og: Any, notice: Notice | None) -> None:
        from slmkit.backends.folder_text import FolderText
        from slmkit.vision.fetch import Fetching

        self.name, self._folder, self._og = name, folder, og
        self.context, note = folder.fitting_context(options.ctx, options.device)
        self._text: FolderText = FolderText(folder.path, folder.family, folder.vocab_size)
        self._device = device_of(options.device)
        folder.require_reader(options.device)
        self._model: Any = opened(og, folder, self._device, options)
        self.capabilities = replace(CAPABILITIES, images=folder.sees)
        self._fetching = Fetching(private=bool(options.private_urls), offline=bool(options.offline))
        self._turns = Turns()
        weakref.finalize(self, self._turns.close)  # at the latest when Python ends, which its threads would not survive
        self._facts = {
            "name": name,
            "path": str(folder.path),
            "runtime": f"onnxruntime-genai {og.__version__}",
            "architecture": str(self._model.type),
            "device": str(self._model.device_type),
            "providers": [options.device] if options.device else list(folder.providers) or ["cpu"],
            "context": self.context,
            "model_context": folder.context,
            "vocabulary": folder.vocab_size,
        }
        if note and notice:
            notice(note)

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request between two tokens."""
        began = time.perf_counter()
        self._turns.require_open()
        self.capabilities.check(request, self.name)
        self._refuse(request)
        has_images = any(message.images for message in request.messages or ())
        given = self._seen(request) if has_images else self._text.prompt(request).ids
        if not isinstance(given, _Seen):
            self._limit(len(given), request)  # which shows at once
        guide = self._guide(request)
        return self._turns.answer(lambda cancel, tell: self._answer(request, given, guide, began, cancel, tell))

    def close(self) -> None:
        """End what is running and give the model back; later requests are refused."""
        self._turns.close()
        self._model = None
        self.__dict__.pop("_processor", None)

    def _refuse(self, request: Request) -> None:
        o = request.options
        if o.num_crops is not None:
            raise UnsupportedFeature(
                f"{self.name} cuts images as its processor_config.json says and does not have num_crops; leave it out"
            )
        if (o.seed or 0) > MOST_SEED:
            raise OptionError(f"seed is {o.seed}; ONNX Runtime GenAI takes 0 to {MOST_SEED}")
        self._text.require_ids("logit_bias", o.logit_bias or {})
        self._text.require_ids("stop_ids", o.stop_ids or ())

    def _limit(self, n_prompt: int, request: Request) -> int:
        from slmkit.backends.room import answer_limit

        return answer_limit(n_prompt, request.options.max_tokens, None, self.context, self._folder.context)

    def _seen(self, request: Request) -> _Seen:
        """The images of a conversation, opened with distrust, and its text, where what is typed is no control token."""
        from slmkit.text.image_tags import tagged
        from slmkit.vision.picture import open_picture

        controls_in = self._text.tokenizer.controls_in
        messages, images = tagged(request.messages or ())
        for message in messages:
            if not request.parse_special and (controls := controls_in(message.content)):
                raise RequestError(
                    f"a message has {shown(controls[0])} in it, which the image processor of ONNX Runtime GenAI reads "
                    "as a control token; remove it, or say with parse_special that it may act as one"
                )
        pieces = self._text.template.render(messages, controls_in)
        files = [open_picture(image, self._fetching).as_png() for image in images]
        return _Seen("".join(piece.text for piece in pieces), files)

    def _answer(
        self,
        request: Request,
        given: Sequence[int] | _Seen,
        guide: Guide | None,
        began: float,
        cancel: Cancel,
        tell: Tell,
    ) -> None:
        """Answer one request, in its turn and its thread."""
        from slmkit.backends.folder_text import GrowingAnswer
        from slmkit.events import Started

        with _told(self.name):
            inputs = self._processed(given) if isinstance(given, _Seen) else None
            ids = _ids_of(inputs) if inputs is not None else [*given]  # type: ignore[misc]
            limit = self._limit(len(ids), request)
            stop_ids = self._folder.stop_ids | {*(request.options.stop_ids or ())}
            shaping = _Shaping(request, ids, self._folder.search, stop_ids, guide)
            generator = self._generator(request, len(ids) + limit, shaping)
            tell(Started(len(ids)))
            answer = GrowingAnswer(self._text.tokenizer, request, stop_ids, len(ids), limit, began)
            if inputs is not None:
                generator.set_inputs(inputs)
            else:
                generator.append_tokens(_int32(ids))
            while not answer.reason:
                cancel.check()
                answer.require_time()
                tell(self._next(generator, answer, shaping))
        tell(answer.finished())

    def _next(self, generator: Any, answer: GrowingAnswer, shaping: _Shaping) -> Any:
        """The chunk of the next token."""
        if shaping.is_complete:  # which shows only now
            return answer.end("stop")
        if generator.is_done():  # by a rule of its own folder
            return answer.end("length")
        logits = generator.get_logits()[0, -1] if shaping.reads else None
        own = logits.copy() if logits is not None and shaping.tells else None
        if logits is not None and shaping.writes:
            generator.set_logits(shaping.shaped(logits, answer.ids)[None, None])
        generator.generate_next_token()
        id = int(generator.get_next_tokens()[0])
        shaping.take(id)
        return answer.take(id, own, is_complete=shaping.is_complete)

    def _guide(self, request: Request) -> Guide | None:
        """Constraints are held to as everywhere: its own guidance reads fewer grammars, and some of them loosely."""
        if request.constraint is None:
            return None
        return self._vocabulary.guide(request.constraint, continues=request.messages is None)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        from slmkit.engine.constrain import Vocabulary

        return Vocabulary(self._text.tokenizer, self._folder.vocab_size)

    def _generator(self, request: Request, max_length: int, shaping: _Shaping) -> Any:
        params = self._og.GeneratorParams(self._model)
        found = search_options(request.options, self._folder.vocab_size)
        if shaping.writes:
            found["repetition_penalty"] = 1.0  # which was applied with the others, in our order
        params.set_search_options(**found, max_length=max_length, num_beams=1, num_return_sequences=1, batch_size=1)
        return self._og.Generator(self._model, params)

    @cached_property
    def _processor(self) -> Any:
        return self._model.create_multimodal_processor()

    def _processed(self, seen: _Seen) -> Any:
        return self._processor(seen.text, images=self._og.Images.open_bytes(*seen.files))


class _Seen:
    """A conversation with images.   files: as PNG, in the order of their tags."""

    def __init__(self, text: str, files: list[bytes]) -> None:
        self.text, self.files = text, files


class _Shaping:
    """What is done with the model's logits before its search chooses of them.

    reads: whether they are looked at at all, which costs a copy.   writes: whether they are changed by slmkit, for what
    its search does not have.   tells: whether their log probabilities are reported.
    """

    def __init__(
        self,
        request: Request,
        prompt: Sequence[int],
        search: Mapping[str, Any],
        stop_ids: Collection[int],
        guide: Guide | None,
    ) -> None:
        """search: the folder's own options."""
        o = request.options
        self._stop_ids, self._guide = stop_ids, guide
        self._prompt, self._processors = prompt, request.processors
        own = search.get("repetition_penalty", 1.0)
        self._options = replace(o, repetition_penalty=own if o.repetition_penalty is None else o.repetition_penalty)
        self.writes = bool(
            guide
            or o.logit_bias
            or request.processors
            or o.presence_penalty
            or o.frequency_penalty
            or (o.repetition_window and self._options.repetition_penalty != 1.0)
        )
        self.tells = o.logprobs is not None
        self.reads = self.writes or self.tells

    def shaped(self, logits: Any, answer: Sequence[int]) -> Any:
        """A new row, as our own engine makes it (engine/sampling.py)."""
        from slmkit.engine.sampling import shape_logits

        ids = [*self._prompt, *answer]
        shaped = shape_logits(logits.copy(), ids, len(self._prompt), self._options, self._processors)
        return self._guide.masked(shaped, self._stop_ids) if self._guide else shaped

    def take(self, id: int) -> None:
        """Go on after a token."""
        if self._guide and id not in self._stop_ids:
            self._guide.take(id)

    @property
    def is_complete(self) -> bool:
        """Whether the answer matches its constraint, and nothing could be added."""
        return self._guide is not None and self._guide.is_complete


def search_options(options: Options, vocab_size: int) -> dict[str, Any]:
    """Ours in the words of its search; what is not set is left to the folder's genai_config.json."""
    found: dict[str, Any] = {}
    if options.temperature == 0 or options.top_p == 0:
        found["do_sample"] = False  # the likeliest token, which alone is in a top_p of 0
    elif options.temperature is not None:
        found |= {"do_sample": True, "temperature": options.temperature}
    if options.top_k is not None:
        found["top_k"] = min(options.top_k, vocab_size)  # beyond which it reads what is not there
    if options.top_p:
        found["top_p"] = options.top_p
    if options.repetition_penalty is not None:
        found["repetition_penalty"] = options.repetition_penalty
    if options.seed is not None:
        found["random_seed"] = options.seed
    return found


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what its calls raise while they answer into one sentence."""
    try:
        yield
    except RuntimeError as error:
        text = brief(error)
        if "ImageDecoder" in text or "image tags" in text:
            raise RequestError(f"ONNX Runtime GenAI cannot read the images ({text}); save them anew") from None
        if any(sign in text for sign in NO_MEMORY):
            raise NotEnoughMemory(
                f"ONNX Runtime GenAI found no memory for this answer ({text}); lower max_tokens or ctx, for which it "
                "takes memory beforehand"
            ) from None
        raise RuntimeFailure(f"ONNX Runtime GenAI failed in {name} ({text}); try a smaller request") from error


def _ids_of(inputs: Any) -> list[int]:
    return [int(id) for id in inputs["input_ids"].as_numpy().reshape(-1)]


def _int32(ids: Sequence[int]) -> Any:
    import numpy as np

    return np.array(ids, np.int32)
