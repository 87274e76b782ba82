"""Log probabilities of tokens as chats report them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from slmkit.events import Chunk, Finished, Logprob, TokenInfo

LEAST = -9999.0  # what OpenAI writes for what is as good as impossible


class AnswerTokens:
    """The tokens whose text an answer has: no stop token, none of a stop string, and each when its text comes."""

    def __init__(self) -> None:
        self._held: list[TokenInfo] = []
        self._is_first = True

    def of(self, chunk: Chunk) -> list[TokenInfo]:
        """Those whose text comes with this chunk."""
        self._held += chunk.tokens
        if not chunk.text:
            return []
        # a control token at the end may be the one that ends the answer
        end = max((n for n, token in enumerate(self._held, 1) if token.data), default=0)
        tokens, self._held = self._held[:end], self._held[end:]
        if self._is_first and tokens:
            self._is_first = False
            tokens[0] = without_first_space(tokens[0], chunk.text)
        return tokens

    def rest(self, finished: Finished) -> list[TokenInfo]:
        """What is left of an answer that was cut off."""
        return self._held if finished.reason == "length" else []


def without_first_space(token: TokenInfo, text: str) -> TokenInfo:
    """The first token of a text: its space may only be the mark of a word's beginning."""
    is_mark = token.data.startswith(b" ") and not text.startswith(" ")
    return replace(token, data=token.data[1:]) if is_mark else token


def content(tokens: Iterable[TokenInfo]) -> list[dict[str, Any]]:
    """The list that stands under `logprobs.content`."""
    return [{**_entry(token), "top_logprobs": [_entry(other) for other in token.top]} for token in tokens]


def bounded(logprob: float | None) -> float:
    """A number that JSON has."""
    return LEAST if logprob is None else max(logprob, LEAST)


def _entry(token: TokenInfo | Logprob) -> dict[str, Any]:
    data = token.data or token.text.encode()
    return {"token": data.decode("utf-8", "replace"), "logprob": bounded(token.logprob), "bytes": list(data)}
