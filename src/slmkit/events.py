"""What a backend yields while it answers: Started, PromptRead if asked, Chunks, and one Finished for each choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Logprob:
    """One token with its natural-log probability under the model, before any penalty or filter.

    id: -1 where a server does not tell it.
    text: the vocabulary's own spelling, such as `▁Hello` or `<0x0A>`; "" for an id without one. A server may have
        spaces and characters in it.
    data: the bytes that it adds to a text; b"" for a control token, which adds none.
    """

    id: int
    text: str
    logprob: float
    data: bytes = b""


@dataclass(frozen=True)
class TokenInfo:
    """One token: its id, its log probability and, if asked for, the likeliest alternatives.

    id, text, data: as Logprob's.
    """

    id: int
    text: str
    logprob: float | None = None
    top: tuple[Logprob, ...] = ()
    data: bytes = b""


@dataclass(frozen=True)
class Usage:
    """Tokens read and written for one choice; cached_tokens of the prompt were not computed again.

    drafted_tokens: guessed ahead of the answer and checked.   accepted_tokens: those of them that became part of it.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Timing:
    """Seconds spent, from the moment the engine took the request."""

    first_token_s: float
    total_s: float


@dataclass(frozen=True)
class Started:
    """The request was accepted; the prompt has this many tokens, 0 where a server does not tell yet."""

    prompt_tokens: int


@dataclass(frozen=True)
class PromptRead:
    """The prompt's tokens with their log probabilities, each given those before it; the first one has none."""

    tokens: tuple[TokenInfo, ...]


@dataclass(frozen=True)
class Chunk:
    """New text of choice `index`. Text holds whole characters only and may be empty while tokens are held back."""

    text: str
    index: int = 0
    tokens: tuple[TokenInfo, ...] = ()


@dataclass(frozen=True)
class Finished:
    """Choice `index` is complete.

    reason: "stop" (a stop id or stop string) or "length" (max_tokens, or the context is full). A request that is
        cancelled or fails ends without a Finished.
    stop: the stop string or the text of the stop token that ended it, if any.
    score: for beams and scorers, the value the choices are ranked by.
    """

    index: int
    reason: str
    usage: Usage
    timing: Timing
    stop: str | None = None
    score: float | None = None


Event = Started | PromptRead | Chunk | Finished


@dataclass
class Choice:
    """One answer. Its reason is Finished's, or "cancelled" if it was never finished."""

    text: str = ""
    reason: str = "cancelled"
    tokens: list[TokenInfo] = field(default_factory=list)
    stop: str | None = None
    score: float | None = None
    usage: Usage = Usage(0, 0)
    timing: Timing = Timing(0.0, 0.0)

    def __str__(self) -> str:
        return self.text


@dataclass
class Answer:
    """What a request gave: one choice, or several, the best first where beams or a scorer rank them.

    prompt: its tokens with their log probabilities, where those were asked for.
    """

    choices: list[Choice]
    prompt: tuple[TokenInfo, ...] = ()

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text

    def __str__(self) -> str:
        return self.text


def collect(events: Iterator[Event]) -> Answer:
    """Run a request to its end.

    Where a score ranks the choices, the best comes first; equal ones stay in the order of their index.
    """
    choices: dict[int, Choice] = {}
    prompt: tuple[TokenInfo, ...] = ()
    for event in events:
        if isinstance(event, Started):
            continue
        if isinstance(event, PromptRead):
            prompt = event.tokens
            continue
        choice = choices.setdefault(event.index, Choice())
        if isinstance(event, Chunk):
            choice.text += event.text
            choice.tokens += event.tokens
        else:
            choice.reason, choice.stop, choice.score = event.reason, event.stop, event.score
            choice.usage, choice.timing = event.usage, event.timing
    ranked = [choices[i] for i in sorted(choices)]
    if any(c.score is not None for c in ranked):
        ranked.sort(key=lambda c: -(c.score if c.score is not None else float("-inf")))
    return Answer(ranked, prompt)
