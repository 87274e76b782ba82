"""The text of a model in a folder that another runtime runs: its prompts as ids, and its answers from ids.

The runtime is given ids and gives ids. So typed text never becomes a control token, a prompt is the same whoever runs
the model, and the bytes of each token are known.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.job import token_info
from slmkit.engine.sampling import log_softmax
from slmkit.errors import DeadlineExceeded, OptionError, RequestError
from slmkit.events import Chunk, Finished, Timing, Usage
from slmkit.text.detokenize import Detokenizer
from slmkit.text.prompt import Prompt, chat_prompt, text_prompt
from slmkit.text.stops import StopMatcher
from slmkit.text.template import ChatTemplate
from slmkit.text.tokenizer import Tokenizer
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from slmkit.request import Message, Request


class FolderText:
    """The tokenizer and the template that lie in a folder.

    family: config.json's model_type, for folders without a template.   vocab_size: of the model's logits.
    Raises TokenizerError.
    """

    def __init__(self, folder: Path, family: str, vocab_size: int) -> None:
        self._folder, self._family, self._vocab_size = folder, family, vocab_size
        self.tokenizer = Tokenizer.from_folder(folder)
        self.tokenizer.require_fit(vocab_size)

    @cached_property
    def template(self) -> ChatTemplate:
        """Raises TemplateError."""
        return ChatTemplate.from_folder(self._folder, self._family)

    def prompt(self, request: Request) -> Prompt:
        """The prompt of a request without images.   Raises RequestError."""
        if request.messages is not None:
            prompt = self.render(request.messages, request.parse_special)
        elif request.prompt is not None:
            prompt = text_prompt(request.prompt, self.tokenizer, parse_special=request.parse_special)
        else:
            self.require_ids("ids", request.ids or ())
            prompt = Prompt(tuple(request.ids or ()), "", ())
        if not prompt.ids:
            raise RequestError("the prompt is empty; give at least one token to continue")
        return prompt

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation without images."""
        return chat_prompt(messages, self.template, self.tokenizer, parse_special=parse_special)

    def require_ids(self, name: str, ids: Collection[int]) -> None:
        """Raise OptionError for an id that is none of the model's.   name: what has it."""
        for id in ids:
            if not 0 <= id < self._vocab_size:
                raise OptionError(f"{name} has the token id {shown(id)}; this model's are 0 to {self._vocab_size - 1}")


class GrowingAnswer:
    """One answer of a runtime that chooses its tokens by itself: what each of them adds, and where it ends.

    stop_ids: every id that ends it.   limit: most tokens.   began: when the request came, by perf_counter.
    reason: Finished's; "" while it goes on.
    """

    def __init__(
        self, tokenizer: Tokenizer, request: Request, stop_ids: Collection[int], n_prompt: int, limit: int, began: float
    ) -> None:
        self._tokenizer, self._request = tokenizer, request
        self._stop_ids, self._n_prompt, self._limit, self._began = stop_ids, n_prompt, limit, began
        self._detokenizer = Detokenizer(tokenizer, continues=request.messages is None)
        self._stops = StopMatcher(request.options.stop or ())
        self._stop: str | None = None
        self._first_token = 0.0
        self.ids: list[int] = []
        self.reason = ""

    def require_time(self) -> None:
        """Raise DeadlineExceeded once the request's time is over."""
        allowed = self._request.deadline_s
        if allowed is not None and time.perf_counter() > self._began + allowed:
            raise DeadlineExceeded(
                f"the deadline passed after {len(self.ids)} tokens of the answer, which is not complete; allow more "
                "time with deadline_s, or lower max_tokens"
            )

    def take(self, id: int, logits: NDArray[np.float32] | None = None, *, is_complete: bool = False) -> Chunk:
        """The text that the next token adds.   logits: the model's own (vocab,), where they are to be told.

        is_complete: whether the answer matches its constraint, and nothing could be added.
        """
        self._first_token = self._first_token or time.perf_counter()
        self.ids.append(id)
        row = None if logits is None else log_softmax(logits)
        info = token_info(self._tokenizer, id, row, self._request.options.logprobs or 0)
        if id in self._stop_ids:
            self.reason, self._stop = "stop", info.text
            return Chunk(self._rest(), tokens=(info,))
        text = self._stops.push(self._detokenizer.push(id))
        if is_complete or len(self.ids) == self._limit:
            self.reason = "stop" if is_complete else "length"
            text += self._rest()
        if self._stops.matched is not None:
            self.reason, self._stop = "stop", self._stops.matched
        return Chunk(text, tokens=(info,))

    def end(self, reason: str) -> Chunk:
        """What was held back, of an answer that the runtime ended."""
        self.reason = reason
        return Chunk(self._rest())

    def finished(self) -> Finished:
        """The event that ends it."""
        now = time.perf_counter()
        timing = Timing((self._first_token or now) - self._began, now - self._began)
        return Finished(0, self.reason, Usage(self._n_prompt, len(self.ids)), timing, self._stop)

    def _rest(self) -> str:
        return self._stops.push(self._detokenizer.flush()) + self._stops.flush()
