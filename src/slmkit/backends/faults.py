"""What services in OpenAI's manner refuse, as our errors, each with a way out."""

from __future__ import annotations

from collections.abc import Callable

from slmkit.backends.http import Judge, Refusal, Server
from slmkit.errors import (
    AccessDenied,
    Busy,
    ContextExceeded,
    DeadlineExceeded,
    ModelNotFound,
    ModelRetired,
    RequestError,
    RuntimeFailure,
    SlmError,
)

CONTEXT_CODE = "context_length_exceeded"
_OF_CONTEXT = ("maximum context length", "the prompt has ", "longer than the context", "exceeds the context")


def judge(
    model: str, hint: str, own: Callable[[Server, Refusal], SlmError | None] = lambda server, refusal: None
) -> Judge:
    """How refusals of requests for a model are told.

    hint: where the key is from, or was looked for.   own: what a service says in a way of its own; None for all else.
    """

    def judged(server: Server, refusal: Refusal) -> SlmError:
        return own(server, refusal) or of_status(server, refusal, model, hint)

    return judged


def of_status(server: Server, refusal: Refusal, model: str, hint: str) -> SlmError:
    """By the status, and by the words that tell what it does not."""
    status, text = refusal.status, refusal.text or f"status {refusal.status}"
    if status == 401:
        return AccessDenied(f"{server} wants a key that it knows ({text}); {hint}")
    if status == 403:
        return AccessDenied(f"{server} does not allow that ({text}); {hint}")
    if status == 404:
        return ModelNotFound(
            f"{server} has no {model} ({text}); check the name, and that the address ends as it should"
        )
    if status == 410:
        return ModelRetired(f"{server} has given {model} up ({text}); use another model, or run this one here")
    if status == 413:
        return RequestError(f"{server} does not take a request that large ({text}); shorten it, or give smaller images")
    if status in (429, 503):
        pause = refusal.retry_after_s
        return Busy(f"{server} has too much to do ({text}); ask again later", 1.0 if pause is None else pause)
    if status == 408:
        return DeadlineExceeded(f"{server} gave up ({text}); ask for less, or again")
    if 300 <= status < 400:
        return RuntimeFailure(f"{server} does not answer itself ({text}); give the address that it names")
    if status < 500:
        return ContextExceeded(text) if is_of_context(refusal) else RequestError(f"{server} refuses: {text}")
    return RuntimeFailure(f"{server} failed ({text}); ask again later")


def is_of_context(refusal: Refusal) -> bool:
    """Whether prompt and answer do not fit; few services have a code for it."""
    return refusal.code == CONTEXT_CODE or is_text_of_context(refusal.text)


def is_text_of_context(text: str) -> bool:
    """The same, by the words alone."""
    return any(words in text for words in _OF_CONTEXT) or ("exceed" in text and "context" in text)
